"""Every estimator learns both tasks from the sample, survives the parity gate and predicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.answers import choices
from tests.conftest import run
from tests.macros import exported
from tests.project.conftest import Prepared, make

LEAST = {"classification": ("roc_auc", 0.85), "regression": ("r2", 0.25)}


@pytest.mark.parametrize("task", LEAST)
@pytest.mark.parametrize("estimator", choices("estimator"))
def test_learns_and_predicts(prepared: Prepared, estimator: str, task: str, tmp_path: Path) -> None:
    project = prepared(estimator=estimator, license="MIT")
    target = {"classification": "loan_accepted", "regression": "card_spend"}[task]
    make(project, "contract", "DATA=data/loans.csv", f"TARGET={target}", "WRITE=1")
    make(project, "train")
    metrics = json.loads((project / "reports/metrics.json").read_text())
    name, least = LEAST[task]
    assert metrics["task"] == task
    assert metrics["metrics"][name] >= least > metrics["baseline"][name]
    assert metrics["parity"]["largest_difference"] <= 1e-4
    assert "4,000 rows scored" in make(project, "predict", "DATA=data/loans.csv", f"OUT={tmp_path / 'out.parquet'}")


NAMES = """
import importlib.metadata as metadata, json
print(json.dumps([name for name in metadata.packages_distributions() if not name.startswith("_")]))
"""


@pytest.mark.parametrize("estimator", choices("estimator"))
def test_no_package_may_be_called_like_a_library(prepared: Prepared, estimator: str) -> None:
    """What is installed, with all that it needs itself, is on the list that the question for the name looks at."""
    project = prepared(estimator=estimator, license="MIT")
    installed = set(json.loads(run(".venv/bin/python", "-c", NAMES, cwd=project)))
    allowed = exported("names", "libraries") + exported("names", "standard_library")
    assert {name.lower() for name in installed if name.isidentifier()} - {"loan_offers"} <= set(allowed)


def test_training_twice_gives_the_same_files(prepared: Prepared) -> None:
    project = prepared()
    results = []
    for _ in range(2):
        make(project, "train")
        results.append([(project / name).read_bytes() for name in ("model/model.onnx", "reports/metrics.json")])
    assert results[0] == results[1]
