"""From raw columns to columns of the contract's types, and which cells break the contract.

Training, batch scoring and the inference of a contract read the same value from the same cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from .contract import FLOAT32_MAX, ISO_MOMENT, TEXT_LIMIT, Column, Contract, label_text

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "-", "?", "<NA>", "#N/A")
BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
NAIVE_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
QUOTED = 40  # characters of a value that is shown
FIRST_YEAR = 1_000  # of a format: a year of two digits is no year


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


def clean(series: pl.Series) -> pl.Series:
    """A column with every missing value as null; text loses the blanks around it."""
    if series.dtype == pl.String:
        stripped = series.str.strip_chars()
        return stripped.set(stripped.is_in(MISSING), None)
    return series.fill_nan(None) if series.dtype.is_float() else series


def typed(contract: Contract, table: pl.DataFrame) -> Typed:
    """Give each feature its type, and mark the rows that the contract refuses."""
    columns, rejected, breaks = [], pl.repeat(False, table.height, dtype=pl.Boolean, eager=True), {}
    for name, column in contract.features.items():
        values, bad = typed_column(column, table[name])
        columns.append(values)
        rejected = rejected | bad
        if broken := int(bad.sum()):
            breaks[name] = broken, _quoted(table[name].filter(bad).head(1))
    target = contract.target
    if target in table.columns:
        columns.append(typed_column(contract.columns[target], table[target])[0])
    return Typed(pl.DataFrame(columns), rejected, breaks)


def _quoted(one: pl.Series) -> str:
    """A value as a message shows it. As text, because Python has no dates after 9999."""
    value = (one.cast(pl.String) if one.dtype.is_temporal() else one)[0]
    return "no value" if value is None else repr(value if isinstance(value, str) else str(value))[:QUOTED]


def typed_column(column: Column, raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """One column with its type, and for each row whether it breaks the contract (its value is then null)."""
    present = clean(raw)
    values = _parsed(column, present)
    allowed = _allowed(column, values).fill_null(False)
    bad = present.is_not_null() & ~allowed
    if not column.missing:
        bad = bad | present.is_null()
    return values.set(~allowed, None).alias(raw.name), bad


def _parsed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in ("integer", "number"):
        return _numbers(values)
    if column.type == "boolean":
        return booleans(values)
    if column.type == "category":
        return texts(values)
    read = moments(values, column.format)
    return days(read) if column.type == "date" else read


def _numbers(values: pl.Series) -> pl.Series:
    if values.dtype.is_temporal():
        return pl.repeat(None, values.len(), dtype=pl.Float64, eager=True)
    return values.cast(pl.Float64, strict=False)


def booleans(values: pl.Series) -> pl.Series:
    """True and false in any of the spellings of `BOOLEANS`; null where it is none of them."""
    if values.dtype == pl.Boolean:
        return values
    return texts(values).str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)


def texts(values: pl.Series) -> pl.Series:
    """Labels as text, whole numbers without a decimal point, as `contract.label_text` writes them."""
    if not values.dtype.is_float():
        return values.cast(pl.String)
    whole = values.cast(pl.Int64, strict=False).set(values != values.floor(), None)
    return whole.cast(pl.String).zip_with(whole.is_not_null(), values.cast(pl.String))


def moments(values: pl.Series, format: str | None) -> pl.Series:
    """Moments in UTC without a zone; null where the text is no date or time of the format."""
    if values.dtype == pl.String:
        read = values.str.strptime(pl.Datetime("us"), format, strict=False) if format else _iso(values)
    elif isinstance(values.dtype, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if values.dtype.time_zone else values
        read = utc.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    elif values.dtype == pl.Date:
        read = values.cast(pl.Datetime("us"))
    else:
        return pl.repeat(None, values.len(), dtype=pl.Datetime("us"), eager=True)
    return read.set(~read.dt.year().is_between(FIRST_YEAR if format else 1, 9999), None)


def _iso(values: pl.Series) -> pl.Series:
    """Moments from text of the form `ISO_MOMENT`."""
    text = pl.col("value").str.replace("[Tt]", " ").str.replace("[Zz]", "+00:00")
    naive = [text.str.strptime(pl.Datetime("us"), format, strict=False) for format in NAIVE_FORMATS]
    zoned = [text.str.strptime(pl.Datetime("us", "UTC"), format, strict=False) for format in ZONED_FORMATS]
    readings = [*naive, *(reading.dt.replace_time_zone(None) for reading in zoned)]
    shaped = values.set(~values.str.contains(f"^(?:{ISO_MOMENT})$"), None)
    return shaped.to_frame("value").select(pl.coalesce(readings)).to_series()


def days(moments: pl.Series) -> pl.Series:
    """The dates of moments at midnight; null for any other time of day."""
    return moments.set(moments != moments.dt.truncate("1d"), None).dt.date()


def _allowed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in ("integer", "number"):
        lowest, highest = column.range or (-FLOAT32_MAX, FLOAT32_MAX)
        inside = values.is_between(lowest, highest)
        return inside & (values == values.floor()) if column.type == "integer" else inside
    if column.type == "category" and not column.other:
        return values.is_in([label_text(label) for label in column.categories])
    if column.type == "category":
        return values.str.len_chars() <= TEXT_LIMIT
    return values.is_not_null()


def number(value: str) -> float | str:
    """The text as a number where a table file's number is written so."""
    read: float | None = _numbers(pl.Series([value]))[0]
    return value if read is None else read
