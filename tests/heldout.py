"""The rows that training held out, as the API takes them, and what the fitted pipeline predicts for them."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Label = bool | int | str
PROBABILITY = 1e-4
os.environ.setdefault("TRAIN_HOLDOUT", "true")  # what trains the projects for these rows inherits it


class HeldOut(NamedTuple):
    """One held-out row with the pipeline's prediction; a regression's value is the label, without probabilities."""

    row: dict[str, Any]
    label: Label | float
    probabilities: dict[str, float]


def held_out(project: Path) -> list[HeldOut]:
    """The rows of a trained project's `reports/holdout.csv`, typed as its `contract.yaml` says."""
    contract = yaml.safe_load((project / "contract.yaml").read_text(encoding="utf-8"))
    columns: dict[str, dict[str, Any]] = contract["columns"]
    (target,) = [column for column in columns.values() if column["role"] == "target"]
    classes = target["categories"] if contract["task"] == "classification" else []
    with (project / "reports/holdout.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    return [_held_out(dict(zip(head, row, strict=True)), row[-1 - len(classes) :], columns, classes) for row in rows]


def _held_out(
    texts: Mapping[str, str],
    predicted: Sequence[str],
    columns: Mapping[str, Mapping[str, Any]],
    classes: Sequence[Label],
) -> HeldOut:
    features = {name: column for name, column in columns.items() if column["role"] == "feature"}
    row = {name: _value(texts[name], column) for name, column in features.items()}
    if not classes:
        return HeldOut(row, float(predicted[0]), {})
    keys = [_spelled(label) for label in classes]
    numbers = [float(text) for text in predicted[1:]]
    return HeldOut(row, dict(zip(keys, classes, strict=True))[predicted[0]], dict(zip(keys, numbers, strict=True)))


def _value(text: str, column: Mapping[str, Any]) -> Any:
    """A CSV field as JSON has it; dates stay ISO 8601 text."""
    if text == "" and column["missing"]:
        return None
    if column["type"] in ("integer", "number"):
        return float(text)
    if column["type"] == "boolean":
        return {"true": True, "false": False}[text]
    if column["type"] == "category":
        return {_spelled(label): label for label in column["categories"]}.get(text, text)
    return text


def _spelled(label: Label) -> str:
    """A label in CSV files and as a key of the API's probabilities."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def differences(expected: Sequence[HeldOut], predictions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the API's predictions are not those of the pipeline, one line each."""
    assert len(expected) == len(predictions)
    pairs = enumerate(zip(expected, predictions, strict=True))
    return [f"row {number}: {one} {other}" for number, (one, other) in pairs if not _same(one, other)]


def _same(expected: HeldOut, prediction: Mapping[str, Any]) -> bool:
    if "value" in prediction:
        value = float(expected.label)
        return bool(abs(prediction["value"] - value) <= PROBABILITY * max(abs(value), 1))
    numbers: dict[str, float] = prediction["probabilities"]
    return (
        (type(prediction["label"]), prediction["label"]) == (type(expected.label), expected.label)
        and numbers.keys() == expected.probabilities.keys()
        and all(abs(number - expected.probabilities[key]) <= PROBABILITY for key, number in numbers.items())
    )
