"""The model is good enough, knows the rows that you know, and belongs to contract.yaml."""

import json
from pathlib import Path
from typing import Any

import pytest

from tabserve.contract import file as contract_file
from tabserve.inference.model import Model
from tabserve.settings import TrainSettings, load

# Yours: bounds of scores on the held-out rows, by their names in reports/metrics.json.
LEAST: dict[str, float] = {}  # {"roc_auc": 0.9}
MOST: dict[str, float] = {}  # {"mae": 12.5}

# Yours: whole rows, and the label that each must get, or the value to 5%.
KNOWN: list[tuple[dict[str, Any], Any]] = []  # [({"age": 57, ...}, "yes")], with all features

FEW = 20  # held-out rows; scores of fewer say little


def test_contract_yaml_is_the_one_of_the_model(model: Model) -> None:
    now = contract_file.load(Path("contract.yaml"))
    assert contract_file.differences(model.contract, now) == [], "changed since the training: run `make train`"


def test_the_scores_are_good_enough(model: Model) -> None:
    report = json.loads((load(TrainSettings).reports / "metrics.json").read_text(encoding="utf-8"))
    scores = report["metrics"]
    assert report["model_version"] == model.version, "the report is of another model: run `make train`"
    assert report["better_than_baseline"] or report["held_out_rows"] < FEW, "no score beats the trivial baseline"
    assert {name: scores[name] for name, least in LEAST.items() if scores[name] < least} == {}
    assert {name: scores[name] for name, most in MOST.items() if scores[name] > most} == {}


def test_the_example_gets_a_prediction(model: Model, row: dict[str, Any]) -> None:
    (prediction,) = model.predict([row])
    if model.contract.task == "regression":
        assert set(prediction) == {"value"}
    else:
        assert prediction["label"] in model.contract.classes
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_rows_with_known_answers(model: Model) -> None:
    for row, answer in KNOWN:
        (prediction,) = model.predict([row])
        assert prediction.get("label", prediction.get("value")) == (
            answer if "label" in prediction else pytest.approx(answer, rel=0.05)
        ), row
