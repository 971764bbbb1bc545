"""The rows to learn from: read, typed, encoded, and split into those for training and those for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

SHOWN_BREAKS = 5

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """Rows ready for learning.

    Attributes:
        rows: features with the contract's types.
        matrix: the same, encoded, float32 of shape (rows, matrix columns).
        target: class positions (int64) or values (float64), shape (rows,).
        keys: what the contract's split goes by: moments or numbers, or positions of groups, shape (rows,); else None.
    """

    rows: pl.DataFrame
    matrix: Matrix
    target: NDArray[Any]
    keys: NDArray[Any] | None = None

    def at(self, rows: Rows) -> Table:
        """Some of the rows."""
        keys = None if self.keys is None else self.keys[rows]
        return Table(self.rows[rows.tolist()], self.matrix[rows], self.target[rows], keys)


@dataclass(frozen=True)
class Loaded:
    """A table, and what was left out of it.

    Attributes:
        table: the rows to learn from.
        in_file: how many rows the file has.
        drawn: how many of them were read, drawn at random where the file has more than may be learned from.
        left_out: how many of those were not usable, by reason.
    """

    table: Table
    in_file: int
    drawn: int
    left_out: Mapping[str, int]


def load(contract: Contract, source: Source, most: int, seed: int) -> Loaded:
    """Read the features and the target; rows that the contract refuses are left out and counted.

    Args:
        most: how many rows to learn from at most; of a larger file as many are drawn at random.

    Raises:
        UserError: a column is missing, or too few rows are left.
    """
    split = [contract.split.column] if contract.split else []
    wanted = list(dict.fromkeys([*contract.features, contract.target, *split]))
    raw, in_file = reader.sample(source, most, wanted, seed)
    typed = casting.typed(contract, raw)
    target = typed.table[contract.target]
    usable = ~typed.rejected & target.is_not_null()
    left_out = _left_out(typed, target)
    rows = typed.table.filter(usable)
    if rows.height < SMALLEST_TABLE:
        lost = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise UserError(
            f"{source}: {rows.height:,} usable rows of {raw.height:,} are too few to learn from, at least "
            f"{SMALLEST_TABLE} are needed{f' (left out: {lost})' if lost else ''}"
        )
    features = rows.select(list(contract.features))
    codes = _codes(contract, rows[contract.target], source)
    table = Table(features, encode_table(contract, features), codes, _keys(contract, raw.filter(usable)))
    return Loaded(table, in_file, raw.height, left_out)


def _left_out(typed: casting.Typed, target: pl.Series) -> dict[str, int]:
    """How many rows cannot be learned from, by reason; the columns that break the contract most are named."""
    worst = sorted(typed.breaks.items(), key=lambda pair: -pair[1][0])[:SHOWN_BREAKS]
    named = ", ".join(f"{name} in {count:,}, as {value}" for name, (count, value) in worst)
    found = {
        "without a usable target": int(target.is_null().sum()),
        f"against the contract ({named})": int((typed.rejected & target.is_not_null()).sum()),
    }
    return {reason: count for reason, count in found.items() if count}


def _codes(contract: Contract, target: pl.Series, source: Source) -> NDArray[Any]:
    if contract.task == "regression":
        return target.cast(pl.Float64).to_numpy()
    labels = [label_text(label) for label in contract.classes]
    codes = target.replace_strict(labels, range(len(labels)), return_dtype=pl.Int64).to_numpy()
    absent = [label for code, label in enumerate(labels) if code not in set(codes.tolist())]
    if absent:
        raise UserError(
            f"{source}: no row of class {', '.join(map(repr, absent))}; take it out of the categories of "
            f"{contract.target!r} in contract.yaml, or add rows"
        )
    return codes


def _keys(contract: Contract, raw: pl.DataFrame) -> NDArray[Any] | None:
    """What the contract's split goes by, as numbers; missing moments come first, missing groups are one group."""
    if contract.split is None:
        return None
    series = raw[contract.split.column]
    if contract.split.by == "group":
        return series.cast(pl.String).rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    values = casting.typed_column(contract.columns[contract.split.column], series)[0]
    return values.to_physical().cast(pl.Float64).fill_null(-np.inf).to_numpy()


# --- which rows to evaluate on


def split(contract: Contract, table: Table, test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Row positions for training and for evaluation, as the contract has it.

    Raises:
        UserError: there are too few rows, or a class would have none to learn from.
    """
    if contract.split is None or table.keys is None:
        return at_random(table.target, contract.task, test_size, seed)
    by = by_time if contract.split.by == "time" else by_group
    train_rows, test_rows = by(table.keys, test_size, seed)
    name = f"split by {contract.split.by} of {contract.split.column!r}"
    if min(len(train_rows), len(test_rows)) == 0:
        raise UserError(f"{name}: all rows have the same value, so none can be held out")
    if contract.task == "classification":
        learned = set(table.target[train_rows].tolist())
        absent = [label_text(label) for code, label in enumerate(contract.classes) if code not in learned]
        if absent:
            raise UserError(f"{name}: no row of class {', '.join(absent)} is left to learn from; split otherwise")
    return train_rows, test_rows


def by_time(keys: NDArray[Any], test_size: float, seed: int = 0) -> tuple[Rows, Rows]:
    """The latest rows for evaluation, at most `test_size` of all; rows of one moment stay together."""
    ordered = np.sort(keys)
    cut = ordered[int(np.floor(len(keys) * (1 - test_size))) - 1]
    late = keys > cut
    if not late.any():
        late = keys == ordered[-1] if ordered[0] < ordered[-1] else late
    return np.flatnonzero(~late), np.flatnonzero(late)


def by_group(keys: NDArray[Any], test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Whole groups for evaluation, drawn at random until they are about `test_size` of the groups."""
    if len(np.unique(keys)) < 2:
        return np.arange(len(keys)), np.arange(0)
    shuffled = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    train_rows, test_rows = next(shuffled.split(keys, groups=keys))
    return np.sort(train_rows), np.sort(test_rows)


def at_random(target: NDArray[Any], task: str, test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Rows drawn at random, stratified by class.

    Classes too rare to be in both parts stay in training, so that the model knows every class.
    """
    rows = np.arange(len(target))
    if task == "regression":
        if min(len(rows) * test_size, len(rows) * (1 - test_size)) < 1:
            raise UserError(f"too few rows to hold out {test_size:g} of {len(rows):,}: change [train] test_size")
        train_rows, test_rows = train_test_split(rows, test_size=test_size, random_state=seed)
        return np.sort(train_rows), np.sort(test_rows)
    class_rows = np.bincount(target)
    needed = max(1 / test_size, 1 / (1 - test_size), 2)
    common = class_rows[target] >= needed
    classes = len(np.unique(target[common]))
    if min(common.sum() * test_size, common.sum() * (1 - test_size)) < max(classes, 1):
        raise UserError(f"too few rows for {len(class_rows)} classes: each needs {int(np.ceil(needed))} or more rows")
    train_rows, test_rows = train_test_split(
        rows[common], test_size=test_size, random_state=seed, stratify=target[common]
    )
    return np.sort(np.concatenate([train_rows, rows[~common]])), np.sort(test_rows)
