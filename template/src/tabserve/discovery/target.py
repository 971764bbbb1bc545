"""What is to be learned from the target: which task, which classes, and why; or why it cannot be learned."""

from __future__ import annotations

import re

import polars as pl

from tabserve.contract.model import Column, Kind, Task
from tabserve.discovery.features import (
    ID_NAME,
    UNSUPPORTED,
    counts,
    finite,
    is_identifier,
    is_whole,
    mostly_numbers,
    natural,
    short,
    span,
)
from tabserve.discovery.formats import UNKNOWN, Habits, Number, number_spelling
from tabserve.errors import UserError
from tabserve.tables.parsing import BOOLEANS, booleans, numbers

MAX_CLASSES = 100
MAX_INTEGER_CLASSES = 10
DOUBTFUL_CLASSES = range(3, 21)
FEWEST_ROWS = 2  # of a class: one to learn from, one more so that folds can be stratified
NEGATIVE_LABELS = ("0", "0.0", "-1", "-1.0", "no", "n", "false", "f", "negative", "off")


def goal(values: pl.Series, task: Task | None, habits: Habits = UNKNOWN) -> tuple[Column, Task]:
    """The target's column of the contract, and the task.

    Args:
        values: the target's values, none of them missing.
        task: what to learn; decided from the values when None.

    Raises:
        UserError: the target cannot be learned.
    """
    if isinstance(values.dtype, UNSUPPORTED) or values.dtype.is_temporal():
        raise UserError(f"target {values.name!r} holds values of type {values.dtype}: it cannot be learned")
    distinct = values.n_unique()
    if distinct == 1:
        raise UserError(f"target {values.name!r} is always {short(values[0])}: there is nothing to learn")
    if task != "classification" and distinct > MAX_CLASSES and (words := mostly_numbers(values, habits)):
        return _with_words(values, words), "regression"
    spelling = _spelling(values, habits)
    found = finite(numbers(values, spelling.format, spelling.unit)) if spelling else None
    if task == "regression" and (spelling is None or found is None):
        raise UserError(f"target {values.name!r} is not numeric, so it cannot be a regression")
    if task == "classification" or spelling is None or found is None or (task is None and _few_integers(found)):
        return _classes(values, distinct, task), "classification"
    return _quantity(values, found, spelling, task), "regression"


def is_doubtful(values: pl.Series) -> bool:
    """Whether numbers are so few and so round that they may be classes or quantities, and only a person knows."""
    spelling = _spelling(values, UNKNOWN)
    found = finite(numbers(values, spelling.format, spelling.unit)) if spelling else None
    return found is not None and is_whole(found) and found.n_unique() in DOUBTFUL_CLASSES


def _spelling(values: pl.Series, habits: Habits) -> Number | None:
    if values.dtype == pl.String:
        return number_spelling(values, habits)
    return Number() if values.dtype.is_numeric() else None


def _few_integers(values: pl.Series) -> bool:
    return is_whole(values) and values.n_unique() <= MAX_INTEGER_CLASSES


# --- regression


def _quantity(values: pl.Series, found: pl.Series, spelling: Number, task: Task | None) -> Column:
    distinct, whole = found.n_unique(), is_whole(found)
    if whole and distinct == found.len() and is_identifier(found, values.name):
        raise UserError(f"target {values.name!r} is identifier-like, a different number in each row: choose another")
    if found.cast(pl.Float32).n_unique() == 1:
        raise UserError(f"target {values.name!r} is constant for float32, which the model computes in: {span(found)}")
    kind: Kind = "integer" if whole else "number"
    few = whole and distinct in DOUBTFUL_CLASSES and task is None
    doubt = "; taken as a quantity, TASK=classification takes them as classes" if few else ""
    reason = f"numeric, {span(found)}, {distinct:,} different values{doubt}"
    return Column(role="target", type=kind, format=spelling.format, unit=spelling.unit, reason=reason)


def _with_words(values: pl.Series, found: Column) -> Column:
    """A quantity among a few words that mean that there is none."""
    if found.role == "ignored":
        raise UserError(f"target {values.name!r} is {found.reason}: choose another")
    return found.model_copy(update={"role": "target", "range": None, "missing": False})


# --- classification


def _classes(values: pl.Series, distinct: int, task: Task | None) -> Column:
    labels = _spelled_booleans(values)
    by_count = counts(labels if labels is not None else values)
    common = {label: count for label, count in by_count.items() if count >= FEWEST_ROWS}
    _check_classes(values, by_count, common)
    ordered = _ordered(common)
    shares = ", ".join(f"{label} {common[label] / values.len():.1%}" for label in ordered[:5])
    said = [
        f"{len(common)} classes: {shares}{', ...' if len(common) > 5 else ''}",
        _left_out([label for label in by_count if label not in common]),
        _doubt(values, task),
        f"{distinct} spellings read as true and false" if labels is not None else "",
    ]
    given = (False, True) if labels is not None else _labels(values, ordered)
    return Column(role="target", type="category", categories=given, reason="; ".join(filter(None, said)))


def _spelled_booleans(values: pl.Series) -> pl.Series | None:
    """True and false, where a target spells them in more than one way each, as yes, Yes and Y."""
    if values.dtype != pl.String or values.n_unique() <= 2:
        return None
    if not values.str.to_lowercase().is_in(list(BOOLEANS)).all():
        return None
    read = booleans(values)
    return read if read.n_unique() == 2 else None


def _check_classes(values: pl.Series, by_count: dict[str, int], common: dict[str, int]) -> None:
    name = values.name
    if len(by_count) > MAX_CLASSES:
        if len(by_count) > 0.9 * values.len() or ID_NAME.search(name):
            raise UserError(f"target {name!r} is identifier-like, {len(by_count):,} different values: choose another")
        raise UserError(
            f"target {name!r} has {len(by_count):,} different values, too many classes (at most {MAX_CLASSES}); "
            "choose another target"
        )
    if len(common) < 2:
        rare = short(next(label for label in by_count if label not in common))
        raise UserError(f"target {name!r}: class {rare} has a single row; at least two classes need two or more")


def _left_out(rare: list[str]) -> str:
    shown = ", ".join(map(short, rare[:3])) + (", ..." if len(rare) > 3 else "")
    return f"{len(rare)} of a single row left out: {shown}" if rare else ""


def _doubt(values: pl.Series, task: Task | None) -> str:
    doubtful = task is None and is_doubtful(values)
    return "taken as classes, TASK=regression takes them as a quantity" if doubtful else ""


def _ordered(by_count: dict[str, int]) -> list[str]:
    """Sorted labels; of two, the positive one last: by its meaning where that is plain, else the rarer one."""
    labels = sorted(by_count, key=natural)
    if len(labels) == 2:
        negative = [label for label in labels if label.lower() in NEGATIVE_LABELS]
        first = negative[0] if len(negative) == 1 else max(labels, key=lambda label: by_count[label])
        labels.sort(key=lambda label: label != first)
    return labels


def _labels(values: pl.Series, texts: list[str]) -> tuple[bool | int | str, ...]:
    """Labels as JSON should show them: booleans and plain integers as such, the rest as text."""
    if values.dtype == pl.Boolean:
        return tuple(text == "true" for text in texts)
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,14})", text) for text in texts):
        return tuple(int(text) for text in texts)
    return tuple(texts)
