"""Infer the contract of a feature: the first type that fits all its values, and the reason."""

import math
import re
from collections.abc import Callable

import polars as pl

from tabserve.contract.model import FLOAT32_MAX, LONGEST, Column, Kind
from tabserve.discovery import formats
from tabserve.discovery.formats import PLAIN, UNKNOWN, Conventions, NumberFormat
from tabserve.tables.parsing import BOOLEANS, booleans, numbers, texts, times, timestamps

MAX_CATEGORIES = 50
RARE_SHARE = 0.002
KEPT_SHARE = 0.5
EMPTY_SHARE = 0.98
TEXT_WORDS = 4  # on average; values with fewer are categories
MAX_WORDS_FOR_MISSING = 5
SHARE_OF_NUMBERS = 0.9
ID_NAME = re.compile(
    r"(^|[\W_])(id|ids|key|uuid|guid|row|nr|no)$|^index$|^(id|uuid|guid)([\W_]|$)|[a-z]Id$|^Unnamed: \d+$|^column_\d+$",
    re.IGNORECASE,
)
YEAR_NAME = re.compile(r"year|jahr|année|año", re.IGNORECASE)
CODE_NAME = re.compile(r"(^|[\W_])(code|codes|zip|zipcode|postcode|plz)$|[a-z]Code$", re.IGNORECASE)
UNSUPPORTED = (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Duration, pl.Object)


def feature(values: pl.Series, conventions: Conventions = UNKNOWN, sampled: bool = False) -> Column:
    """The contract of a feature, from its values with null for missing ones."""
    present = values.drop_nulls()
    if unusable := _unusable(present, values.len()):
        return _ignored(unusable)
    types = (_boolean, _compact_date, _numeric, _temporal, _time, mostly_numbers, _category)
    column = next(column for infer in types if (column := infer(present, conventions)) is not None)
    if column.role == "ignored":
        return column
    missing = values.null_count() / values.len()
    note = f", missing in {missing:.1%}" if missing else ""
    changes = {"missing": missing > 0 or column.missing, "reason": column.reason + note}
    if sampled and column.type == "category":
        changes["other"] = True  # the file may hold more categories
    return column.model_copy(update=changes)


def _ignored(reason: str) -> Column:
    return Column(role="ignored", reason=reason)


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
    """A value as reasons show it."""
    shown = repr(value)
    return shown if len(shown) <= most else f"{shown[:most]}..."


def _boolean(present: pl.Series, conventions: Conventions) -> Column | None:
    words = [word for word in BOOLEANS if word not in ("1", "0")]
    is_text = present.dtype == pl.String and present.str.to_lowercase().is_in(words).all()
    if present.dtype != pl.Boolean and not is_text:
        return None
    return Column(role="feature", type="boolean", reason=f"true in {booleans(present).to_numpy().mean():.1%}")


def numeric(present: pl.Series, conventions: Conventions) -> tuple[NumberFormat, pl.Series] | None:
    """The format of numbers and the finite ones; None if a value is not a number, or none is finite."""
    is_text = present.dtype == pl.String
    format = formats.number_format(present, conventions) if is_text else PLAIN
    if format is None or not (is_text or present.dtype.is_numeric()):
        return None
    values = numbers(present, *format)
    finite = values.filter(values.abs() <= FLOAT32_MAX)
    return None if values.null_count() or finite.is_empty() else (format, finite)


def _numeric(present: pl.Series, conventions: Conventions) -> Column | None:
    if (found := numeric(present, conventions)) is None:
        return None
    (format, unit), values = found
    distinct, whole, infinite = values.n_unique(), is_whole(values), present.len() - values.len()
    if values.cast(pl.Float32).n_unique() == 1:
        return _ignored(f"constant for float32, which the model computes in: {span(values)}")
    if whole and distinct == present.len() and is_identifier(values, present.name):
        return _ignored(f"identifier-like: {distinct:,} different numbers in {present.len():,} rows")
    if whole and found[0] == PLAIN and CODE_NAME.search(present.name):
        return _category(texts(present), conventions, "codes, by the name of the column")
    kind: Kind = "integer" if whole else "number"
    note = f", infinite in {infinite:,} rows, which are rejected" if infinite else ""
    written = f", written as {present[0]!r}" if found[0] != PLAIN else ""
    reason = f"{distinct:,} different numbers, {span(values)}{note}{written}"
    return Column(role="feature", type=kind, range=accepted_range(values), format=format, unit=unit, reason=reason)


def mostly_numbers(present: pl.Series, conventions: Conventions) -> Column | None:
    """Numbers except for a few words that can only mean missing values, as `unknown` or `error`."""
    if present.dtype != pl.String:
        return None
    is_number = present.str.contains(r"\d")
    others = present.filter(~is_number)
    words = sorted(others.unique())
    if not 0 < others.len() <= present.len() * (1 - SHARE_OF_NUMBERS) or len(words) > MAX_WORDS_FOR_MISSING:
        return None
    column = _numeric(present.filter(is_number), conventions)
    if column is None or column.role == "ignored":
        return column
    reason = f"{column.reason}; {', '.join(map(repr, words))} in {others.len():,} rows read as missing"
    return column.model_copy(update={"na_values": tuple(words), "missing": True, "reason": reason})


