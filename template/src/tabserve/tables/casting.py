"""Cast raw columns to the types of the contract, and find the cells that break it.

Training, batch scoring and the inference of a contract read the same value from the same cell.
"""

from dataclasses import dataclass

import polars as pl

from tabserve.contract.model import FLOAT32_MAX, LONGEST, MISSING, NUMERIC, Column, Contract, label_text
from tabserve.tables.parsing import booleans, clean, dates, numbers, texts, times, timestamps

QUOTED = 40  # characters of a value that is shown


@dataclass(frozen=True)
class Typed:
    """A table with the types of the contract."""

    table: pl.DataFrame  # features, and the target if any; null where a cell breaks the contract
    rejected: pl.Series  # for each row, whether a feature breaks the contract
    breaks: dict[str, tuple[int, str]]  # by feature, the number of rows that break it and the first value


def typed(contract: Contract, table: pl.DataFrame) -> Typed:
    """Cast features and target of a raw table, and mark the rows that break the contract."""
    columns, rejected, breaks = [], pl.repeat(False, table.height, dtype=pl.Boolean, eager=True), {}
    for name, column in contract.features.items():
        values, bad = typed_column(column, table[name])
        columns.append(values)
        rejected = rejected | bad
        if count := int(bad.sum()):
            breaks[name] = count, quoted(table[name].filter(bad).head(1))[0]
    if contract.target in table.columns:
        columns.append(typed_column(contract.columns[contract.target], table[contract.target])[0])
    return Typed(pl.DataFrame(columns), rejected, breaks)


def quoted(values: pl.Series) -> list[str]:
    """Values as messages show them; dates as text, because Python has none after 9999."""
    shown = values.cast(pl.String) if values.dtype.is_temporal() else values
    return ["no value" if value is None else repr(str(value))[:QUOTED] for value in shown.to_list()]


def typed_column(column: Column, raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A column with its type, and whether each row breaks the contract (its value is then null)."""
    present = cleaned(column, raw)
    values = _parsed(column, present)
    allowed = _allowed(column, values).fill_null(False)
    bad = present.is_not_null() & ~allowed
    if not column.missing:
        bad = bad | present.is_null()
    return values.set(~allowed, None).alias(raw.name), bad


def cleaned(column: Column, raw: pl.Series) -> pl.Series:
    """The column with null for missing values: `MISSING`, unless they are categories, and `na_values`."""
    words = {*MISSING, *(value for value in column.na_values if isinstance(value, str))}
    values = clean(raw, words - set(map(label_text, column.categories)))
    if own := [float(value) for value in column.na_values if not isinstance(value, (str, bool))]:
        values = values.set(numbers(values, column.format, column.unit).is_in(own).fill_null(False), None)
    return values


def _parsed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in NUMERIC:
        return numbers(values, column.format, column.unit)
    if column.type == "boolean":
        return booleans(values)
    if column.type == "category" and set(column.categories) == {False, True} and type(column.categories[0]) is bool:
        return texts(booleans(values))
    if column.type in ("category", "text"):
        return texts(values)
    if column.type == "time":
        return times(values, column.format)
    return (dates if column.type == "date" else timestamps)(values, column.format)


def _allowed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in NUMERIC:
        inside = values.is_between(*(column.range or (-FLOAT32_MAX, FLOAT32_MAX)))
        return inside & (values == values.floor()) if column.type == "integer" else inside
    if column.type == "category" and not column.other:
        return values.is_in([label_text(label) for label in column.categories])
    if column.type in ("category", "text"):
        return values.str.len_chars() <= LONGEST[column.type]
    return values.is_not_null()
