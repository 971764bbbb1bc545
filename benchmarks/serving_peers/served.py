"""For the peers of serving.py: the trained model behind a function from rows to answers, as JSON has them.

Nothing is validated: rows are taken for what the contract says. The encoding is the project's own. Which project and
model is said by environment variables, because some peers start processes of their own.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Answer = dict[str, Any]
FOLDER = Path(os.environ["SERVED_FOLDER"])
PACKAGE = os.environ["SERVED_PACKAGE"]


def loaded() -> Callable[[Sequence[Row]], list[Answer]]:
    """The function for the model that the environment names: the scikit-learn pipeline, or the ONNX graph."""
    return graph() if os.environ["SERVED_MODEL"] == "onnx" else pipeline()


def graph() -> Callable[[Sequence[Row]], list[Answer]]:
    """From the project's model file, through the code that its own server runs."""
    model = project("inference.model").load(FOLDER / "model.onnx")
    encoder = Encoder(model.contract)

    def answers(rows: Sequence[Row]) -> list[Answer]:
        found = model.run(encoder(rows))
        labels = None if found.labels is None else found.labels.tolist()
        return described(model.contract, labels, found.numbers.tolist())

    return answers


def pipeline() -> Callable[[Sequence[Row]], list[Answer]]:
    """Rows become a data frame, as usual with scikit-learn, and its pipeline predicts."""
    pandas, steps = import_module("pandas"), import_module("joblib").load(FOLDER / "pipeline.joblib")
    contract = steps[0].func.contract

    def answers(rows: Sequence[Row]) -> list[Answer]:
        table = pandas.DataFrame(rows)
        if contract.task == "regression":
            return described(contract, None, [[value] for value in steps.predict(table).tolist()])
        found = steps.predict_proba(table)
        return described(contract, found.argmax(axis=1).tolist(), found.tolist())

    return answers


def described(contract: Any, labels: list[int] | None, numbers: list[list[float]]) -> list[Answer]:
    """The answers for some rows, from the positions of their classes and their probabilities, or from their values."""
    if labels is None:
        return [{"value": value} for (value,) in numbers]
    names = [project("contract.model").label_text(label) for label in contract.classes]
    return [
        {"label": contract.classes[label], "probabilities": dict(zip(names, row, strict=True))}
        for label, row in zip(labels, numbers, strict=True)
    ]


def project(module: str) -> Any:
    """A module of the project."""
    return import_module(f"tabserve.{module}")


class FrameEncoder:
    """The first step of the pipeline: from a data frame's columns to the matrix, with pandas' own means."""

    def __init__(self, contract: Any) -> None:
        self.contract = contract

    def __call__(self, table: Any) -> Any:
        """The matrix, shape (rows, matrix columns)."""
        numpy = import_module("numpy")
        blocks = [
            block for name, column in self.contract.features.items() for block in self.blocks(column, table[name])
        ]
        return numpy.column_stack(blocks).astype(numpy.float32)

    def blocks(self, column: Any, values: Any) -> list[Any]:
        """The matrix columns of one column."""
        pandas, encode = import_module("pandas"), project("contract.encoding")
        if column.type == "category":
            codes = {label: code for code, label in enumerate(column.categories, start=1)}
            return [values.map(codes).fillna(len(codes) + 1).where(values.notna(), 0)]
        if column.type in ("date", "datetime"):
            times = pandas.to_datetime(values, utc=True, format="ISO8601").dt
            days = (times.tz_localize(None) - encode.EPOCH) / pandas.Timedelta(days=1)
            parts = [days, times.month, times.dayofweek + 1]
            return [*parts, times.hour] if column.type == "datetime" else parts
        if column.type == "time":
            return [pandas.to_timedelta(values) / pandas.Timedelta(hours=1)]
        if column.type == "text":
            read = encode.row_encoder(self.contract.model_copy(update={"columns": {values.name: column}}))
            return list(read([{values.name: None if missing(value) else value} for value in values]).T)
        return [values.astype(float)]


class Encoder:
    """From rows of JSON to the matrix, through the project's own code."""

    def __init__(self, contract: Any) -> None:
        self.encode = project("contract.encoding").row_encoder(contract)
        kinds = {name: column.type for name, column in contract.features.items()}
        self.readers = {name: READERS[kind] for name, kind in kinds.items() if kind in READERS}.items()

    def __call__(self, rows: Sequence[Row]) -> Any:
        """The matrix, shape (rows, matrix columns)."""
        return self.encode([{**row, **{name: read(row.get(name)) for name, read in self.readers}} for row in rows])


def missing(value: Any) -> bool:
    """Whether there is no value: a data frame has NaN for null."""
    return value is None or value != value


def _date(value: Any) -> dt.date | None:
    return None if missing(value) else dt.date.fromisoformat(value)


def _datetime(value: Any) -> dt.datetime | None:
    if missing(value):
        return None
    time = dt.datetime.fromisoformat(value)
    return time.astimezone(dt.UTC).replace(tzinfo=None) if time.tzinfo else time


def _time(value: Any) -> dt.time | None:
    return None if missing(value) else dt.time.fromisoformat(value)


def _text(value: Any) -> Any:
    return None if missing(value) else value


def _category(value: Any) -> Any:
    if missing(value):
        return None
    return int(value) if isinstance(value, float) else value  # a data frame's column of whole numbers with gaps


READERS: dict[str, Callable[[Any], Any]] = {
    "date": _date,
    "datetime": _datetime,
    "time": _time,
    "text": _text,
    "category": _category,
}
