"""Train: data and contract in; a checked model file, metrics and a report out.

    make train

The steps are split, fit, evaluate, export, compare (the parity gate), and only then write.
"""

from __future__ import annotations

import json
import platform
import subprocess
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from . import columns, data, evaluate, export, schema
from .contract import Contract, label_text
from .encode import Matrix, encode_rows, encode_table, layout
from .errors import UserError

Step = Callable[[str], AbstractContextManager[None]]

LIBRARIES = ("numpy", "polars", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")
SMALLEST_TABLE = 20
QUANTILES = np.linspace(0, 1, 11)
SHOWN_BREAKS = 5


@dataclass(frozen=True)
class Table:
    """Rows ready for learning.

    Attributes:
        rows: features with the contract's types.
        matrix: the same, encoded, float32 of shape (rows, matrix columns).
        target: class positions (int64) or values (float64), shape (rows,).
        left_out: how many rows of the file were not usable, by reason.
    """

    rows: pl.DataFrame
    matrix: Matrix
    target: NDArray[Any]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Outcome:
    """A training that passed all its checks.

    Attributes:
        pipeline: the fitted pipeline.
        model: the bytes of the model file.
        version: the version that these bytes carry.
        scores: of the model on the held-out rows, by name.
        baseline: of always predicting the majority class or the mean.
        parity: how closely the graph agrees with the pipeline.
        held_out: the held-out rows.
        train_rows: how many rows were learned from.
        left_out: how many rows of the file were not usable, by reason.
        source: the file.
        data_sha256: its digest.
        git_commit: the commit of the code, as `git_commit` gives it.
    """

    pipeline: Pipeline
    model: bytes
    version: str
    scores: dict[str, float]
    baseline: dict[str, float]
    parity: export.Parity
    held_out: Table
    train_rows: int
    left_out: Mapping[str, int]
    source: Path
    data_sha256: str
    git_commit: str


def train(contract: Contract, path: Path, seed: int, test_size: float, step: Step) -> Outcome:
    """Train on the file; nothing is written.

    Args:
        seed: of the split and the estimator; the same seed gives the same model, byte for byte.
        test_size: the share of rows to hold out.
        step: opens a named step, to show progress.

    Raises:
        UserError: the table does not fit the contract or is too small, or the model cannot be exported faithfully.
    """
    with step(f"read {path}"):
        table = load_table(contract, path)
    train_rows, test_rows = split(table.target, contract.task, test_size, seed)
    held_out = _rows(table, test_rows)
    with step(f"fit pipeline.py on {len(train_rows):,} rows"):
        pipeline = _fit(contract, table.matrix[train_rows], table.target[train_rows], seed)
    with step(f"evaluate on {len(test_rows):,} held-out rows"):
        scores = score(contract.task, pipeline, held_out)
        baseline = score(contract.task, _dummy(contract.task, table, train_rows), held_out)
    with step("export to ONNX"):
        graph = export.convert(pipeline, table.matrix.shape[1])
    with step("compare the exported model with the pipeline (parity gate)"):
        scale = float(np.std(table.target)) if contract.task == "regression" else 1.0
        parity = export.check_parity(graph, pipeline, held_out.matrix, scale)
        example = _check_rows(contract, held_out)
    metadata = _metadata(contract, path, table, train_rows, scores, example)
    model, version = export.with_metadata(graph, metadata)
    return Outcome(
        pipeline=pipeline,
        model=model,
        version=version,
        scores=scores,
        baseline=baseline,
        parity=parity,
        held_out=held_out,
        train_rows=len(train_rows),
        left_out=table.left_out,
        source=path,
        data_sha256=metadata["data_sha256"],
        git_commit=metadata["git_commit"],
    )


# --- rows


def load_table(contract: Contract, path: Path) -> Table:
    """Read the file's features and target; rows that the contract refuses are left out and counted.

    Raises:
        UserError: a column is missing, or too few rows are left.
    """
    raw = data.read(path, [*contract.features, contract.target])
    typed = columns.typed(contract, raw)
    target = typed.table[contract.target]
    usable = ~typed.rejected & target.is_not_null()
    left_out = _left_out(typed, target)
    rows = typed.table.filter(usable)
    if rows.height < SMALLEST_TABLE:
        lost = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise UserError(
            f"{path}: {rows.height:,} usable rows of {raw.height:,} are too few to learn from, at least "
            f"{SMALLEST_TABLE} are needed{f' (left out: {lost})' if lost else ''}"
        )
    features = rows.select(list(contract.features))
    return Table(features, encode_table(contract, features), _codes(contract, rows[contract.target], path), left_out)


def _left_out(typed: columns.Typed, target: pl.Series) -> dict[str, int]:
    """How many rows cannot be learned from, by reason; the columns that break the contract most are named."""
    worst = sorted(typed.breaks.items(), key=lambda pair: -pair[1][0])[:SHOWN_BREAKS]
    named = ", ".join(f"{name} in {count:,}, as {value}" for name, (count, value) in worst)
    found = {
        "without a usable target": int(target.is_null().sum()),
        f"against the contract ({named})": int((typed.rejected & target.is_not_null()).sum()),
    }
    return {reason: count for reason, count in found.items() if count}


def _codes(contract: Contract, target: pl.Series, path: Path) -> NDArray[Any]:
    if contract.task == "regression":
        return target.cast(pl.Float64).to_numpy()
    labels = [label_text(label) for label in contract.classes]
    codes = target.replace_strict(labels, range(len(labels)), return_dtype=pl.Int64).to_numpy()
    absent = [label for code, label in enumerate(labels) if code not in set(codes.tolist())]
    if absent:
        raise UserError(
            f"{path}: no row of class {', '.join(map(repr, absent))}; take it out of the categories of "
            f"{contract.target!r} in contract.yaml, or add rows"
        )
    return codes


def split(target: NDArray[Any], task: str, test_size: float, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row positions for training and for evaluation, stratified by class.

    Classes too rare to be in both parts stay in training, so that the model knows every class.
    """
    rows = np.arange(len(target))
    if task == "regression":
        if min(len(rows) * test_size, len(rows) * (1 - test_size)) < 1:
            raise UserError(f"too few rows to hold out {test_size:g} of {len(rows):,}: change [train] test_size")
        train_rows, test_rows = train_test_split(rows, test_size=test_size, random_state=seed)
        return np.sort(train_rows), np.sort(test_rows)
    counts = np.bincount(target)
    needed = max(1 / test_size, 1 / (1 - test_size), 2)
    common = counts[target] >= needed
    classes = len(np.unique(target[common]))
    if min(common.sum() * test_size, common.sum() * (1 - test_size)) < max(classes, 1):
        raise UserError(f"too few rows for {len(counts)} classes: each needs {int(np.ceil(needed))} or more rows")
    train_rows, test_rows = train_test_split(
        rows[common], test_size=test_size, random_state=seed, stratify=target[common]
    )
    return np.sort(np.concatenate([train_rows, rows[~common]])), np.sort(test_rows)


def _rows(table: Table, rows: NDArray[Any]) -> Table:
    return Table(table.rows[rows.tolist()], table.matrix[rows], table.target[rows], {})


# --- fit and score


def _fit(contract: Contract, matrix: Matrix, target: NDArray[Any], seed: int) -> Pipeline:
    # What a person wrote in pipeline.py may raise anything.
    try:
        from .pipeline import build_pipeline
    except Exception as error:
        raise UserError(f"pipeline.py cannot be imported: {_words(error)}") from error
    try:
        # Threads add numbers up in any order: one thread gives the same model every time.
        with threadpool_limits(limits=1):
            pipeline: Pipeline = build_pipeline(contract.task, layout(contract), seed).fit(matrix, target)
    except Exception as error:
        raise UserError(f"pipeline.py cannot be fitted: {_words(error)}") from error
    if contract.task == "classification" and not hasattr(pipeline, "predict_proba"):
        raise UserError("pipeline.py: its estimator gives no probabilities (predict_proba); use one that does")
    return pipeline


def _words(error: Exception) -> str:
    """What was raised, and in which line of pipeline.py, as far as it is known."""
    frames = traceback.extract_tb(error.__traceback__)
    pipeline = str(Path(__file__).with_name("pipeline.py"))
    lines = [frame.lineno for frame in frames if frame.filename == pipeline]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def _dummy(task: str, table: Table, train_rows: NDArray[Any]) -> Any:
    """The trivial baseline: the majority class with the shares of the classes, or the mean."""
    dummy = DummyClassifier(strategy="prior") if task == "classification" else DummyRegressor(strategy="mean")
    return dummy.fit(table.matrix[train_rows], table.target[train_rows])


def score(task: str, predictor: Any, table: Table) -> dict[str, float]:
    """Scores of a fitted predictor on encoded rows."""
    predicted = predictor.predict(table.matrix)
    if task == "regression":
        return evaluate.regression_scores(table.target, predicted)
    return evaluate.classification_scores(table.target, predicted, predictor.predict_proba(table.matrix))


# --- checks and metadata


def _check_rows(contract: Contract, held_out: Table) -> dict[str, Any]:
    """Prove that held-out rows mean the same to the API as to training; returns one as the API's example."""
    rows = held_out.rows.head(1_000)
    adapter = schema.rows_adapter(contract)
    documents = [json_row(contract, row) for row in rows.to_dicts()]
    try:
        parsed = adapter.validate_json(json.dumps(documents))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = f"{first['loc'][-1]}: {first['msg']}"
        raise UserError(f"parity gate: the API would refuse a row of the table: {where}") from None
    if not np.array_equal(encode_rows(contract, parsed), held_out.matrix[: rows.height], equal_nan=True):
        raise UserError("parity gate: rows from the API are encoded differently from rows of the table")
    return max(documents, key=lambda row: sum(value is not None for value in row.values()))


def json_row(contract: Contract, row: Mapping[str, Any]) -> dict[str, Any]:
    """One typed row of a table as the JSON that the API accepts."""
    return {name: _json_value(contract, name, value) for name, value in row.items() if name in contract.features}


def _json_value(contract: Contract, name: str, value: Any) -> Any:
    column = contract.columns[name]
    if column.type == "integer" and value is not None:
        return int(value)
    if column.type == "category":
        return next((label for label in column.categories if label_text(label) == value), value)
    return value.isoformat() if column.type in ("date", "datetime") and value is not None else value


def _metadata(
    contract: Contract,
    path: Path,
    table: Table,
    train_rows: NDArray[Any],
    scores: Mapping[str, float],
    example: Mapping[str, Any],
) -> dict[str, Any]:
    learned = table.rows[train_rows.tolist()]
    return {
        "contract": contract.model_dump(mode="json", exclude_defaults=True) | {"version": contract.version},
        "metrics": scores,
        "versions": {"python": platform.python_version()} | {name: packages.version(name) for name in LIBRARIES},
        "data_sha256": data.sha256(path),
        "git_commit": git_commit(),
        "example": example,
        "baselines": {name: baseline(learned[name]) for name in contract.features},
    }


def baseline(values: pl.Series) -> dict[str, Any]:
    """The training distribution of a feature: shares of values, or deciles, and the share that is missing."""
    present = values.drop_nulls()
    summary: dict[str, Any] = {"rows": values.len(), "missing": values.null_count() / values.len()}
    if values.dtype in (pl.String, pl.Boolean):
        counts = present.cast(pl.String).value_counts().sort(present.name)
        return summary | {"shares": {label: count / values.len() for label, count in counts.rows()}}
    numbers = present.cast(pl.Datetime("us")).dt.timestamp("us") / 8.64e10 if values.dtype.is_temporal() else present
    return summary | {"deciles": np.quantile(numbers.to_numpy(), QUANTILES).tolist() if len(numbers) else []}


def git_commit() -> str:
    """The current commit, with `-dirty` when files differ from it; empty outside a git repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()
