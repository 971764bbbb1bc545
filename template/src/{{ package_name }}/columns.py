"""From raw columns to columns of the contract's types, and which cells break the contract.

Training, batch scoring and the inference of a contract read the same value from the same cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from .contract import FLOAT32_MAX, TEXT_LIMIT, Column, Contract, label_text

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "-", "?", "<NA>", "#N/A")
BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
DATETIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
)
ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")


@dataclass(frozen=True)
class Typed:
    """A table as the contract describes it.

    Attributes:
        table: feature columns, and the target where the file has it, with the contract's types;
            a cell that breaks the contract is null.
        rejected: for each row, whether any feature breaks the contract.
    """

    table: pl.DataFrame
    rejected: pl.Series


def clean(series: pl.Series) -> pl.Series:
    """A column with every missing value as null; text loses the blanks around it."""
    if series.dtype == pl.String:
        stripped = series.str.strip_chars()
        return stripped.set(stripped.is_in(MISSING), None)
    return series.fill_nan(None) if series.dtype.is_float() else series


def typed(contract: Contract, table: pl.DataFrame) -> Typed:
    """Give each feature its type, and mark the rows that the contract refuses."""
    columns, rejected = [], pl.repeat(False, table.height, dtype=pl.Boolean, eager=True)
    for name, column in contract.features.items():
        values, bad = typed_column(column, table[name])
        columns.append(values)
        rejected = rejected | bad
    target = contract.target
    if target in table.columns:
        columns.append(typed_column(contract.columns[target], table[target])[0])
    return Typed(pl.DataFrame(columns), rejected)


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
    return read.dt.date() if column.type == "date" else read


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
    if values.dtype.is_float() and (values.drop_nulls() == values.drop_nulls().floor()).all():
        values = values.cast(pl.Int64, strict=False)
    return values.cast(pl.String)


def moments(values: pl.Series, format: str | None) -> pl.Series:
    """Moments in UTC without a zone; null where the text is no date or time of the format."""
    if values.dtype == pl.String:
        formats = (format,) if format else DATETIME_FORMATS
        zoned = () if format else ZONED_FORMATS
        readings = [_moment(f) for f in formats] + [_moment(f).dt.replace_time_zone(None) for f in zoned]
        return values.to_frame("value").select(pl.coalesce(readings)).to_series()
    if isinstance(values.dtype, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if values.dtype.time_zone else values
        return utc.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us"))
    return pl.repeat(None, values.len(), dtype=pl.Datetime("us"), eager=True)


def _moment(format: str) -> pl.Expr:
    zoned = format in ZONED_FORMATS
    dtype = pl.Datetime("us", "UTC") if zoned else pl.Datetime("us")
    return pl.col("value").str.strptime(dtype, format, strict=False)


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
    """The text as a number where it is one."""
    try:
        return float(value)
    except ValueError:
        return value
