"""Every estimator learns both tasks from the sample, survives the parity gate and predicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.answers import choices
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


def test_training_twice_gives_the_same_files(prepared: Prepared) -> None:
    project = prepared()
    results = []
    for _ in range(2):
        make(project, "train")
        results.append([(project / name).read_bytes() for name in ("model/model.onnx", "reports/metrics.json")])
    assert results[0] == results[1]
