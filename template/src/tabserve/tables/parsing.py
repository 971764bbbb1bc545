"""How files spell values: missing ones, numbers, true and false, dates and times.

Each function reads text (or values that are typed already) into one type, with null where it cannot.
"""

from __future__ import annotations

import polars as pl

from tabserve.contract.model import COMMA, ISO_DAY, ISO_MOMENT, ISO_TIME, MISSING, POINT

BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
NAIVE_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
TIME_FORMATS = ("%H:%M:%S%.f", "%H:%M")
DAYS = ("%d", "%-d", "%e", "%j", "%F", "%D", "%x", "%c", "%v", "%s", "%+")
FIRST_YEAR = 1_000  # of a format: a year of two digits is no year


# A number as people write it: a sign or brackets for negative ones, groups of thousands, a fraction, an exponent.
# Groups are of three digits; of two in India, but for the last.
def _written(group: str, point: str) -> str:
    groups = "[" + group + r"'’ \u00a0\u202f]"
    grouped = r"[1-9]\d{0,2}(?:" + groups + r"\d{2,3})*" + groups + r"\d{3}"
    decimal, exponent = rf"(?:{point}\d*)?", r"(?:[eE][+-]?\d+)?"
    number = rf"(?:[\-−]?{grouped}{decimal}|[+\-−]?(?:\d+{decimal}|{point}\d+){exponent})"
    return rf"^(?:{number}|(?:{grouped}|\d+){decimal}-|\(-?(?:{grouped}|\d+){decimal}\))$"


WRITTEN = {POINT: _written(",", r"\."), COMMA: _written(r"\.", ",")}
ADDRESS = r"^\d{1,3}(\.\d{1,3}){3}$"  # of a computer; its parts look like groups of thousands


def clean(series: pl.Series) -> pl.Series:
    """A column with every missing value as null; text loses the blanks around it."""
    if series.dtype == pl.String:
        stripped = series.str.strip_chars()
        return stripped.set(stripped.is_in(MISSING), None)
    return series.fill_nan(None) if series.dtype.is_float() else series


def texts(values: pl.Series) -> pl.Series:
    """Labels as text, whole numbers without a decimal point, as `contract.label_text` writes them."""
    if not values.dtype.is_float():
        return values.cast(pl.String)
    whole = values.cast(pl.Int64, strict=False).set(values != values.floor(), None)
    return whole.cast(pl.String).zip_with(whole.is_not_null(), values.cast(pl.String))


def booleans(values: pl.Series) -> pl.Series:
    """True and false in any of the spellings of `BOOLEANS`."""
    if values.dtype == pl.Boolean:
        return values
    return texts(values).str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)


# --- numbers


def numbers(values: pl.Series, format: str | None = None, unit: str | None = None) -> pl.Series:
    """Numbers as float64.

    Args:
        format: `POINT` or `COMMA`, how text writes fractions and thousands; None where it is as computers write it.
        unit: what stands before or behind the number in text, and means nothing, as kg, € or %.
    """
    if values.dtype.is_temporal():
        return pl.repeat(None, values.len(), dtype=pl.Float64, eager=True)
    if values.dtype != pl.String:
        return values.cast(pl.Float64, strict=False)
    bare = without_unit(values, unit) if unit else values
    return (_plain_spelling(bare, format) if format else bare).cast(pl.Float64, strict=False)


def without_unit(values: pl.Series, unit: str) -> pl.Series:
    """The texts without the unit, and the blanks beside it; a sign may stand before the unit, brackets around both."""
    behind = values.str.replace(r"^\((.*)\)$", "-$1").str.strip_suffix(unit).str.strip_chars_end()
    signed = behind.str.starts_with("-" + unit)
    before = behind.str.strip_prefix("-").str.strip_prefix(unit).str.strip_chars_start()
    return ("-" + before).zip_with(signed, before.zip_with(behind.str.starts_with(unit), behind))


def _plain_spelling(values: pl.Series, format: str) -> pl.Series:
    """Numbers as computers write them, from those that people write; null where the text is none."""
    groups, point = (",", ".") if format == POINT else (".", ",")
    written = values.set(~values.str.contains(WRITTEN[format]) | values.str.contains(ADDRESS), None)
    bare = written.str.replace_all(rf"[{groups}'’\s\u00a0\u202f]", "").str.replace(point, ".", literal=True)
    signed = bare.str.replace("−", "-", literal=True).str.replace(r"^\((.*)\)$", "-$1")
    return signed.str.replace(r"^(.*)-$", "-$1").str.replace("--", "-", literal=True)


# --- dates and times


def moments(values: pl.Series, format: str | None = None) -> pl.Series:
    """Moments in UTC without a zone."""
    if values.dtype == pl.String:
        read = _formatted(values, format) if format else _iso(values)
    elif isinstance(values.dtype, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if values.dtype.time_zone else values
        read = utc.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    elif values.dtype == pl.Date:
        read = values.cast(pl.Datetime("us"))
    elif values.dtype.is_integer() and format == "%Y%m%d":
        read = _formatted(values.cast(pl.String), format)
    else:
        return pl.repeat(None, values.len(), dtype=pl.Datetime("us"), eager=True)
    return read.set(~read.dt.year().is_between(FIRST_YEAR if format else 1, 9999), None)


def _formatted(values: pl.Series, format: str) -> pl.Series:
    """Moments of a format; one without a day stands for the first of the month."""
    if not any(day in format for day in DAYS):
        values, format = values + " 1", format + " %d"
    if "%z" in format:
        return values.str.strptime(pl.Datetime("us", "UTC"), format, strict=False).dt.replace_time_zone(None)
    return values.str.strptime(pl.Datetime("us"), format, strict=False)


def _iso(values: pl.Series) -> pl.Series:
    """Moments from text of the form `ISO_MOMENT`; each format is tried on what is left."""
    if (plain := values.str.contains(f"^{ISO_DAY}$")).sum() == values.len() - values.null_count():
        return values.set(~plain, None).str.strptime(pl.Datetime("us"), "%Y-%m-%d", strict=False)
    left = values.set(~values.str.contains(f"^(?:{ISO_MOMENT})$"), None)
    left = left.str.replace("[Tt]", " ").str.replace("[Zz]", "+00:00")
    read = pl.repeat(None, values.len(), dtype=pl.Datetime("us"), eager=True)
    for format in (*NAIVE_FORMATS, *ZONED_FORMATS):
        left = left.set(read.is_not_null(), None)
        if left.null_count() == left.len():
            break
        zone = "UTC" if format in ZONED_FORMATS else None
        found = left.str.strptime(pl.Datetime("us", zone), format, strict=False)
        read = read.zip_with(read.is_not_null(), found.dt.replace_time_zone(None))
    return read.alias(values.name)


def days(moments: pl.Series) -> pl.Series:
    """The dates of moments at midnight; null for any other time of day."""
    return moments.set(moments != moments.dt.truncate("1d"), None).dt.date()


def times(values: pl.Series, format: str | None = None) -> pl.Series:
    """Times of day."""
    if values.dtype == pl.Time:
        return values
    if values.dtype != pl.String:
        return pl.repeat(None, values.len(), dtype=pl.Time, eager=True)
    if format:
        return values.str.strptime(pl.Time, format, strict=False)
    shaped = values.set(~values.str.contains(f"^(?:{ISO_TIME})$"), None)
    readings = [pl.col("value").str.strptime(pl.Time, format, strict=False) for format in TIME_FORMATS]
    return shaped.to_frame("value").select(pl.coalesce(readings)).to_series()
