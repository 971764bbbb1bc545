"""From raw columns to columns of the contract's types, and which cells break the contract.

Training, batch scoring and the inference of a contract read the same value from the same cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tabserve.contract.model import FLOAT32_MAX, LONGEST, MISSING, Column, Contract, label_text
from tabserve.tables.parsing import booleans, days, moments, numbers, texts, times

QUOTED = 40  # characters of a value that is shown


@dataclass(frozen=True)
class Typed:
    """A table as the contract describes it.

    Attributes:
        table: feature columns, and the target where the file has it, with the contract's types;
            a cell that breaks the contract is null.
        rejected: for each row, whether any feature breaks the contract.
        breaks: for each feature that breaks it, in how many rows, and the first of these values.
    """

    table: pl.DataFrame
    rejected: pl.Series
    breaks: dict[str, tuple[int, str]]


def typed(contract: Contract, table: pl.DataFrame) -> Typed:
    """Give each feature its type, and mark the rows that the contract refuses."""
    columns, rejected, breaks = [], pl.repeat(False, table.height, dtype=pl.Boolean, eager=True), {}
    for name, column in contract.features.items():
        values, bad = typed_column(column, table[name])
        columns.append(values)
        rejected = rejected | bad
        if broken := int(bad.sum()):
            breaks[name] = broken, quoted(table[name].filter(bad).head(1))
    target = contract.target
    if target in table.columns:
        columns.append(typed_column(contract.columns[target], table[target])[0])
    return Typed(pl.DataFrame(columns), rejected, breaks)


def quoted(one: pl.Series) -> str:
    """A value as a message shows it. As text, because Python has no dates after 9999."""
    value = (one.cast(pl.String) if one.dtype.is_temporal() else one)[0]
    return "no value" if value is None else repr(value if isinstance(value, str) else str(value))[:QUOTED]


def typed_column(column: Column, raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """One column with its type, and for each row whether it breaks the contract (its value is then null)."""
    present, values = _read(column, raw)
    allowed = _allowed(column, values).fill_null(False)
    bad = present.is_not_null() & ~allowed
    if not column.missing:
        bad = bad | present.is_null()
    return values.set(~allowed, None).alias(raw.name), bad


def _read(column: Column, raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The column with null for what means missing, and its values; most columns need no cleaning."""
    if column.type == "category" and raw.dtype == pl.String and not column.na_values:
        known = raw.is_in([label for label in column.categories if isinstance(label, str)])
        if known.sum() == raw.len() - raw.null_count():
            return raw, raw
    if column.type in ("date", "datetime", "time") and not column.na_values:
        values = _parsed(column, raw)
        if values.null_count() == raw.null_count():  # none of the usual words for a missing value is a date
            return raw, values
    present = cleaned(column, raw)
    return present, _parsed(column, present)


def cleaned(column: Column, raw: pl.Series) -> pl.Series:
    """The column with null for what means missing in it: the usual words, unless they are categories, and its own."""
    labels = [label_text(label) for label in column.categories]
    values = raw.fill_nan(None) if raw.dtype.is_float() else raw
    if raw.dtype == pl.String:
        values = raw.str.strip_chars()
        words = (*MISSING, *(value for value in column.na_values if isinstance(value, str)))
        values = values.set(values.is_in([word for word in words if word not in labels]), None)
    if own := [float(value) for value in column.na_values if not isinstance(value, (str, bool))]:
        values = values.set(numbers(values, column.format, column.unit).is_in(own).fill_null(False), None)
    return values


def _parsed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in ("integer", "number"):
        return numbers(values, column.format, column.unit)
    if column.type == "boolean":
        return booleans(values)
    if column.type == "category" and set(column.categories) == {False, True} and type(column.categories[0]) is bool:
        return texts(booleans(values))
    if column.type in ("category", "text"):
        return texts(values)
    if column.type == "time":
        return times(values, column.format)
    read = moments(values, column.format)
    return days(read) if column.type == "date" else read


def _allowed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in ("integer", "number"):
        lowest, highest = column.range or (-FLOAT32_MAX, FLOAT32_MAX)
        inside = values.is_between(lowest, highest)
        return inside & (values == values.floor()) if column.type == "integer" else inside
    if column.type == "category" and not column.other:
        return values.is_in([label_text(label) for label in column.categories])
    if column.type in ("category", "text"):
        return values.str.len_chars() <= LONGEST[column.type]
    return values.is_not_null()


def number(column: Column, value: str) -> float | str:
    """The text as a number where a table file's number is written so."""
    read: float | None = numbers(pl.Series([value]), column.format, column.unit)[0]
    return value if read is None else read
