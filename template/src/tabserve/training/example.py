"""An example request of typical values, made so that it is not a row of the table."""

import datetime as dt
import itertools
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import polars as pl
from pydantic import ValidationError

from tabserve.contract import schema
from tabserve.contract.model import NUMERIC, Column, Contract, label_text

OPTIONS, TRIES = 6, 500  # values of a column, and rows, from the most typical on
RARE = 5  # rows of a category that is not shown, unless it is the most frequent one


def example(contract: Contract, rows: pl.DataFrame) -> dict[str, Any] | None:
    """A row as the API takes it, or None where every attempt is a row of the table.

    `rows` are the typed features. Numbers are rounded medians, dates the first of a month; texts are made up.
    """
    values = {name: list(_values(column, rows[name])) for name, column in contract.features.items()}
    adapter = schema.row_adapter(contract)
    for made in itertools.islice(_rows(values), TRIES):
        same = [rows[name].eq_missing(pl.Series([value], dtype=rows[name].dtype)) for name, value in made.items()]
        with suppress(ValidationError):  # a number may be one of na_values
            document = schema.json_row(contract, made)
            adapter.validate_python(document)
            if not pl.select(pl.all_horizontal(same)).to_series().any():
                return document
    return None


def _rows(values: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The most typical values, then another one for one column, then for two."""
    first = {name: options[0] for name, options in values.items()}
    yield first
    others = [(name, value) for name, options in values.items() for value in options[1:]]
    yield from (first | {name: value} for name, value in others)
    yield from (first | dict(pair) for pair in itertools.combinations(others, 2))


def _values(column: Column, values: pl.Series) -> Iterator[Any]:
    """Values that the column allows, the most typical first."""
    present = values.drop_nulls().sort()
    if present.is_empty() or column.type == "text":
        yield schema.any_value(column)
    elif column.type in NUMERIC:
        yield from itertools.islice(_rounded(column, float(present[present.len() // 2])), OPTIONS)
    elif column.type in ("boolean", "category"):
        yield from _frequent(column, present)
    else:
        yield from _months(column, present[present.len() // 2])
    if column.missing:
        yield None


def _rounded(column: Column, median: float) -> Iterator[float]:
    """The median and its neighbours with as few digits as the range allows."""
    lowest, highest = column.range or (-math.inf, math.inf)
    for digits in range(1, 17):
        unit = 10.0 ** (math.floor(math.log10(abs(median))) - digits + 1) if median else 1.0
        unit = max(unit, 1.0) if column.type == "integer" else unit
        around = [float(f"{round(median / unit + step) * unit:.{digits + 1}g}") for step in (0, 1, -1, 2, -2, 3)]
        if inside := [number for number in around if lowest <= number <= highest]:
            yield from inside
            return
    yield float(schema.any_value(column))


def _frequent(column: Column, present: pl.Series) -> Iterator[Any]:
    counts = dict(present.value_counts(sort=True).iter_rows())
    known: set[Any] = {label_text(label) for label in column.categories} or {True, False}
    labels = [label for label in counts if label in known] or [schema.any_value(column)]
    yield labels[0]
    yield from (label for label in labels[1:OPTIONS] if counts[label] > RARE)


def _months(column: Column, median: Any) -> Iterator[Any]:
    """The first of the median's month and of others, at noon; of times of day, whole hours."""
    if column.type == "time":
        yield from (dt.time((median.hour + step) % 24) for step in range(OPTIONS))
        return
    for step in range(OPTIONS):
        day = dt.date(median.year, (median.month - 1 + step) % 12 + 1, 1)
        yield day if column.type == "date" else dt.datetime.combine(day, dt.time(12))
