"""Infer a data contract from a table: a role and a type for each column, and the reason for each choice."""

import os
from collections.abc import Callable

import polars as pl

from tabserve.contract.model import Column, Contract, Task
from tabserve.discovery.features import feature, short
from tabserve.discovery.formats import conventions
from tabserve.discovery.leakage import suspects
from tabserve.discovery.target import infer_target, is_ambiguous
from tabserve.errors import UserError
from tabserve.tables import reader
from tabserve.tables.parsing import clean
from tabserve.tables.sources import Source, is_address

SAMPLE_ROWS = 200_000
SMALLEST_TABLE = 20

AskTask = Callable[[str, int], Task]


def infer(source: Source, target: str, task: Task | None = None, ask: AskTask | None = None) -> Contract:
    """The contract of a file, with `target` as the column to predict; without a task, it is inferred from its values.

    `ask` decides about an ambiguous target, from its name and its number of distinct values. Raises `UserError` if the
    file cannot be read, the target is unknown or cannot be predicted, or no column is usable.
    """
    path = os.fspath(source)
    table, rows = reader.sample(source, SAMPLE_ROWS)
    if rows == 0:
        raise UserError(f"{path} has a header but no rows")
    if target not in table.columns:
        raise UserError(f"{path} has no column {target!r}; it has {reader.shown(table.columns)}")
    cleaned = pl.DataFrame([clean(column) for column in table])
    labelled = cleaned.filter(cleaned[target].is_not_null())
    if labelled.is_empty():
        raise UserError(f"target {target!r} has no value in any row")
    if task is None and ask and is_ambiguous(labelled[target]):
        task = ask(target, labelled[target].n_unique())
    found, sampled = conventions(labelled), rows > table.height
    columns = {column.name: feature(column, found, sampled) for column in labelled if column.name != target}
    if not any(column.role == "feature" for column in columns.values()):
        raise UserError(f"{path} has no usable feature: {_reasons(columns)}")
    columns[target], chosen = infer_target(labelled[target], task, found)
    if labelled.height < SMALLEST_TABLE:
        needed = f"at least {SMALLEST_TABLE} are needed"
        raise UserError(f"{path}: {labelled.height} rows with a target are too few, {needed}")
    columns = {name: columns[name] for name in table.columns}
    for name, column in columns.items():
        if column.type == "category" or name == target:  # the words read as missing could be categories
            columns[name] = _with_note(column, _read_as_missing(table[name], cleaned[name]))
    data = path if is_address(path) else path.replace(os.sep, "/")
    contract = Contract(version=1, data=data, task=chosen, columns=columns)
    noted = {name: _with_note(columns[name], f"; {advice}") for name, advice in suspects(contract, table).items()}
    return contract.model_copy(update={"columns": columns | noted})


def _reasons(columns: dict[str, Column]) -> str:
    unusable = [f"{name}: {column.reason}" for name, column in columns.items()]
    more = f"; and {len(unusable) - 10:,} more" if len(unusable) > 10 else ""
    return "; ".join(unusable[:10]) + more or "the target is its only column"


def _with_note(column: Column, note: str) -> Column:
    return column.model_copy(update={"reason": column.reason + note})


def _read_as_missing(raw: pl.Series, cleaned: pl.Series) -> str:
    """A note on texts other than blanks that were read as missing values."""
    missing = raw.filter(cleaned.is_null() & raw.is_not_null())
    words = sorted(set(missing.str.strip_chars()) - {""}) if missing.dtype == pl.String else []
    return f"; {', '.join(map(short, words))} read as missing in {missing.len():,} rows" if words else ""
