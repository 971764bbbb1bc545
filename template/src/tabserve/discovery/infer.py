"""Infer a data contract from a table: for each column a role, a type and the reason."""

import os
import re
from collections.abc import Callable

import polars as pl

from tabserve.contract.model import Column, Contract, Kind, Task
from tabserve.discovery import features
from tabserve.discovery.formats import UNKNOWN, Conventions, NumberFormat, conventions
from tabserve.discovery.leakage import suspects
from tabserve.errors import UserError, suggestion
from tabserve.tables import reader
from tabserve.tables.parsing import booleans, clean
from tabserve.tables.sources import Source, is_address

SAMPLE_ROWS = 200_000
SMALLEST_TABLE = 20
MAX_CLASSES = 100
MAX_INTEGER_CLASSES = 10
AMBIGUOUS_CLASSES = range(3, 21)
FEWEST_ROWS = 2  # of a class: stratified splits need one on each side
NEGATIVE_LABELS = ("0", "0.0", "-1", "-1.0", "no", "n", "false", "f", "negative", "off")

AskTask = Callable[[str, int], Task]  # from name and number of distinct values


def infer(source: Source, target: str, task: Task | None = None, ask: AskTask | None = None) -> Contract:
    """The contract of a file, with `target` as the column to predict; without a task, it is inferred from its values.

    `ask` decides about an ambiguous target, from its name and its number of distinct values. Raises `UserError` if the
    file cannot be read, the target is unknown or cannot be predicted, or no column is usable.
    """
    path = os.fspath(source)
    table, rows = reader.sample(source, SAMPLE_ROWS)
    if rows == 0:
        raise UserError(f"{path} has a header but no rows")
    if target not in table.columns:
        raise UserError(
            f"{path} has no column {target!r}{suggestion(target, table.columns)}; it has {reader.shown(table.columns)}"
        )
    cleaned = pl.DataFrame([clean(column) for column in table])
    labelled = cleaned.filter(cleaned[target].is_not_null())
    if labelled.is_empty():
        raise UserError(f"target {target!r} has no value in any row")
    if task is None and ask and _is_ambiguous(labelled[target]):
        task = ask(target, labelled[target].n_unique())
    found, sampled = conventions(labelled), rows > table.height
    columns = {column.name: features.feature(column, found, sampled) for column in labelled if column.name != target}
    if not any(column.role == "feature" for column in columns.values()):
        raise UserError(f"{path} has no usable feature: {_reasons(columns)}")
    columns[target], chosen = _target(labelled[target], task, found)
    if labelled.height < SMALLEST_TABLE:
        few = f"{labelled.height} rows with a target are too few"
        raise UserError(f"{path}: {few}, at least {SMALLEST_TABLE} are needed")
    columns = {name: columns[name] for name in table.columns}
    for name, column in columns.items():
        if column.type == "category" or name == target:  # such words could be categories
            columns[name] = _with_note(column, _read_as_missing(table[name], cleaned[name]))
    data = path if is_address(path) else path.replace(os.sep, "/")
    contract = Contract(version=1, data=data, task=chosen, columns=columns)
    noted = {name: _with_note(columns[name], f"; {advice}") for name, advice in suspects(contract, table).items()}
    return contract.model_copy(update={"columns": columns | noted})


def _reasons(columns: dict[str, Column]) -> str:
    unusable = [f"{name}: {column.reason}" for name, column in columns.items()]
    more = f"; and {len(unusable) - 10:,} more" if len(unusable) > 10 else ""
    return "; ".join(unusable[:10]) + more or "the target is its only column"


def _with_note(column: Column, note: str) -> Column:
    return column.model_copy(update={"reason": column.reason + note})


def _read_as_missing(raw: pl.Series, cleaned: pl.Series) -> str:
    """A note on texts other than blanks that were read as missing values."""
    missing = raw.filter(cleaned.is_null() & raw.is_not_null())
    words = sorted(set(missing.str.strip_chars()) - {""}) if missing.dtype == pl.String else []
    return f"; {', '.join(map(features.short, words))} read as missing in {missing.len():,} rows" if words else ""


def _target(values: pl.Series, task: Task | None, conventions: Conventions) -> tuple[Column, Task]:
    """The contract of the target and the task, from values of which none is missing."""
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


def _is_ambiguous(values: pl.Series) -> bool:
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
    if task is None and _is_ambiguous(values):
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
