"""How one column of a table is understood as a feature: the first reading that fits all its values, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import polars as pl

from tabserve.contract.model import FLOAT32_MAX, LONGEST, Column, Kind
from tabserve.discovery.formats import (
    UNKNOWN,
    Habits,
    Number,
    day_first,
    moment_spelling,
    number_spelling,
    time_spelling,
)
from tabserve.tables.parsing import BOOLEANS, booleans, moments, numbers, texts, times

MAX_CATEGORIES = 50
RARE_SHARE = 0.002
KEPT_SHARE = 0.5
EMPTY_SHARE = 0.98
TEXT_WORDS = 4  # on average, of what is text and no category
MAX_WORDS_FOR_MISSING = 5
SHARE_OF_NUMBERS = 0.9
ID_NAME = re.compile(
    r"(^|[\W_])(id|ids|key|uuid|guid|row|nr|no)$|^index$|^(id|uuid|guid)([\W_]|$)|[a-z]Id$|^Unnamed: \d+$|^column_\d+$",
    re.IGNORECASE,
)
YEAR_NAME = re.compile(r"year|jahr|année|año", re.IGNORECASE)
CODE_NAME = re.compile(r"(^|[\W_])(code|codes|zip|zipcode|postcode|plz)$|[a-z]Code$", re.IGNORECASE)
UNSUPPORTED = (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Duration, pl.Object)
Reading = Callable[[pl.Series, Habits], Column | None]


def feature(values: pl.Series, habits: Habits = UNKNOWN, sampled: bool = False) -> Column:
    """How a column is understood, nulls being missing values.

    Args:
        habits: how the table writes what is ambiguous.
        sampled: whether there are more rows than these, so that there may be more categories.
    """
    rows, present = values.len(), values.drop_nulls()
    unusable = _unusable(present, rows)
    if unusable:
        return Column(role="ignored", reason=unusable)
    missing = present.len() < rows
    readings: tuple[Reading, ...] = (_boolean, _compact_date, _numeric, _temporal, _time, mostly_numbers, _category)
    column = next(column for reading in readings if (column := reading(present, habits)) is not None)
    if column.role == "ignored":
        return column
    note = f", missing in {(rows - present.len()) / rows:.1%}" if missing else ""
    changes = {"missing": missing or column.missing, "reason": column.reason + note}
    if sampled and column.type == "category":
        changes["other"] = True
    return column.model_copy(update=changes)


def _unusable(present: pl.Series, rows: int) -> str | None:
    if isinstance(present.dtype, UNSUPPORTED):
        return f"unsupported: values of type {present.dtype}"
    if present.len() == 0:
        return "empty: no value in any row"
    if present.len() < rows * (1 - EMPTY_SHARE):
        return f"nearly empty: a value in only {present.len():,} of {rows:,} rows"
    if present.n_unique() == 1:
        return f"constant: always {short(present[0])}"
    return None


def short(value: object, most: int = 60) -> str:
    """A value as a reason shows it."""
    shown = repr(value)
    return shown if len(shown) <= most else f"{shown[:most]}..."


def _boolean(present: pl.Series, habits: Habits) -> Column | None:
    if present.dtype != pl.Boolean and not (
        present.dtype == pl.String and present.str.to_lowercase().is_in([k for k in BOOLEANS if k not in "10"]).all()
    ):
        return None
    true = booleans(present).to_numpy().mean()
    return Column(role="feature", type="boolean", reason=f"true in {true:.1%}")


# --- numbers


def _numeric(present: pl.Series, habits: Habits) -> Column | None:
    if present.dtype == pl.String:
        spelling = number_spelling(present, habits)
    else:
        spelling = Number() if present.dtype.is_numeric() else None
    return _number(present, spelling) if spelling else None


def _number(present: pl.Series, spelling: Number) -> Column | None:
    values = finite(numbers(present, spelling.format, spelling.unit))
    if values is None:
        return None
    distinct, whole, infinite = values.n_unique(), is_whole(values), present.len() - values.len()
    if values.cast(pl.Float32).n_unique() == 1:
        return Column(role="ignored", reason=f"constant for float32, which the model computes in: {span(values)}")
    if whole and distinct == present.len() and is_identifier(values, present.name):
        return Column(
            role="ignored", reason=f"identifier-like: {distinct:,} different numbers in {present.len():,} rows"
        )
    if whole and spelling == Number() and CODE_NAME.search(present.name):
        return _category(texts(present), UNKNOWN, "codes, by the name of the column")
    kind: Kind = "integer" if whole else "number"
    note = f", infinite in {infinite:,} rows, which are refused" if infinite else ""
    written = f", written as {present[0]!r}" if spelling != Number() else ""
    return Column(
        role="feature",
        type=kind,
        range=generous(values),
        format=spelling.format,
        unit=spelling.unit,
        reason=f"{distinct:,} different numbers, {span(values)}{note}{written}",
    )


def mostly_numbers(present: pl.Series, habits: Habits) -> Column | None:
    """Numbers, but for a few words that can only mean that there is none, as `unknown` or `error`."""
    if present.dtype != pl.String:
        return None
    is_number = present.str.contains(r"\d")
    wordy = present.filter(~is_number)
    if not 0 < wordy.len() <= present.len() * (1 - SHARE_OF_NUMBERS) or wordy.n_unique() > MAX_WORDS_FOR_MISSING:
        return None
    column = _numeric(present.filter(is_number), habits)
    if column is None or column.role == "ignored":
        return column
    words = sorted(set(wordy.to_list()))
    said = f"{column.reason}; {', '.join(map(repr, words))} in {wordy.len():,} rows taken as missing"
    return column.model_copy(update={"na_values": tuple(words), "missing": True, "reason": said})


def finite(values: pl.Series) -> pl.Series | None:
    """The finite values, or None when any value is no number or none is finite."""
    kept = values.filter(values.abs() <= FLOAT32_MAX)
    return None if values.null_count() or kept.len() == 0 else kept


def is_identifier(values: pl.Series, name: str) -> bool:
    """Whether different whole numbers are a count of the rows, or are named like an identifier."""
    lowest, highest = _edges(values)
    consecutive = highest - lowest == values.len() - 1 and not YEAR_NAME.search(name)
    return bool(consecutive and values.len() > MAX_CATEGORIES) or bool(ID_NAME.search(name))


def is_whole(values: pl.Series) -> bool:
    """Whether no number has a fraction."""
    return bool((values == values.floor()).all())


def span(values: pl.Series) -> str:
    """The lowest and the highest number, in words."""
    lowest, highest = _edges(values)
    return f"from {lowest:,.10g} to {highest:,.10g}"


def _edges(values: pl.Series) -> tuple[float, float]:
    array = values.to_numpy()
    return float(array.min()), float(array.max())


def generous(values: pl.Series) -> tuple[float, float]:
    """The range to accept: what was seen, widened by its own width to both sides.

    It does not cross zero where all values lie on one side of it; a column of 0 and 1 stays [0, 1].
    The edges are rounded outwards to two significant digits of the width.
    """
    lowest, highest = _edges(values)
    if (lowest, highest) == (0.0, 1.0) and is_whole(values):
        return (lowest, highest)
    width = highest - lowest
    unit = max(10.0 ** (math.floor(math.log10(width)) - 1), math.ulp(0.0))
    if is_whole(values):
        unit = max(unit, 1.0)
    low = max(min(_rounded(lowest - width, unit, math.floor), lowest), -FLOAT32_MAX)
    high = min(max(_rounded(highest + width, unit, math.ceil), highest), FLOAT32_MAX)
    return (max(low, 0.0) if lowest >= 0 else low, min(high, 0.0) if highest <= 0 else high)


def _rounded(edge: float, unit: float, rounding: Callable[[float], int]) -> float:
    ratio = edge / unit
    return float(f"{rounding(ratio) * unit:.12g}") if math.isfinite(ratio) else edge


# --- dates and times


def _compact_date(present: pl.Series, habits: Habits) -> Column | None:
    """Dates as 20241231, which would pass for numbers."""
    spelling = moment_spelling(present.unique(), habits) if _eight_digits(present) else None
    return _moment(present, spelling[0]) if spelling else None


def _eight_digits(present: pl.Series) -> bool:
    if present.dtype == pl.String:
        return bool(present.str.contains(r"^(19|20)\d{6}$").all())
    return bool(present.dtype.is_integer() and present.cast(pl.Int128).is_between(19000101, 20991231).all())


def _temporal(present: pl.Series, habits: Habits) -> Column | None:
    spelling = moment_spelling(present.unique(), habits)
    return _moment(present, spelling[0]) if spelling else None


def _moment(present: pl.Series, format: str | None) -> Column | None:
    read = moments(present, format)
    if read.null_count():
        return None
    midnight = (read == read.dt.truncate("1d")).all()
    first, *_, last = read.dt.date().sort()
    reason = f"{'dates' if midnight else 'moments'} from {first} to {last}{day_first(present, format)}"
    if format and "%y" in format:
        reason += ", years of two digits read as 1970 to 2069"
    return Column(role="feature", type="date" if midnight else "datetime", format=format, reason=reason)


def _time(present: pl.Series, habits: Habits) -> Column | None:
    spelling = time_spelling(present)
    if spelling is None:
        return None
    first, *_, last = times(present, spelling[0]).sort()
    reason = f"times of day from {first:%H:%M} to {last:%H:%M}"
    return Column(role="feature", type="time", format=spelling[0], reason=reason)


# --- words


def _category(present: pl.Series, habits: Habits, why: str = "") -> Column:
    labels = counts(present)
    rows = present.len()
    if present.dtype == pl.String and len(labels) > MAX_CATEGORIES:
        if _words(present) >= TEXT_WORDS:
            return _text(present, len(labels))
        if len(labels) > 0.9 * rows:
            return Column(role="ignored", reason=f"identifier-like: {len(labels):,} different values in {rows:,} rows")
    fewest = max(2, RARE_SHARE * rows)
    common: list[str] = [label for label, count in labels.items() if count >= fewest][:MAX_CATEGORIES]
    if sum(labels[label] for label in common) < KEPT_SHARE * rows:
        return Column(role="ignored", reason=f"too many categories: {len(labels):,} in {rows:,} rows")
    ordered: list[str] = sorted(common, key=natural)
    rare = len(labels) - len(common)
    note = f", {rare:,} rare ones taken together as other" if rare else ""
    return Column(
        role="feature",
        type="category",
        categories=tuple(ordered),
        other=rare > 0,
        reason=f"{why or f'{len(labels):,} categories'}{note}",
    )


def _words(present: pl.Series) -> float:
    """How many words a value has on average."""
    return float((present.str.count_matches(r"\s+") + 1).to_numpy().mean())


def _text(present: pl.Series, distinct: int) -> Column:
    if (longest := int(present.str.len_chars().to_numpy().max())) > LONGEST["text"]:
        return Column(role="ignored", reason=f"text of up to {longest:,} characters, more than {LONGEST['text']:,}")
    reason = f"text: {distinct:,} different values of {_words(present):.0f} words on average; counts of hashed words"
    return Column(role="feature", type="text", reason=reason)


def counts(values: pl.Series) -> dict[str, int]:
    """How often each label occurs, the most frequent first; equally frequent ones in order of their names."""
    table = texts(values).value_counts(name="\0rows")
    labels: list[str] = table[values.name].to_list()
    return dict(sorted(zip(labels, table["\0rows"].to_list(), strict=True), key=lambda pair: (-pair[1], pair[0])))


def natural(label: str) -> tuple[int, float, str]:
    """A key that sorts numbers by size, before words."""
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)
