"""Infer the task and the classes from the target column."""

import re

import polars as pl

from tabserve.contract.model import Column, Kind, Task
from tabserve.discovery import features
from tabserve.discovery.formats import UNKNOWN, Conventions, NumberFormat
from tabserve.errors import UserError
from tabserve.tables.parsing import booleans

MAX_CLASSES = 100
MAX_INTEGER_CLASSES = 10
AMBIGUOUS_CLASSES = range(3, 21)
FEWEST_ROWS = 2  # of a class: stratified splits need one on each side
NEGATIVE_LABELS = ("0", "0.0", "-1", "-1.0", "no", "n", "false", "f", "negative", "off")


def infer_target(values: pl.Series, task: Task | None, conventions: Conventions = UNKNOWN) -> tuple[Column, Task]:
    """The contract of the target and the task, from values of which none is missing.

    Raises `UserError` if the target cannot be predicted.
    """
    if isinstance(values.dtype, features.UNSUPPORTED) or values.dtype.is_temporal():
        raise UserError(f"target {values.name!r} holds values of type {values.dtype}, which cannot be predicted")
    distinct = values.n_unique()
    if distinct == 1:
        raise UserError(f"target {values.name!r} is always {features.short(values[0])}: there is nothing to learn")
    if task != "classification" and distinct > MAX_CLASSES and (words := features.mostly_numbers(values, conventions)):
        if words.role == "ignored":
            raise UserError(f"target {values.name!r} is {words.reason}: choose another")
        return words.model_copy(update={"role": "target", "range": None, "missing": False}), "regression"
    found = features.numeric(values, conventions)
    if task == "regression" and found is None:
        raise UserError(f"target {values.name!r} is not numeric, so it cannot be a regression")
    few = found and features.is_whole(found[1]) and found[1].n_unique() <= MAX_INTEGER_CLASSES
    if task == "classification" or found is None or (task is None and few):
        return _classes(values, task), "classification"
    return _quantity(values.name, *found, task), "regression"


def is_ambiguous(values: pl.Series) -> bool:
    """Whether a target of few whole numbers may hold classes as well as quantities."""
    found = features.numeric(values, UNKNOWN)
    return found is not None and features.is_whole(found[1]) and found[1].n_unique() in AMBIGUOUS_CLASSES


def _quantity(name: str, format: NumberFormat, values: pl.Series, task: Task | None) -> Column:
    distinct, whole = values.n_unique(), features.is_whole(values)
    if whole and distinct == values.len() and features.is_identifier(values, name):
        raise UserError(f"target {name!r} is identifier-like, a different number in each row: choose another")
    if values.cast(pl.Float32).n_unique() == 1:
        constant = "constant for float32, which the model computes in"
        raise UserError(f"target {name!r} is {constant}: {features.span(values)}")
    kind: Kind = "integer" if whole else "number"
    ambiguous = task is None and whole and distinct in AMBIGUOUS_CLASSES
    note = "; taken as a quantity, TASK=classification takes them as classes" if ambiguous else ""
    reason = f"numeric, {features.span(values)}, {distinct:,} different values{note}"
    return Column(role="target", type=kind, format=format[0], unit=format[1], reason=reason)


def _classes(values: pl.Series, task: Task | None) -> Column:
    read = _booleans(values)
    rows = features.counts(values if read is None else read)
    common = {label: count for label, count in rows.items() if count >= FEWEST_ROWS}
    _check_classes(values, rows, common)
    labels, rare = _ordered(common), [label for label in rows if label not in common]
    shares = ", ".join(f"{label} {common[label] / values.len():.1%}" for label in labels[:5])
    notes = [f"{len(labels)} classes: {shares}{', ...' * (len(labels) > 5)}"]
    if rare:
        shown = ", ".join(map(features.short, rare[:3])) + ", ..." * (len(rare) > 3)
        notes.append(f"{len(rare)} of a single row left out: {shown}")
    if task is None and is_ambiguous(values):
        notes.append("taken as classes, TASK=regression takes them as a quantity")
    if read is not None:
        notes.append(f"{values.n_unique()} spellings read as true and false")
    categories = _typed_labels(values, labels) if read is None else (False, True)
    return Column(role="target", type="category", categories=categories, reason="; ".join(notes))


def _booleans(values: pl.Series) -> pl.Series | None:
    """True and false, if a target has more than one spelling of them, as yes, Yes and Y."""
    if values.dtype != pl.String or values.n_unique() <= 2:
        return None
    read = booleans(values)
    return read if read.null_count() == 0 and read.n_unique() == 2 else None


def _check_classes(values: pl.Series, rows: dict[str, int], common: dict[str, int]) -> None:
    if len(rows) > MAX_CLASSES and (len(rows) > 0.9 * values.len() or features.ID_NAME.search(values.name)):
        raise UserError(f"target {values.name!r} is identifier-like, {len(rows):,} different values: choose another")
    if len(rows) > MAX_CLASSES:
        many = f"{len(rows):,} different values, too many classes (at most {MAX_CLASSES})"
        raise UserError(f"target {values.name!r} has {many}; choose another target")
    if len(common) < 2:
        rare = features.short(next(label for label in rows if label not in common))
        raise UserError(f"target {values.name!r}: class {rare} has a single row; two or more classes need two or more")


def _ordered(rows: dict[str, int]) -> list[str]:
    """Sorted labels; of two, the positive one last: by its meaning if that is plain, else the rarer one."""
    labels = sorted(rows, key=features.natural)
    if len(labels) == 2:
        negative = [label for label in labels if label.lower() in NEGATIVE_LABELS]
        first = negative[0] if len(negative) == 1 else max(labels, key=lambda label: rows[label])
        labels.sort(key=lambda label: label != first)
    return labels


def _typed_labels(values: pl.Series, texts: list[str]) -> tuple[bool | int | str, ...]:
    """Labels as JSON shows them: booleans and plain integers as such, others as text."""
    if values.dtype == pl.Boolean:
        return tuple(text == "true" for text in texts)
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,14})", text) for text in texts):
        return tuple(int(text) for text in texts)
    return tuple(texts)
