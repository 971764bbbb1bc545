"""Detect the format of a column of text: numbers with units and thousands, dates and times."""

from dataclasses import dataclass

import polars as pl

from tabserve.contract.model import COMMA, POINT
from tabserve.tables.parsing import numbers, times, timestamps

ISO = ""  # the format of what needs none
DATES = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y"),
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%b %d %Y", "%d. %B %Y", "%d %B %Y", "%B %d, %Y"),
    *("%a, %d %b %Y", "%A, %d %B %Y", "%A, %B %d, %Y"),
)
CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S%.f", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p")
TIMESTAMPS = (
    *(f"{date}{gap}{clock}" for date in (*DATES, "%Y-%m-%d") for gap in (" ", ", ") for clock in CLOCKS),
    *("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %H:%M:%S UTC", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ"),
    *("%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z"),
)
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%b. %Y")
FORMATS = (*DATES, *TIMESTAMPS, *MONTHS)
TIME_FORMATS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p")
LONGEST = 40  # characters of a date or timestamp
SAMPLE = 1_000  # values
EARLIEST, LATEST = 1900, 2100  # years of dates that are written as plain digits
FIRST_LOOK = 40  # values that rule out most formats
SWAPPED = {"%d/%m": "%m/%d", "%d-%m": "%m-%d", "%m/%d": "%d/%m", "%m-%d": "%d-%m"}

CURRENCIES = (
    "USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|KRW|SGD|HKD|TRY|RUB"
    r"|R\$|US\$|Rs\.?|kr\.?|Fr\.?"
)
SIGN = r"[+\-−]?"
DIGITS = r"[\d.,(][\d.,'’ \u00a0\u202f]*(?:[eE][+-]?\d+)?\)?"
WITH_UNIT = (
    rf"^{SIGN}\s*(?P<before>\p{{Sc}}|{CURRENCIES})?\s*{SIGN}{DIGITS}\s*"
    r"(?P<behind>\p{Sc}|[%‰°\p{L}][\p{L}\d/²³%°.]{0,11})?$"
)


@dataclass(frozen=True)
class Conventions:
    """What the unambiguous columns of a table say about the ambiguous ones."""

    comma: bool = False  # fractions are written with a comma
    month_first: bool = False  # 01/02/2024 is the second of January


UNKNOWN = Conventions()
NumberFormat = tuple[str | None, str | None]  # format and unit, as `parsing.numbers` takes them
PLAIN: NumberFormat = (None, None)


def conventions(table: pl.DataFrame) -> Conventions:
    """The conventions of a table, from its columns of text without missing values."""
    columns = [values.drop_nulls().unique(maintain_order=True) for values in table.select(pl.col(pl.String))]
    samples = [values.head(SAMPLE) for values in columns if values.len()]
    written = [values for values in samples if values.str.contains(r"\d").all()]
    return Conventions(comma=any(map(_needs_comma, written)), month_first=any(map(_needs_month_first, written)))


def _needs_comma(values: pl.Series) -> bool:
    if not values.str.contains(",", literal=True).any():
        return False
    unit = unit_of(values)
    fits = {format: numbers(values, format, unit).null_count() == 0 for format in (None, POINT, COMMA)}
    return fits[COMMA] and not fits[None] and not fits[POINT]


def _needs_month_first(values: pl.Series) -> bool:
    if not values.str.contains(r"^\d{1,2}[/\-.]\d{1,2}[/\-.]\d{2,4}").all():
        return False
    first, second = (values.str.extract(r"^(\d{1,2})\D(\d{1,2})", group).cast(pl.Int32) for group in (1, 2))
    return bool((first <= 12).all() and (second > 12).any())


def number_format(values: pl.Series, conventions: Conventions = UNKNOWN) -> NumberFormat | None:
    """The format of these numbers; None if any text is not a number."""
    if values.str.contains(r"^[+-]?0\d").any():
        return None  # leading zeros: a code, not a quantity
    if numbers(values).null_count() == 0 and not (conventions.comma and _grouped_by_points(values)):
        return PLAIN
    unit = unit_of(values.head(SAMPLE))
    for format in (COMMA, POINT) if conventions.comma else (POINT, COMMA):
        if all(numbers(part, format, unit).null_count() == 0 for part in (values.head(SAMPLE), values)):
            needed = numbers(values, None, unit).null_count() > 0 or (format == COMMA and _grouped_by_points(values))
            return format if needed else None, unit
    return None


def _grouped_by_points(values: pl.Series) -> bool:
    return bool(values.str.contains(r"\.").any() and values.str.contains(r"^[+-]?([1-9]\d{0,2}(\.\d{3})*|0)$").all())


def unit_of(values: pl.Series) -> str | None:
    """The unit beside all numbers, as kg, € or %; None if there is none or they differ."""
    parts = values.str.replace(r"^\((.*)\)$", "-$1").str.extract_groups(WITH_UNIT).struct.unnest()
    found = parts.select(pl.concat_str("before", "behind", ignore_nulls=True)).to_series()
    units = set(found.drop_nulls()) - {""}
    if parts.drop_nulls().height or len(units) != 1:
        return None
    (unit,) = units
    share = (found == unit).sum() / values.len()
    # 5% is not 5, but 5 kg among a few bare numbers may well be.
    return unit if share == 1 or (unit not in "%‰" and share >= 0.5) else None


def timestamp_format(values: pl.Series, conventions: Conventions = UNKNOWN) -> str | None:
    """The format of these dates or timestamps, `ISO` for ISO 8601; None if any value has another."""
    if values.dtype.is_temporal():
        return ISO
    written = values.cast(pl.String) if values.dtype.is_integer() else values
    if written.dtype != pl.String:
        return None
    if written.str.contains(r"^\d{8}$").all():
        plausible = timestamps(written, "%Y%m%d").dt.year().is_between(EARLIEST, LATEST).fill_null(False)
        return "%Y%m%d" if plausible.all() else None
    if not written.str.contains(r"\d").all() or (written.str.len_chars() > LONGEST).any():
        return None
    preferred = ("%m/%d", "%m-%d") if conventions.month_first else ()
    for format in (ISO, *sorted(FORMATS, key=lambda format: not format.startswith(preferred))):
        if all(timestamps(part, format).null_count() == 0 for part in (values.head(FIRST_LOOK), values)):
            return format
    return None


def ambiguity(values: pl.Series, format: str) -> str:
    """A note on dates that could also be read with day and month swapped, as 01/02/2024."""
    if format[:5] not in SWAPPED:
        return ""
    other = SWAPPED[format[:5]] + format[5:]
    first = "day" if format.startswith("%d") else "month"
    return f", the {first} first (or {other}?)" if timestamps(values, other).null_count() == 0 else ""


def time_format(values: pl.Series) -> str | None:
    """The format of these times of day, `ISO` for ISO 8601; None if any value has another."""
    if values.dtype == pl.Time:
        return ISO
    if values.dtype != pl.String or not values.str.contains(r"^\d{1,2}:\d{2}").all():
        return None
    return next((format for format in (ISO, *TIME_FORMATS) if times(values, format).null_count() == 0), None)