def is_identifier(values: pl.Series, name: str) -> bool:
    """Whether distinct whole numbers count the rows, or have the name of an identifier."""
    lowest, highest = _bounds(values)
    consecutive = highest - lowest == values.len() - 1 and not YEAR_NAME.search(name)
    return bool(consecutive and values.len() > MAX_CATEGORIES) or bool(ID_NAME.search(name))


def is_whole(values: pl.Series) -> bool:
    """Whether no number has a fraction."""
    return bool((values == values.floor()).all())


def span(values: pl.Series) -> str:
    """The lowest and the highest number, in words."""
    lowest, highest = _bounds(values)
    return f"from {lowest:,.10g} to {highest:,.10g}"


def _bounds(values: pl.Series) -> tuple[float, float]:
    array = values.to_numpy()
    return float(array.min()), float(array.max())


def accepted_range(values: pl.Series) -> tuple[float, float]:
    """The range of the values, extended by its width on both sides.

    It does not extend across zero, and [0, 1] stays. Bounds are rounded outwards to two digits of the width.
    """
    lowest, highest = _bounds(values)
    whole = is_whole(values)
    if (lowest, highest) == (0.0, 1.0) and whole:
        return (lowest, highest)
    width = highest - lowest
    unit = max(10.0 ** (math.floor(math.log10(width)) - 1), 1.0 if whole else math.ulp(0.0))
    low = max(min(_rounded(lowest - width, unit, math.floor), lowest), -FLOAT32_MAX)
    high = min(max(_rounded(highest + width, unit, math.ceil), highest), FLOAT32_MAX)
    return (max(low, 0.0) if lowest >= 0 else low, min(high, 0.0) if highest <= 0 else high)


def _rounded(bound: float, unit: float, rounding: Callable[[float], int]) -> float:
    ratio = bound / unit
    return float(f"{rounding(ratio) * unit:.12g}") if math.isfinite(ratio) else bound


def _compact_date(present: pl.Series, conventions: Conventions) -> Column | None:
    """Dates as 20241231, which could also be read as numbers."""
    digits = present.cast(pl.String) if present.dtype.is_integer() else present
    is_compact = digits.dtype == pl.String and digits.str.contains(r"^(19|20)\d{6}$").all()
    return _temporal(present, conventions) if is_compact else None


def _temporal(present: pl.Series, conventions: Conventions) -> Column | None:
    format = formats.timestamp_format(present.unique(), conventions)
    if format is None or (read := timestamps(present, format)).null_count():
        return None
    is_date = (read == read.dt.truncate("1d")).all()
    first, *_, last = read.dt.date().sort()
    reason = f"{'dates' if is_date else 'timestamps'} from {first} to {last}{formats.ambiguity(present, format)}"
    if "%y" in format:
        reason += ", years of two digits read as 1970 to 2069"
    return Column(role="feature", type="date" if is_date else "datetime", format=format or None, reason=reason)


def _time(present: pl.Series, conventions: Conventions) -> Column | None:
    if (format := formats.time_format(present)) is None:
        return None
    first, *_, last = times(present, format).sort()
    reason = f"times of day from {first:%H:%M} to {last:%H:%M}"
    return Column(role="feature", type="time", format=format or None, reason=reason)


def _category(present: pl.Series, conventions: Conventions, why: str = "") -> Column:
    labels, rows = counts(present), present.len()
    if present.dtype == pl.String and len(labels) > MAX_CATEGORIES:
        words = float((present.str.count_matches(r"\s+") + 1).to_numpy().mean())
        if words >= TEXT_WORDS:
            return _text(present, len(labels), words)
        if len(labels) > 0.9 * rows:
            return _ignored(f"identifier-like: {len(labels):,} different values in {rows:,} rows")
    fewest = max(2, RARE_SHARE * rows)
    common: list[str] = [label for label, count in labels.items() if count >= fewest][:MAX_CATEGORIES]
    if sum(labels[label] for label in common) < KEPT_SHARE * rows:
        return _ignored(f"too many categories: {len(labels):,} in {rows:,} rows")
    reason, rare = why or f"{len(labels):,} categories", len(labels) - len(common)
    if rare:
        reason += f", {rare:,} rare ones taken together as other"
    categories = tuple(sorted(common, key=natural))
    return Column(role="feature", type="category", categories=categories, other=rare > 0, reason=reason)


def _text(present: pl.Series, distinct: int, words: float) -> Column:
    if (longest := int(present.str.len_chars().to_numpy().max())) > LONGEST["text"]:
        return _ignored(f"text of up to {longest:,} characters, more than {LONGEST['text']:,}")
    reason = f"text: {distinct:,} different values of {words:.0f} words on average; counts of hashed words"
    return Column(role="feature", type="text", reason=reason)


def counts(values: pl.Series) -> dict[str, int]:
    """The number of rows of each label, the most frequent first, equals by name."""
    table = texts(values).alias("label").value_counts(name="rows")
    return dict(table.sort("rows", "label", descending=[True, False]).iter_rows())


def natural(label: str) -> tuple[int, float, str]:
    """A key that sorts numbers by size, before words."""
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)
