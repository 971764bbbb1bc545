"""Train: split, fit, evaluate, export, and compare (the parity gate)."""

import inspect
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from tabserve.contract import schema
from tabserve.contract.encoding import Layout, layout, row_encoder
from tabserve.contract.model import Contract, label_text
from tabserve.discovery import leakage
from tabserve.errors import UserError
from tabserve.monitoring import drift
from tabserve.references import described
from tabserve.tables import reader
from tabserve.tables.sources import Source
from tabserve.training import dataset, evaluate, export
from tabserve.training.dataset import Loaded, Table
from tabserve.training.example import example

Step = Callable[[str], AbstractContextManager[None]]  # shows a named step
Pipelines = Callable[[str, Layout, int], Mapping[str, Pipeline]]  # from task, columns and seed to unfitted pipelines

LIBRARIES = ("numpy", "polars", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")
CHECKED_CELLS = 200_000
CHECKED_ROWS = 1_000


@dataclass(frozen=True)
class Outcome:
    """A training that passed all checks."""

    pipeline: Pipeline
    model: bytes  # the bytes of the model file
    version: str
    scores: dict[str, float]  # on the held-out rows, by name
    baseline: dict[str, float]  # the same for always predicting the majority class or the mean
    parity: float  # the largest difference of probabilities, or of values in standard deviations
    suspects: Mapping[str, str]  # columns that alone predict the target perfectly, with advice
    held_out: Table
    train_rows: int
    loaded: Loaded
    source: str  # the file or the address
    data_sha256: str  # its digest
    git_commit: str


def train(
    pipelines: Pipelines,
    contract: Contract,
    source: Source,
    seed: int,
    test_size: float,
    step: Step,
    max_rows: int,
    project: str = "",
) -> Outcome:
    """Train on a file; nothing is written. The same seed gives the same model, byte for byte.

    `test_size` is the share of rows to hold out; `step` opens a named step, to show progress; of a file with more than
    `max_rows` rows, as many are drawn at random; `project` is the name in the metadata. Raises `UserError` if the table
    does not fit the contract or is too small, or the model cannot be exported faithfully.
    """
    path = os.fspath(source)
    with step(f"read {path}"):
        loaded = dataset.load(contract, source, max_rows, seed)
    train_rows, test_rows = dataset.split(contract, loaded.table, test_size, seed)
    learned, held_out = loaded.table.at(train_rows), loaded.table.at(test_rows)
    with step(f"fit pipeline.py on {len(train_rows):,} rows"):
        pipeline = _fit(pipelines, contract, learned, seed)
    with step(f"evaluate on {len(test_rows):,} held-out rows"):
        scores = score(contract.task, pipeline, held_out)
        dummy = DummyClassifier() if contract.task == "classification" else DummyRegressor()
        baseline = score(contract.task, dummy.fit(learned.matrix, learned.target), held_out)
        suspects = leakage.suspicious(contract, learned.matrix, learned.target)
    with step("export to ONNX"):
        graph = export.convert(pipeline, learned.matrix.shape[1])
    with step("compare the exported model with the pipeline (parity gate)"):
        scale = float(np.std(loaded.table.target)) if contract.task == "regression" else 1.0
        parity = export.check_parity(graph, pipeline, held_out.matrix, scale)
        _check_rows(contract, held_out)
    metadata = {"project": project} | _metadata(contract, source, learned, scores, example(contract, loaded.table.rows))
    model, version = export.with_metadata(graph, metadata)
    origin = (path, metadata["data_sha256"], metadata["git_commit"])
    results = (scores, baseline, parity, suspects)
    return Outcome(pipeline, model, version, *results, held_out, len(train_rows), loaded, *origin)


def _fit(pipelines: Pipelines, contract: Contract, learned: Table, seed: int) -> Pipeline:
    try:
        # Several threads add numbers in any order; one thread gives the same model every time.
        with threadpool_limits(limits=1):
            pipeline = _only(pipelines(contract.task, layout(contract), seed)).fit(learned.matrix, learned.target)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        code = getattr(inspect.unwrap(pipelines), "__code__", None)
        file = Path(code.co_filename) if code else None
        raise UserError(f"pipeline.py cannot be fitted: {described(error, file)}") from error
    if contract.task == "classification" and not hasattr(pipeline, "predict_proba"):
        raise UserError("pipeline.py: its estimator gives no probabilities (predict_proba); use one that does")
    return pipeline


def _only(pipelines: Mapping[str, Pipeline]) -> Pipeline:
    if not isinstance(pipelines, Mapping):
        raise UserError(f"pipeline.py: pipelines() must return {{name: pipeline}}, not a {type(pipelines).__name__}")
    if len(pipelines) != 1:
        raise UserError(f"pipeline.py: pipelines() must return one pipeline, not {len(pipelines)}")
    return next(iter(pipelines.values()))


def score(task: str, predictor: Any, table: Table) -> dict[str, float]:
    """The scores of a fitted predictor."""
    predicted = predictor.predict(table.matrix)
    if task == "regression":
        return evaluate.regression_scores(table.target, predicted)
    return evaluate.classification_scores(table.target, predicted, predictor.predict_proba(table.matrix))


def _check_rows(contract: Contract, held_out: Table) -> None:
    """Check that the API encodes held-out rows as training does."""
    rows = held_out.rows.head(max(1, min(CHECKED_ROWS, CHECKED_CELLS // held_out.rows.width)))
    documents = [schema.json_row(contract, row) for row in rows.to_dicts()]
    try:
        parsed = schema.rows_adapter(contract).validate_json(json.dumps(documents))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = f"{first['loc'][-1]}: {first['msg']}"
        raise UserError(f"parity gate: the API would reject a row of the table: {where}") from None
    if not np.array_equal(row_encoder(contract)(parsed), held_out.matrix[: rows.height], equal_nan=True):
        raise UserError("parity gate: rows from the API are encoded differently from rows of the table")


def _metadata(
    contract: Contract, source: Source, learned: Table, scores: Mapping[str, float], made: Mapping[str, Any] | None
) -> dict[str, Any]:
    values = {name: learned.rows[name] for name in contract.features}
    values[contract.target] = pl.Series(learned.target)
    if contract.task == "classification":
        labels = pl.Series([label_text(label) for label in contract.classes])
        values[contract.target] = labels.gather(learned.target)
    return {
        "contract": contract.model_dump(mode="json", exclude_defaults=True) | {"version": contract.version},
        "metrics": scores,
        "versions": {"python": platform.python_version()} | {name: packages.version(name) for name in LIBRARIES},
        "data_sha256": reader.sha256(source),
        "git_commit": git_commit(),
        "example": made,
        "baselines": {name: drift.baseline(contract.columns[name], series) for name, series in values.items()},
    }


def git_commit() -> str:
    """The current commit, `-dirty` if files differ from it; empty outside a git repository."""
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain"])
    try:
        commit, changes = (subprocess.check_output(command, stderr=subprocess.DEVNULL) for command in commands)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.decode().strip() + ("-dirty" if changes else "")
