"""From a table to a data contract: a role and a type for each column, and the reason for each choice."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl

from . import data
from .columns import BOOLEANS, booleans, clean, moments, texts
from .contract import FLOAT32_MAX, Column, Contract, Kind, Task
from .errors import UserError

MAX_CATEGORIES = 50
MAX_CLASSES = 100
MAX_INTEGER_CLASSES = 10
RARE_SHARE = 0.002
KEPT_SHARE = 0.5
EMPTY_SHARE = 0.98
FREE_TEXT_WORDS = 4
ID_NAME = re.compile(
    r"(^|[\W_])(id|ids|key|uuid|guid|index|row|nr|no)$|^(id|uuid|guid)([\W_]|$)|[a-z]Id$", re.IGNORECASE
)
NEGATIVE_LABELS = ("0", "0.0", "-1", "-1.0", "no", "n", "false", "f", "negative", "off")
DATE_FORMATS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y-%m-%d", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d %b %Y", "%b %d, %Y"),
)
TIMES = ("", " %H:%M", " %H:%M:%S")
FORMATS = (None, *(date + time for date in DATE_FORMATS for time in TIMES))


def infer(path: Path, target: str, task: Task | None = None) -> Contract:
    """The contract of a file, with `target` as the column to predict.

    Args:
        task: what to learn; decided from the target's values when None.

    Raises:
        UserError: the file cannot be read, the target is unknown or cannot be learned, or no column is usable.
    """
    table = data.read(path)
    if table.height == 0:
        raise UserError(f"{path} has a header but no rows")
    if target not in table.columns:
        raise UserError(f"{path} has no column {target!r}; it has {', '.join(map(repr, table.columns))}")
    known = pl.DataFrame([clean(column) for column in table])
    learnable = known.filter(known[target].is_not_null())
    if learnable.height == 0:
        raise UserError(f"target {target!r} has no value in any row")
    others = [name for name in table.columns if name != target]
    columns = {name: _explained(feature(learnable[name]), table[name], known[name]) for name in others}
    if not any(column.role == "feature" for column in columns.values()):
        raise UserError(f"{path} has no usable feature: {_reasons(columns)}")
    goal, chosen = _target(learnable[target], task)
    goal = goal.model_copy(update={"reason": goal.reason + _spelled_missing(table[target], known[target])})
    ordered = {name: goal if name == target else columns[name] for name in table.columns}
    return Contract(version=1, data=path.as_posix(), task=chosen, columns=ordered)


def _reasons(columns: dict[str, Column]) -> str:
    return "; ".join(f"{name}: {column.reason}" for name, column in columns.items()) or "the target is its only column"


def _explained(column: Column, raw: pl.Series, known: pl.Series) -> Column:
    """A category says which words were taken for missing values: they might have been categories."""
    words = _spelled_missing(raw, known) if column.type == "category" else ""
    return column.model_copy(update={"reason": column.reason + words}) if words else column


# --- the target


def _spelled_missing(raw: pl.Series, known: pl.Series) -> str:
    """The words that were taken for missing values: a class of that name would have disappeared."""
    gone = raw.filter(known.is_null() & raw.is_not_null())
    words = sorted(set(gone.str.strip_chars()) - {""}) if gone.dtype == pl.String else []
    return f"; {', '.join(map(repr, words))} read as missing in {gone.len():,} rows" if words else ""


def _target(values: pl.Series, task: Task | None) -> tuple[Column, Task]:
    distinct = values.n_unique()
    if distinct == 1:
        raise UserError(f"target {values.name!r} is always {values[0]!r}: there is nothing to learn")
    numbers = _numbers(values)
    if task == "regression" and numbers is None:
        raise UserError(f"target {values.name!r} is not numeric, so it cannot be a regression")
    if task == "classification" or numbers is None or (task is None and _few_integers(numbers)):
        return _classes(values, distinct), "classification"
    kind: Kind = "integer" if _whole(numbers) else "number"
    if kind == "integer" and distinct == numbers.len() and _identifier(numbers, values.name):
        raise UserError(f"target {values.name!r} is identifier-like, a different number in each row: choose another")
    return Column(
        role="target", type=kind, reason=f"numeric, {_span(numbers)}, {distinct:,} different values"
    ), "regression"


def _few_integers(numbers: pl.Series) -> bool:
    return _whole(numbers) and numbers.n_unique() <= MAX_INTEGER_CLASSES


def _classes(values: pl.Series, distinct: int) -> Column:
    if distinct > MAX_CLASSES:
        raise UserError(
            f"target {values.name!r} has {distinct:,} different values, too many classes (at most {MAX_CLASSES}); "
            "choose another target"
        )
    by_count = _counts(values)
    if (rarest := min(by_count.values())) < 2:
        rare = next(label for label, count in by_count.items() if count == rarest)
        raise UserError(f"target {values.name!r}: class {rare!r} has a single row; a class needs two or more")
    labels = _ordered(by_count)
    shares = ", ".join(f"{label} {by_count[label] / values.len():.1%}" for label in labels[:5])
    return Column(
        role="target",
        type="category",
        categories=_labels(values, labels),
        reason=f"{distinct} classes: {shares}{', ...' if distinct > 5 else ''}",
    )


def _counts(values: pl.Series) -> dict[str, int]:
    """How often each label occurs, the most frequent first; equally frequent ones in order of their names."""
    counts = texts(values).value_counts(name="rows")
    labels: list[str] = counts[values.name].to_list()
    return dict(sorted(zip(labels, counts["rows"].to_list(), strict=True), key=lambda pair: (-pair[1], pair[0])))


def _ordered(by_count: dict[str, int]) -> list[str]:
    """Sorted labels; of two, the positive one last: by its meaning where that is plain, else the rarer one."""
    labels = sorted(by_count, key=_natural)
    if len(labels) == 2:
        negative = [label for label in labels if label.lower() in NEGATIVE_LABELS]
        first = negative[0] if len(negative) == 1 else max(labels, key=lambda label: by_count[label])
        labels.sort(key=lambda label: label != first)
    return labels


def _natural(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def _labels(values: pl.Series, texts: list[str]) -> tuple[bool | int | str, ...]:
    """Labels as JSON should show them: booleans and plain integers as such, the rest as text."""
    if values.dtype == pl.Boolean:
        return tuple(text == "true" for text in texts)
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,14})", text) for text in texts):
        return tuple(int(text) for text in texts)
    return tuple(texts)


# --- the features


def feature(values: pl.Series) -> Column:
    """How a column is understood, nulls being missing values: the first reading that fits all its values."""
    rows, present = values.len(), values.drop_nulls()
    unusable = _unusable(present, rows)
    if unusable:
        return Column(role="ignored", reason=unusable)
    missing = present.len() < rows
    readings: tuple[Callable[[pl.Series], Column | None], ...] = (_boolean, _numeric, _temporal, _category)
    column = next(column for reading in readings if (column := reading(present)) is not None)
    if column.role == "ignored":
        return column
    note = f", missing in {(rows - present.len()) / rows:.1%}" if missing else ""
    return column.model_copy(update={"missing": missing, "reason": column.reason + note})


def _unusable(present: pl.Series, rows: int) -> str | None:
    if isinstance(present.dtype, (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Duration, pl.Time, pl.Object)):
        return f"unsupported: values of type {present.dtype}"
    if present.len() == 0:
        return "empty: no value in any row"
    if present.len() < rows * (1 - EMPTY_SHARE):
        return f"nearly empty: a value in only {present.len():,} of {rows:,} rows"
    if present.n_unique() == 1:
        return f"constant: always {present[0]!r}"
    return None


def _boolean(present: pl.Series) -> Column | None:
    if present.dtype != pl.Boolean and not (
        present.dtype == pl.String and present.str.to_lowercase().is_in([k for k in BOOLEANS if k not in "10"]).all()
    ):
        return None
    true = booleans(present).to_numpy().mean()
    return Column(role="feature", type="boolean", reason=f"true in {true:.1%}")


def _numeric(present: pl.Series) -> Column | None:
    numbers = _numbers(present)
    if numbers is None:
        return None
    distinct, whole, infinite = numbers.n_unique(), _whole(numbers), present.len() - numbers.len()
    if numbers.cast(pl.Float32).n_unique() == 1:
        return Column(role="ignored", reason=f"constant for float32, which the model computes in: {_span(numbers)}")
    if whole and distinct == present.len() and _identifier(numbers, present.name):
        return Column(
            role="ignored", reason=f"identifier-like: {distinct:,} different numbers in {present.len():,} rows"
        )
    kind: Kind = "integer" if whole else "number"
    note = f", infinite in {infinite:,} rows, which are refused" if infinite else ""
    reason = f"{distinct:,} different numbers, {_span(numbers)}{note}"
    return Column(role="feature", type=kind, range=_generous(numbers), reason=reason)


def _identifier(numbers: pl.Series, name: str) -> bool:
    lowest, highest = _edges(numbers)
    consecutive = highest - lowest == numbers.len() - 1
    return bool(consecutive and numbers.len() > MAX_CATEGORIES) or bool(ID_NAME.search(name))


def _numbers(values: pl.Series) -> pl.Series | None:
    """The finite values as float64, or None when any value is no number or none is finite."""
    if not (values.dtype == pl.String or values.dtype.is_numeric()):
        return None
    if values.dtype == pl.String and values.str.contains(r"^[+-]?0\d").any():
        return None  # leading zeros: a code, not a quantity
    numbers = values.cast(pl.Float64, strict=False)
    finite = numbers.filter(numbers.abs() <= FLOAT32_MAX)
    return None if numbers.null_count() or finite.len() == 0 else finite


def _whole(numbers: pl.Series) -> bool:
    return bool((numbers == numbers.floor()).all())


def _span(numbers: pl.Series) -> str:
    lowest, highest = _edges(numbers)
    return f"from {lowest:,.10g} to {highest:,.10g}"


def _edges(numbers: pl.Series) -> tuple[float, float]:
    values = numbers.to_numpy()
    return float(values.min()), float(values.max())


def _generous(numbers: pl.Series) -> tuple[float, float]:
    """The range to accept: what was seen, widened by its own width to both sides.

    It does not cross zero where all values lie on one side of it; a column of 0 and 1 stays [0, 1].
    The edges are rounded outwards to two significant digits of the width.
    """
    lowest, highest = _edges(numbers)
    if (lowest, highest) == (0.0, 1.0) and _whole(numbers):
        return (lowest, highest)
    width = highest - lowest
    unit = max(10.0 ** (math.floor(math.log10(width)) - 1), math.ulp(0.0))
    if _whole(numbers):
        unit = max(unit, 1.0)
    low = max(min(_rounded(lowest - width, unit, math.floor), lowest), -FLOAT32_MAX)
    high = min(max(_rounded(highest + width, unit, math.ceil), highest), FLOAT32_MAX)
    return (max(low, 0.0) if lowest >= 0 else low, min(high, 0.0) if highest <= 0 else high)


def _rounded(edge: float, unit: float, rounding: Callable[[float], int]) -> float:
    ratio = edge / unit
    return float(f"{rounding(ratio) * unit:.12g}") if math.isfinite(ratio) else edge


def _temporal(present: pl.Series) -> Column | None:
    for format in FORMATS if present.dtype == pl.String else (None,):
        read = moments(present, format)
        if read.null_count() == 0:
            midnight = (read == read.dt.truncate("1d")).all()
            first, *_, last = read.sort().dt.date()
            reason = f"{'dates' if midnight else 'moments'} from {first} to {last}{_day_first(present, format)}"
            return Column(role="feature", type="date" if midnight else "datetime", format=format, reason=reason)
    return None


def _day_first(present: pl.Series, format: str | None) -> str:
    """What to say of 01/02/2024, which half of the world reads the other way round."""
    if not format or not format.startswith(("%d/%m", "%d-%m")):
        return ""
    other = f"%m{format[2]}%d{format[5:]}"
    return f", the day first (or {other}?)" if moments(present, other).null_count() == 0 else ""


def _category(present: pl.Series) -> Column:
    counts, rows = _counts(present), present.len()
    if present.dtype == pl.String and len(counts) > MAX_CATEGORIES:
        if present.str.count_matches(r"\s+").to_numpy().mean() >= FREE_TEXT_WORDS - 1:
            return Column(role="ignored", reason=f"free text: {len(counts):,} different values, several words each")
        if len(counts) > 0.9 * rows:
            return Column(role="ignored", reason=f"identifier-like: {len(counts):,} different values in {rows:,} rows")
    common = [label for label, count in counts.items() if count >= max(2, RARE_SHARE * rows)][:MAX_CATEGORIES]
    if sum(counts[label] for label in common) < KEPT_SHARE * rows:
        return Column(role="ignored", reason=f"too many categories: {len(counts):,} in {rows:,} rows")
    categories: list[str] = sorted(common, key=_natural)
    rare = len(counts) - len(common)
    note = f", {rare:,} rare ones taken together as other" if rare else ""
    return Column(
        role="feature",
        type="category",
        categories=tuple(categories),
        other=rare > 0,
        reason=f"{len(counts):,} categories{note}",
    )
