"""Batch scoring: a file in, the same file with predictions out, refused rows with their reasons beside it.

    make predict DATA=new.csv OUT=predictions.csv

The file is read, checked and scored in chunks, so memory stays flat however long it is. A row is checked as the
API checks it, and gets the API's answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from tabserve.contract import schema
from tabserve.contract.encoding import encode_table
from tabserve.contract.model import Contract, free_name, label_text, prediction_columns
from tabserve.errors import UserError
from tabserve.files import writable
from tabserve.inference.model import OVERFLOW, Model, Prediction, significant
from tabserve.tables import casting, reader
from tabserve.tables.sources import Source, is_address


@dataclass(frozen=True)
class Counts:
    """How many rows were scored and refused, and where the refused ones are."""

    scored: int
    rejected: int
    rejects: Path


def score_file(model: Model, source: Source, out: Path, progress: Callable[[int], None]) -> Counts:
    """Score `source` into `out`; rows that break the contract go to `<out name>.rejected.csv` with their reasons.

    Args:
        progress: called with the number of rows done after each chunk.

    Raises:
        UserError: a file cannot be read or written, or required columns are missing. Nothing is left behind then.
    """
    rejects = out.with_name(f"{out.stem}.rejected.csv")
    _check(model, source, out, rejects)
    with writable(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            good, bad = _Output(Path(folder), "good", reader.writable_kind(out)), _Output(Path(folder), "bad", "CSV")
            done = 0
            for chunk in reader.batches(source):
                scored, rejected = score_chunk(model, chunk, done)
                good.add(scored)
                bad.add(rejected)
                done += chunk.height
                progress(done)
            if not done:
                raise UserError(f"{source} has a header but no rows")
            if good.rows:
                good.finish(out)
            bad.finish(rejects) if bad.rows else rejects.unlink(missing_ok=True)
    return Counts(good.rows, bad.rows, rejects)


def absent(model: Model, source: Source) -> list[str]:
    """The features that the file does not have."""
    present = reader.names(source)
    return [name for name in model.contract.features if name not in present]


class _Output:
    """A table that grows chunk by chunk in a folder of its own, and is moved to its place when it is complete."""

    def __init__(self, folder: Path, name: str, kind: str) -> None:
        self.folder, self.name, self.kind, self.rows, self.chunks = folder, name, kind, 0, 0

    def add(self, table: pl.DataFrame) -> None:
        if self.kind == "Parquet":
            table.write_parquet(self.folder / f"{self.name}-{self.chunks:06}.parquet")
        else:
            with (self.folder / f"{self.name}.csv").open("ab") as file:
                _flat(table).write_csv(file, include_header=self.chunks == 0)
        self.rows, self.chunks = self.rows + table.height, self.chunks + 1

    def finish(self, path: Path) -> None:
        complete = self.folder / f"{self.name}.{self.kind.lower()}"
        if self.kind == "Parquet":
            pl.scan_parquet(sorted(self.folder.glob(f"{self.name}-*.parquet")), glob=False).sink_parquet(complete)
        complete.replace(path)


def _flat(table: pl.DataFrame) -> pl.DataFrame:
    """The table with what a CSV cell cannot hold (lists, structs, durations, bytes) as text."""
    odd = [
        name for name, kind in table.schema.items() if kind.is_nested() or kind in (pl.Duration, pl.Binary, pl.Object)
    ]
    texts = {name: [None if value is None else str(value) for value in table[name].to_list()] for name in odd}
    return table.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in texts.items())


def _check(model: Model, source: Source, out: Path, rejects: Path) -> None:
    present = reader.names(source)
    reader.writable_kind(out)
    if out.is_dir():
        raise UserError(f"{out} is a folder: choose a file for the predictions")
    for written in (out, rejects):
        if not is_address(source) and written.resolve() == Path(source).resolve():
            raise UserError(f"{written} is the input itself and would be overwritten: choose another file to write")
    missing = [name for name, column in model.contract.features.items() if name not in present and not column.missing]
    if missing:
        raise UserError(f"{source} lacks required columns {reader.shown(missing)}; it has {reader.shown(present)}")
    taken = [name for name in prediction_columns(model.contract) if name in present]
    if taken:
        raise UserError(f"{source} already has a column {taken[0]!r}, which predictions are written to: rename it")


def score_chunk(model: Model, chunk: pl.DataFrame, first_row: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Score some rows.

    Args:
        first_row: how many rows of the file came before.

    Returns:
        the rows with their predictions, and the refused rows with `row` (from 1, the header not counted) and `reason`;
        where the file has such a column, its own keeps the name.
    """
    absent = [name for name in model.contract.features if name not in chunk.columns]
    complete = chunk.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in absent)
    typed = casting.typed(model.contract, complete)
    prediction = model.run(encode_table(model.contract, typed.table.filter(~typed.rejected)))
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(prediction.numbers).all(axis=1))
    overflown = np.zeros(chunk.height, dtype=bool)
    overflown[~typed.rejected.to_numpy()] = ~finite
    refused = typed.rejected | pl.Series(overflown)
    why = reasons(model.contract, complete.filter(refused), typed.table.filter(refused))
    numbered = chunk.with_row_index(free_name("row", chunk.columns), offset=first_row + 1).filter(refused)
    return (
        chunk.filter(~refused).hstack(_columns(model, prediction, finite)),
        numbered.with_columns(pl.Series(free_name("reason", numbered.columns), why, dtype=pl.String)),
    )


def _columns(model: Model, prediction: Prediction, kept: NDArray[np.bool_]) -> list[pl.Series]:
    names = prediction_columns(model.contract)
    numbers = significant(prediction.numbers[kept])
    if prediction.labels is None:
        return [pl.Series(names[0], numbers[:, 0])]
    classes = model.contract.classes
    same = len({type(label) for label in classes}) == 1
    labels = pl.Series([label if same else label_text(label) for label in classes])
    probabilities = [pl.Series(name, numbers[:, i]) for i, name in enumerate(names[1:])]
    return [labels.gather(prediction.labels[kept]).alias(names[0]), *probabilities]


# --- reasons


def reasons(contract: Contract, raw: pl.DataFrame, typed: pl.DataFrame) -> list[str]:
    """Why the API would refuse each of these rows, in its words."""
    if not raw.height:
        return []
    adapter = schema.row_adapter(contract)
    # Python has no dates outside the years 1 to 9999, text has.
    written = raw.select(pl.selectors.temporal().cast(pl.String), ~pl.selectors.temporal())
    pairs = zip(written.to_dicts(), typed.to_dicts(), strict=True)
    return [_reason(adapter, contract, cells, read) for cells, read in pairs]


def _reason(
    adapter: TypeAdapter[schema.Row], contract: Contract, written: Mapping[str, Any], read: Mapping[str, Any]
) -> str:
    row = {name: value for name in contract.features if (value := _value(contract, name, written, read)) is not None}
    try:
        adapter.validate_python(row)
    except ValidationError as error:
        return "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_url=False)[:10])
    return OVERFLOW  # nothing else is left


def _value(contract: Contract, name: str, written: Mapping[str, Any], read: Mapping[str, Any]) -> Any:
    """The typed value; where there is none, the number or text that stands in the file, if any."""
    if read[name] is not None:
        value = read[name]
        labels = contract.columns[name].categories
        return next((label for label in labels if label_text(label) == value), value)
    column = contract.columns[name]
    value = casting.cleaned(column, pl.Series([written[name]]))[0]
    return casting.number(column, value) if column.type in ("integer", "number") and isinstance(value, str) else value
