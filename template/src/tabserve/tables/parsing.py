"""Parse the values of files: missing ones, numbers, booleans, dates and times.

Each function parses text, or converts values that have a type already, and gives null for what it cannot parse.
"""

from collections.abc import Collection

import polars as pl

from tabserve.contract.model import COMMA, ISO, MISSING, POINT

BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
ISO_CLOCKS = ("", " %H:%M:%S%.f", " %H:%M", " %H:%M:%S%.f%#z", " %H:%M%#z")
ISO_TIME_FORMATS = ("%H:%M:%S%.f", "%H:%M")
DAYS = ("%d", "%-d", "%e", "%j", "%F", "%D", "%x", "%c", "%v", "%s", "%+")
FIRST_YEAR = 1_000  # with a format: a smaller one is a year of two digits that %Y has read


def _number_pattern(group: str, point: str) -> str:
    # A written number: a sign, or brackets for a negative one; groups of thousands; a fraction; an exponent.
    # Groups are of three digits, in India of two except for the last.
    groups = "[" + group + r"'’ \u00a0\u202f]"
    grouped = r"[1-9]\d{0,2}(?:" + groups + r"\d{2,3})*" + groups + r"\d{3}"
    decimal, exponent = rf"(?:{point}\d*)?", r"(?:[eE][+-]?\d+)?"
    number = rf"(?:[\-−]?{grouped}{decimal}|[+\-−]?(?:\d+{decimal}|{point}\d+){exponent})"
    return rf"^(?:{number}|(?:{grouped}|\d+){decimal}-|\(-?(?:{grouped}|\d+){decimal}\))$"


NUMBER_PATTERNS = {POINT: _number_pattern(",", r"\."), COMMA: _number_pattern(r"\.", ",")}
IP_ADDRESS = r"^\d{1,3}(\.\d{1,3}){3}$"  # its parts look like groups of thousands


def clean(series: pl.Series, missing: Collection[str] = MISSING) -> pl.Series:
    """A column with null for missing values; text is stripped."""
    if series.dtype == pl.String:
        stripped = series.str.strip_chars()
        return stripped.set(stripped.is_in(missing), None)
    return series.fill_nan(None) if series.dtype.is_float() else series


def _nulls(values: pl.Series, dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
    return pl.repeat(None, values.len(), dtype=dtype, eager=True)


def texts(values: pl.Series) -> pl.Series:
    """Labels as text, whole numbers without a decimal point, as `label_text` writes them."""
    if not values.dtype.is_float():
        return values.cast(pl.String)
    whole = values.cast(pl.Int64, strict=False).set(values != values.floor(), None)
    return whole.cast(pl.String).zip_with(whole.is_not_null(), values.cast(pl.String))


def booleans(values: pl.Series) -> pl.Series:
    """True and false in any of the spellings of `BOOLEANS`."""
    if values.dtype == pl.Boolean:
        return values
    return texts(values).str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)


def numbers(values: pl.Series, format: str | None = None, unit: str | None = None) -> pl.Series:
    """Numbers as float64.

    Args:
        format: `POINT` or `COMMA`, how text writes fractions and thousands; None for numbers as computers write them.
        unit: what stands before or after the number in text and is ignored, as kg, € or %.
    """
    if values.dtype.is_temporal():
        return _nulls(values, pl.Float64)
    if values.dtype == pl.String:
        values = _without_unit(values, unit) if unit else values
        values = _plain(values, format) if format else values
    return values.cast(pl.Float64, strict=False)


def _without_unit(values: pl.Series, unit: str) -> pl.Series:
    """Texts without the unit and blanks beside it; a sign may stand before it, brackets around both."""
    bare = values.str.replace(r"^\((.*)\)$", "-$1").str.strip_suffix(unit).str.strip_chars_end()
    negative = bare.str.starts_with("-" + unit)
    number = bare.str.strip_prefix("-").str.strip_prefix(unit).str.strip_chars_start()
    return ("-" + number).zip_with(negative, number.zip_with(bare.str.starts_with(unit), bare))


def _plain(values: pl.Series, format: str) -> pl.Series:
    """Numbers as computers write them; null for other texts."""
    groups, point = (",", ".") if format == POINT else (".", ",")
    numbers = values.set(~values.str.contains(NUMBER_PATTERNS[format]) | values.str.contains(IP_ADDRESS), None)
    bare = numbers.str.replace_all(rf"[{groups}'’\s\u00a0\u202f]", "").str.replace(point, ".", literal=True)
    signed = bare.str.replace("−", "-", literal=True).str.replace(r"^\((.*)\)$", "-$1")
    return signed.str.replace(r"^(.*)-$", "-$1").str.replace("--", "-", literal=True)


def timestamps(values: pl.Series, format: str | None = None) -> pl.Series:
    """Timestamps in UTC without a zone; without a format, ISO 8601."""
    if values.dtype.is_integer() and format == "%Y%m%d":
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        if format and not any(day in format for day in DAYS):  # a month without a day is its first day
            values, format = values + " 1", format + " %d"
        read = _strptime(values, format) if format else _iso_timestamps(values)
    elif isinstance(values.dtype, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if values.dtype.time_zone else values
        read = utc.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    elif values.dtype == pl.Date:
        read = values.cast(pl.Datetime("us"))
    else:
        return _nulls(values, pl.Datetime("us"))
    return read.set(~read.dt.year().is_between(FIRST_YEAR if format else 1, 9999), None)


def _strptime(values: pl.Series, format: str) -> pl.Series:
    return values.str.strptime(pl.Datetime("us"), format, strict=False).dt.replace_time_zone(None)  # which is UTC


def _iso_timestamps(values: pl.Series) -> pl.Series:
    if (plain := values.str.contains(f"^{ISO['date']}$")).sum() == values.count():
        return _strptime(values.set(~plain, None), "%Y-%m-%d")
    left = values.set(~values.str.contains(f"^(?:{ISO['datetime']})$"), None)
    left = left.str.replace("[Tt]", " ").str.replace("[Zz]", "+00:00")
    read = _nulls(values, pl.Datetime("us"))
    for clock in ISO_CLOCKS:
        left = left.set(read.is_not_null(), None)
        if left.null_count() == left.len():
            break
        read = read.zip_with(read.is_not_null(), _strptime(left, f"%Y-%m-%d{clock}"))
    return read.alias(values.name)


def dates(values: pl.Series, format: str | None = None) -> pl.Series:
    """Dates; null for a timestamp that is not at midnight."""
    read = timestamps(values, format)
    return read.set(read != read.dt.truncate("1d"), None).dt.date()


def times(values: pl.Series, format: str | None = None) -> pl.Series:
    """Times of day; without a format, ISO 8601."""
    if values.dtype == pl.Time:
        return values
    if values.dtype != pl.String:
        return _nulls(values, pl.Time)
    if format:
        return values.str.strptime(pl.Time, format, strict=False)
    iso = values.set(~values.str.contains(f"^(?:{ISO['time']})$"), None)
    readings = [pl.col("value").str.strptime(pl.Time, format, strict=False) for format in ISO_TIME_FORMATS]
    return iso.to_frame("value").select(pl.coalesce(readings)).to_series()
