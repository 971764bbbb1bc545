"""Batch scoring: a file in, the same file with predictions out, and rejected rows with reasons beside it.

The file is read, checked and scored in batches, so memory stays flat. A row is checked as in the API, and gets the
same prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError

from tabserve.contract import schema
from tabserve.contract.encoding import encode_table
from tabserve.contract.model import Column, Contract, free_name, label_text, prediction_columns
from tabserve.errors import UserError, suggestion
from tabserve.inference.model import OVERFLOW, Model, Prediction, significant
from tabserve.outputs import discard, outputs, writable
from tabserve.tables import casting, reader
from tabserve.tables.cells import marked
from tabserve.tables.parsing import numbers
from tabserve.tables.sources import Kind, Source, is_same_file


@dataclass(frozen=True)
class Counts:
    """The number of scored and of rejected rows, and the file of the rejected ones."""

    scored: int
    rejected: int
    rejects: Path


def score_file(
    model: Model,
    source: Source,
    out: Path,
    progress: Callable[[int], None],
    writer: str,
    force: bool = False,
    raw_cells: bool = False,
) -> Counts:
    """Score `source` into `out`; rows that break the contract go to `<out name>.rejected.csv` with their reasons.

    `progress` is called with the number of rows done after each batch. Raises `UserError` if a file cannot be read or
    written, or required columns are missing; nothing is written then.
    """
    rejects, kind = out.with_name(f"{out.stem}.rejected.csv"), reader.writable_kind(out)
    with writable(out):
        _check(model, source, out, rejects)
    with outputs(out, rejects, writer=writer, force=force) as paths, writable(out):
        good, bad = _Output(paths[0], kind, raw_cells), _Output(paths[1], "CSV", raw_cells)
        for batch in reader.batches(source):
            scored, rejected = score_chunk(model, batch, good.rows + bad.rows)
            good.add(scored)
            bad.add(rejected)
            progress(good.rows + bad.rows)
        if not good.rows + bad.rows:
            raise UserError(f"{source} has a header but no rows")
        good.finish()
        bad.finish()
    if not bad.rows:
        discard(rejects, writer)
    return Counts(good.rows, bad.rows, rejects)


def absent(model: Model, source: Source) -> list[str]:
    """The features that the file does not have."""
    present = reader.names(source)
    return [name for name in model.contract.features if name not in present]


def _check(model: Model, source: Source, out: Path, rejects: Path) -> None:
    present = reader.names(source)
    if out.is_dir():
        raise UserError(f"{out} is a folder: choose a file for the predictions")
    for written in (out, rejects):
        if is_same_file(source, written):
            raise UserError(f"{written} is the input itself and would be overwritten: choose another file to write")
    if missing := [name for name in absent(model, source) if not model.contract.features[name].missing]:
        near = suggestion(missing[0], present)
        raise UserError(
            f"{source} lacks required columns {reader.shown(missing)}{near}; it has {reader.shown(present)}"
        )
    if taken := [name for name in prediction_columns(model.contract) if name in present]:
        raise UserError(f"{source} already has a column {taken[0]!r}, which predictions are written to: rename it")


class _Output:
    """A table that grows, batch by batch, and is complete when it is finished; without rows there is no file."""

    def __init__(self, path: Path, kind: Kind, raw_cells: bool) -> None:
        self.path, self.kind, self.raw_cells, self.rows, self.batches = path, kind, raw_cells, 0, 0

    def add(self, table: pl.DataFrame) -> None:
        if self.kind == "Parquet":
            table.write_parquet(self.path.with_name(f"{self.batches:06}.part"))
        else:
            with self.path.open("ab") as file:
                flat = _flat(table)
                (flat if self.raw_cells else marked(flat)).write_csv(file, include_header=self.batches == 0)
        self.rows, self.batches = self.rows + table.height, self.batches + 1

    def finish(self) -> None:
        if self.rows and self.kind == "Parquet":
            pl.scan_parquet(sorted(self.path.parent.glob("*.part")), glob=False).sink_parquet(self.path)
        elif not self.rows:
            self.path.unlink(missing_ok=True)


def _flat(table: pl.DataFrame) -> pl.DataFrame:
    """The table with text for the types that a CSV cannot hold."""
    return table.with_columns(
        pl.Series(column.name, [None if value is None else str(value) for value in column.to_list()], dtype=pl.String)
        for column in table
        if column.dtype.is_nested() or column.dtype in (pl.Duration, pl.Binary)
    )


def score_chunk(model: Model, chunk: pl.DataFrame, first_row: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows with predictions, and the rejected rows with `row` (from 1, without the header) and `reason`.

    `first_row` is the number of rows of the file before these. Columns of the file keep these names.
    """
    absent = [name for name in model.contract.features if name not in chunk.columns]
    complete = chunk.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in absent)
    typed = casting.typed(model.contract, complete)
    prediction = model.run(encode_table(model.contract, typed.table.filter(~typed.rejected)))
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(prediction.numbers).all(axis=1))
    accepted = ~typed.rejected.to_numpy()
    accepted[accepted] = finite
    rejected = pl.Series(~accepted)
    why = reasons(model.contract, complete.filter(rejected), typed.table.filter(rejected))
    numbered = chunk.with_row_index(free_name("row", chunk.columns), offset=first_row + 1).filter(rejected)
    return (
        chunk.filter(~rejected).hstack(_columns(model.contract, prediction, finite)),
        numbered.with_columns(pl.Series(free_name("reason", numbered.columns), why, dtype=pl.String)),
    )


def _columns(contract: Contract, prediction: Prediction, kept: NDArray[np.bool_]) -> list[pl.Series]:
    columns = [pl.Series(values) for values in significant(prediction.numbers[kept]).T]
    if prediction.labels is not None:
        is_mixed = len(set(map(type, contract.classes))) > 1
        labels = pl.Series([label_text(label) if is_mixed else label for label in contract.classes])
        columns.insert(0, labels.gather(prediction.labels[kept]))
    return [values.alias(name) for name, values in zip(prediction_columns(contract), columns, strict=True)]


def reasons(contract: Contract, raw: pl.DataFrame, typed: pl.DataFrame) -> list[str]:
    """The errors with which the API would reject each of these rows."""
    if raw.is_empty():
        return []
    adapter = schema.row_adapter(contract)
    # Python has no dates outside the years 1 to 9999, text has.
    written = raw.select(pl.selectors.temporal().cast(pl.String), ~pl.selectors.temporal())
    found = []
    for cells, values in zip(written.to_dicts(), typed.to_dicts(), strict=True):
        row = {name: _value(column, cells[name], values[name]) for name, column in contract.features.items()}
        try:
            adapter.validate_python({name: value for name, value in row.items() if value is not None})
            found.append(OVERFLOW)  # nothing else is left
        except ValidationError as error:
            errors = error.errors(include_url=False)[:10]
            found.append("; ".join(f"{item['loc'][0]}: {item['msg']}" for item in errors))
    return found


def _value(column: Column, cell: Any, value: Any) -> Any:
    """The typed value; if there is none, the number or text in the file, if any."""
    if value is not None:
        return schema.label_of(column, value)
    raw = casting.cleaned(column, pl.Series([cell]))
    if column.type in ("integer", "number") and raw.dtype == pl.String:
        number = numbers(raw, column.format, column.unit)[0]
        return raw[0] if number is None else number
    return raw[0]
