"""Guesses at how a column of text is spelled: numbers with units and thousands, dates and times of many formats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from tabserve.contract.model import COMMA, POINT
from tabserve.tables.parsing import moments, numbers, times

DATES = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y"),
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%b %d %Y", "%d. %B %Y", "%d %B %Y", "%B %d, %Y"),
    *("%a, %d %b %Y", "%A, %d %B %Y", "%A, %B %d, %Y"),
)
CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S%.f", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p")
MOMENTS = (
    *(f"{date}{gap}{clock}" for date in (*DATES, "%Y-%m-%d") for gap in (" ", ", ") for clock in CLOCKS),
    *("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %H:%M:%S UTC", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ"),
    *("%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z"),
)
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%b. %Y")
FORMATS = (*DATES, *MOMENTS, *MONTHS)
TIME_FORMATS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p")
FIRST_LOOK = 40  # values that rule out most formats at once
EARLIEST, LATEST = 1900, 2100  # of dates that are written as plain digits

CURRENCIES = (
    "USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|KRW|SGD|HKD|TRY|RUB"
    r"|R\$|US\$|Rs\.?|kr\.?|Fr\.?"
)
SYMBOL = r"\p{Sc}"
SIGN = r"[+\-−]?"
DIGITS = r"[\d.,(][\d.,'’ \u00a0\u202f]*(?:[eE][+-]?\d+)?\)?"
PARTED = (
    rf"^{SIGN}\s*(?P<before>{SYMBOL}|{CURRENCIES})?\s*{SIGN}{DIGITS}\s*"
    r"(?P<behind>\p{Sc}|[%‰°\p{L}][\p{L}\d/²³%°.]{0,11})?$"
)


@dataclass(frozen=True)
class Habits:
    """What the unambiguous columns of a table say about the others.

    Attributes:
        comma: fractions are written with a comma.
        month_first: 01/02/2024 is the second of January.
    """

    comma: bool = False
    month_first: bool = False


UNKNOWN = Habits()


@dataclass(frozen=True)
class Number:
    """A way to write numbers, as `spelling.numbers` takes it."""

    format: str | None = None
    unit: str | None = None


def habits(table: pl.DataFrame) -> Habits:
    """How this table writes numbers and dates, from its columns of text without missing values."""
    columns = [
        column.drop_nulls().unique(maintain_order=True).head(1_000) for column in table.select(pl.col(pl.String))
    ]
    present = [column for column in columns if column.len() and column.str.contains(r"\d").all()]
    return Habits(comma=any(map(_certainly_comma, present)), month_first=any(map(_certainly_month_first, present)))


def _certainly_comma(values: pl.Series) -> bool:
    if not values.str.contains(",", literal=True).any():
        return False
    unit = unit_of(values)
    readings = {format: numbers(values, format, unit).null_count() for format in (None, POINT, COMMA)}
    return readings[COMMA] == 0 and min(readings[None], readings[POINT]) > 0


def _certainly_month_first(values: pl.Series) -> bool:
    if not values.str.contains(r"^\d{1,2}[/\-.]\d{1,2}[/\-.]\d{2,4}").all():
        return False
    parts = values.str.extract_groups(r"^(\d{1,2})\D(\d{1,2})").struct.unnest().cast(pl.Int32)
    return bool((parts["1"] <= 12).all() and (parts["2"] > 12).any())


# --- numbers


def number_spelling(values: pl.Series, habits: Habits = UNKNOWN) -> Number | None:
    """How these texts write numbers; None when any of them is none."""
    if values.str.contains(r"^[+-]?0\d").any():
        return None  # leading zeros: a code, not a quantity
    plain = Number()
    if numbers(values).null_count() == 0 and not (habits.comma and _grouped_by_points(values)):
        return plain
    look = values.head(1_000)
    unit = unit_of(look)
    formats = (COMMA, POINT) if habits.comma else (POINT, COMMA)
    for format in formats:
        if numbers(look, format, unit).null_count() == 0 and numbers(values, format, unit).null_count() == 0:
            needed = numbers(values, None, unit).null_count() > 0 or (format == COMMA and _grouped_by_points(values))
            return Number(format if needed else None, unit)
    return None


def _grouped_by_points(values: pl.Series) -> bool:
    return bool(values.str.contains(r"\.").any() and values.str.contains(r"^[+-]?([1-9]\d{0,2}(\.\d{3})*|0)$").all())


def unit_of(values: pl.Series) -> str | None:
    """What stands beside every number alike, as kg, € or %; None when nothing does or it differs."""
    bare = values.str.replace(r"^\((.*)\)$", "-$1")
    parts = bare.str.extract_groups(PARTED).struct.unnest()
    found = parts.select(pl.concat_str("before", "behind", ignore_nulls=True)).to_series()
    both = parts["before"].is_not_null() & parts["behind"].is_not_null()
    units = set(found.drop_nulls()) - {""}
    if both.any() or len(units) != 1:
        return None
    (unit,) = units
    beside = int((found == unit).sum())
    # 5% is not 5, but 5 kg among a few bare numbers may well be.
    return unit if beside == values.len() or (unit not in "%‰" and beside >= values.len() / 2) else None


# --- dates and times


def moment_spelling(values: pl.Series, habits: Habits = UNKNOWN) -> tuple[str | None] | None:
    """The format of these dates or moments, (None,) for ISO 8601; None when any of them is neither."""
    if values.dtype != pl.String:
        digits = values.dtype.is_integer() and values.cast(pl.String).str.len_chars().eq(8).all()
        return (
            ("%Y%m%d",) if digits and _plausible(values, "%Y%m%d") else (None,) if values.dtype.is_temporal() else None
        )
    if not values.str.contains(r"\d").all() or not values.str.len_chars().max() <= 40:  # type: ignore[operator]
        return None
    if values.str.contains(r"^\d{8}$").all():
        return ("%Y%m%d",) if _plausible(values, "%Y%m%d") else None
    formats = sorted(FORMATS, key=_month_first, reverse=True) if habits.month_first else FORMATS
    return next(((format,) for format in _fitting(values, (None, *formats))), None)


def _plausible(values: pl.Series, format: str) -> bool:
    read = moments(values, format)
    return read.null_count() == 0 and bool(read.dt.year().is_between(EARLIEST, LATEST).all())


def _month_first(format: str) -> bool:
    return format.startswith(("%m/%d", "%m-%d"))


def _fitting(values: pl.Series, formats: Iterable[str | None]) -> Iterable[str | None]:
    look = values.head(FIRST_LOOK)
    for format in formats:
        if moments(look, format).null_count() == 0 and moments(values, format).null_count() == 0:
            yield format


def day_first(values: pl.Series, format: str | None) -> str:
    """What to say of 01/02/2024, which half of the world reads the other way round."""
    swapped = {"%d/%m": "%m/%d", "%d-%m": "%m-%d", "%m/%d": "%d/%m", "%m-%d": "%d-%m"}
    if not format or format[:5] not in swapped:
        return ""
    other = swapped[format[:5]] + format[5:]
    first = "day" if format.startswith("%d") else "month"
    return f", the {first} first (or {other}?)" if moments(values, other).null_count() == 0 else ""


def time_spelling(values: pl.Series) -> tuple[str | None] | None:
    """The format of these times of day, (None,) for ISO 8601; None when any of them is none."""
    if values.dtype == pl.Time:
        return (None,)
    if values.dtype != pl.String or not values.str.contains(r"^\d{1,2}:\d{2}").all():
        return None
    return next(((format,) for format in (None, *TIME_FORMATS) if times(values, format).null_count() == 0), None)
