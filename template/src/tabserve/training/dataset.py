"""Load the rows for training: read, cast, encode, and split into training and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from tabserve.contract.encoding import Matrix, encode_table
from tabserve.contract.model import Contract, label_text
from tabserve.discovery.infer import SMALLEST_TABLE
from tabserve.errors import UserError
from tabserve.tables import casting, reader
from tabserve.tables.sources import Source

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """Rows for training or evaluation."""

    rows: pl.DataFrame  # features with the types of the contract
    matrix: Matrix  # the same, encoded, float32 of shape (rows, matrix columns)
    target: NDArray[Any]  # class positions (int64) or values (float64), shape (rows,)
    keys: NDArray[Any] | None = None  # what the contract splits by, shape (rows,)

    def at(self, rows: Rows) -> Self:
        """Some of the rows."""
        keys = None if self.keys is None else self.keys[rows]
        return type(self)(self.rows[rows.tolist()], self.matrix[rows], self.target[rows], keys)


@dataclass(frozen=True)
class Loaded:
    """A table, and how many rows were left out of it."""

    table: Table  # the usable rows
    in_file: int  # the number of rows in the file
    drawn: int  # the number of rows read, a random sample of a larger file
    left_out: Mapping[str, int]  # the number of these that are not usable, by reason
    examples: tuple[str, ...]  # the values in these reasons, for the terminal only: pages are published


def load(contract: Contract, source: Source, most: int, seed: int) -> Loaded:
    """The usable ones of at most `most` rows; raises `UserError` if too few are left."""
    split = [contract.split.column] if contract.split else []
    raw, in_file = reader.sample(source, most, list(dict.fromkeys([*contract.features, contract.target, *split])), seed)
    typed = casting.typed(contract, raw)
    usable = ~typed.rejected & typed.table[contract.target].is_not_null()
    left_out = _left_out(typed, typed.table[contract.target])
    rows = typed.table.filter(usable)
    if rows.height < SMALLEST_TABLE:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise UserError(
            f"{source}: {rows.height:,} usable rows of {raw.height:,} are too few to learn from, at least "
            f"{SMALLEST_TABLE} are needed{f' (left out: {reasons})' if reasons else ''}"
        )
    features, target = rows.select(list(contract.features)), _target(contract, rows[contract.target], source)
    table = Table(features, encode_table(contract, features), target, _keys(contract, raw.filter(usable)))
    examples = tuple(f", as {value}" for _, value in typed.breaks.values())
    return Loaded(table, in_file, raw.height, left_out, examples)


def _left_out(typed: casting.Typed, target: pl.Series) -> dict[str, int]:
    worst = sorted(typed.breaks.items(), key=lambda pair: -pair[1][0])[:5]
    columns = ", ".join(f"{name} in {count:,}, as {value}" for name, (count, value) in worst)
    found = {
        "without a usable target": target.null_count(),
        f"against the contract ({columns})": int((typed.rejected & target.is_not_null()).sum()),
    }
    return {reason: count for reason, count in found.items() if count}


def _target(contract: Contract, target: pl.Series, source: Source) -> NDArray[Any]:
    if contract.task == "regression":
        return target.cast(pl.Float64).to_numpy()
    labels = [label_text(label) for label in contract.classes]
    present = set(target.unique())
    if absent := [label for label in labels if label not in present]:
        raise UserError(
            f"{source}: no row of class {', '.join(map(repr, absent))}; remove it from the categories of "
            f"{contract.target!r} in contract.yaml, or add rows"
        )
    return target.replace_strict(labels, range(len(labels)), return_dtype=pl.Int64).to_numpy()


def _keys(contract: Contract, raw: pl.DataFrame) -> NDArray[Any] | None:
    """What the contract splits by, as numbers; missing times come first, missing groups are one."""
    if contract.split is None:
        return None
    name = contract.split.column
    if contract.split.by == "group":
        return raw[name].cast(pl.String).rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    values = casting.typed_column(contract.columns[name], raw[name])[0]
    return values.to_physical().cast(pl.Float64).fill_null(-np.inf).to_numpy()


def split(contract: Contract, table: Table, test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Row positions for training and evaluation; raises `UserError` if a class has none to learn from."""
    if contract.split is None or table.keys is None:
        return at_random(table.target, contract.task, test_size, seed)
    by = by_time if contract.split.by == "time" else by_group
    train_rows, test_rows = by(table.keys, test_size, seed)
    name = f"split by {contract.split.by} of {contract.split.column!r}"
    if min(len(train_rows), len(test_rows)) == 0:
        raise UserError(f"{name}: all rows have the same value, so none can be held out")
    learned = set(table.target[train_rows].tolist())
    if absent := [label_text(label) for code, label in enumerate(contract.classes) if code not in learned]:
        raise UserError(f"{name}: no row of class {', '.join(absent)} is left to learn from; split otherwise")
    return train_rows, test_rows


def by_time(keys: NDArray[Any], test_size: float, seed: int = 0) -> tuple[Rows, Rows]:
    """The latest rows for evaluation, at most `test_size` of all; rows with equal keys stay together."""
    cut = np.sort(keys)[int(np.floor(len(keys) * (1 - test_size))) - 1]
    late = keys > cut
    if not late.any():
        late = (keys == cut) & (keys > keys.min())
    return np.flatnonzero(~late), np.flatnonzero(late)


def by_group(keys: NDArray[Any], test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Whole groups for evaluation, drawn at random, about `test_size` of the groups."""
    if len(np.unique(keys)) < 2:
        return np.arange(len(keys)), np.arange(0)
    splits = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed).split(keys, groups=keys)
    train_rows, test_rows = next(splits)
    return np.sort(train_rows), np.sort(test_rows)


def at_random(target: NDArray[Any], task: str, test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Rows drawn at random, stratified; a class too rare for both parts is for training."""
    rows, smaller = np.arange(len(target)), min(test_size, 1 - test_size)
    common, strata, classes = np.ones(len(target), dtype=bool), None, 1
    hint = f"change [train] test_size, which is {test_size:g}"
    if task == "classification":
        fewest = max(int(np.ceil(1 / smaller)), 2)
        common = np.bincount(target)[target] >= fewest
        strata, classes = target[common], max(len(np.unique(target[common])), 1)
        hint = f"each class needs {fewest} or more"
    if common.sum() * smaller < classes:
        raise UserError(f"{len(rows):,} rows are too few for training and evaluation: {hint}")
    train_rows, test_rows = train_test_split(rows[common], test_size=test_size, random_state=seed, stratify=strata)
    return np.sort(np.concatenate([train_rows, rows[~common]])), np.sort(test_rows)
