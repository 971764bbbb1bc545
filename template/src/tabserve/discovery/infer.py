"""From a table to a data contract: a role and a type for each column, and the reason for each choice."""

from __future__ import annotations

import os
from collections.abc import Callable

import polars as pl

from tabserve.contract.model import Column, Contract, Task
from tabserve.discovery.features import feature, short
from tabserve.discovery.formats import habits
from tabserve.discovery.leakage import suspects
from tabserve.discovery.target import goal, is_doubtful
from tabserve.errors import UserError
from tabserve.tables import reader
from tabserve.tables.parsing import clean
from tabserve.tables.sources import Source, is_address

SAMPLE_ROWS = 200_000
SMALLEST_TABLE = 20


AskTask = Callable[[str, int], Task]


def infer(source: Source, target: str, task: Task | None = None, ask: AskTask | None = None) -> Contract:
    """The contract of a file, with `target` as the column to predict.

    Args:
        task: what to learn; decided from the target's values when None.
        ask: decides when only a person can know, from the target's name and how many values it has.

    Raises:
        UserError: the file cannot be read, the target is unknown or cannot be learned, or no column is usable.
    """
    path = os.fspath(source)
    table, rows = reader.sample(source, SAMPLE_ROWS)
    if rows == 0:
        raise UserError(f"{path} has a header but no rows")
    if target not in table.columns:
        raise UserError(f"{path} has no column {target!r}; it has {reader.shown(table.columns)}")
    known = pl.DataFrame([clean(column) for column in table])
    learnable = known.filter(known[target].is_not_null())
    if learnable.height == 0:
        raise UserError(f"target {target!r} has no value in any row")
    if task is None and ask and is_doubtful(learnable[target]):
        task = ask(target, learnable[target].n_unique())
    found = habits(learnable)
    sampled = rows > table.height
    columns = {
        name: _explained(feature(learnable[name], found, sampled), table[name], known[name])
        for name in table.columns
        if name != target
    }
    if not any(column.role == "feature" for column in columns.values()):
        raise UserError(f"{path} has no usable feature: {_reasons(columns)}")
    what, chosen = goal(learnable[target], task, found)
    what = what.model_copy(update={"reason": what.reason + _spelled_missing(table[target], known[target])})
    ordered = {name: what if name == target else columns[name] for name in table.columns}
    if learnable.height < SMALLEST_TABLE:
        raise UserError(
            f"{path}: {learnable.height} rows with a target are too few, at least {SMALLEST_TABLE} are needed"
        )
    contract = Contract(version=1, data=path if is_address(path) else _posix(path), task=chosen, columns=ordered)
    return _with_suspects(contract, table)


def _posix(path: str) -> str:
    return path.replace(os.sep, "/")


def _reasons(columns: dict[str, Column]) -> str:
    shown = [f"{name}: {column.reason}" for name, column in list(columns.items())[:10]]
    more = f"; and {len(columns) - 10:,} more" if len(columns) > 10 else ""
    return "; ".join(shown) + more if shown else "the target is its only column"


def _explained(column: Column, raw: pl.Series, known: pl.Series) -> Column:
    """A category says which words were taken for missing values: they might have been categories."""
    words = _spelled_missing(raw, known) if column.type == "category" else ""
    return column.model_copy(update={"reason": column.reason + words}) if words else column


def _spelled_missing(raw: pl.Series, known: pl.Series) -> str:
    gone = raw.filter(known.is_null() & raw.is_not_null())
    words = sorted(set(gone.str.strip_chars()) - {""}) if gone.dtype == pl.String else []
    return f"; {', '.join(map(short, words))} read as missing in {gone.len():,} rows" if words else ""


def _with_suspects(contract: Contract, table: pl.DataFrame) -> Contract:
    """The contract, with a word on the columns that alone predict the target perfectly."""
    marked = {name: f"{contract.columns[name].reason}; {why}" for name, why in suspects(contract, table).items()}
    columns = {
        name: column.model_copy(update={"reason": marked[name]}) if name in marked else column
        for name, column in contract.columns.items()
    }
    return contract.model_copy(update={"columns": columns})
