"""Check a file against the contract and the training data of a model: what it would refuse, and what has drifted.

    make check-data DATA=new.csv

The file is read in pieces, so memory stays flat however long it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tabserve.contract.model import Column, Contract
from tabserve.errors import UserError
from tabserve.inference.model import Model
from tabserve.monitoring import drift
from tabserve.tables import casting, reader
from tabserve.tables.sources import Source


@dataclass(frozen=True)
class Finding:
    """What was found in one column.

    Attributes:
        name: of the column.
        problem: how it breaks the contract; empty when it does not.
        psi: how far it is from the training data; None where it is absent or there is nothing to compare with.
        limit: what the index may be: the setting, or more where so few rows tell no more.
        bins: names of the bins, missing values last.
        expected: the share of the training rows in each bin.
        actual: the share of the new rows.
    """

    name: str
    problem: str
    psi: float | None = None
    limit: float = 0.0
    bins: tuple[str, ...] = ()
    expected: tuple[float, ...] = ()
    actual: tuple[float, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether the column is further from the training data than it may be."""
        return self.psi is not None and self.psi > self.limit


@dataclass(frozen=True)
class Check:
    """What was found in a file.

    Attributes:
        rows: how many it has.
        refused: how many of them the model would refuse.
        findings: one for each feature, and for the target where the file has it.
        unknown: columns that the contract does not know.
    """

    rows: int
    refused: int
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]

    def worst_first(self) -> list[Finding]:
        """The findings: columns that break the contract, then those that have drifted, then the others."""
        return sorted(self.findings, key=lambda found: (not found.problem, not found.drifted, -(found.psi or 0)))

    def breaks(self, tolerated: float) -> bool:
        """Whether a column is absent, or more than this share of the rows is refused."""
        absent = any(finding.problem == ABSENT for finding in self.findings)
        return absent or self.refused > tolerated * self.rows


ABSENT = "the column is absent"


def check(model: Model, source: Source, limit: float, progress: Callable[[int], None]) -> Check:
    """Compare a file with the contract and the training data of a model.

    Args:
        limit: the population stability index that counts as drift.
        progress: called with the number of rows done after each piece.

    Raises:
        UserError: the file cannot be read or has no rows.
    """
    contract, present = model.contract, reader.names(source)
    counted = _Counted(model, [name for name in _checked(contract) if name in present])
    for piece in reader.batches(source, counted.names):
        counted.add(piece)
        progress(counted.rows)
    if not counted.rows:
        raise UserError(f"{source} has a header but no rows")
    findings = [
        counted.finding(name, limit) if name in present else _absent(contract, name) for name in _checked(contract)
    ]
    unknown = [name for name in present if name not in contract.columns]
    return Check(counted.rows, counted.refused, tuple(filter(None, findings)), tuple(unknown))


def _checked(contract: Contract) -> list[str]:
    return [*contract.features, contract.target]


def _absent(contract: Contract, name: str) -> Finding | None:
    """A feature that is not in the file; the target need not be.

    One that may be missing counts too: its name may have changed.
    """
    return None if name == contract.target else Finding(name, ABSENT)


class _Counted:
    """Counts of all values of a file, piece by piece."""

    def __init__(self, model: Model, names: list[str]) -> None:
        self.contract, self.names = model.contract, names
        self.baselines: dict[str, Any] = {name: model.metadata["baselines"][name] for name in names}
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.missing: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {name: [] for name in names}
        features = self.contract.features.items()
        self.complete = all(name in names or column.missing for name, column in features)
        self.rows = self.refused = 0

    def add(self, piece: pl.DataFrame) -> None:
        refused = pl.repeat(not self.complete, piece.height, dtype=pl.Boolean, eager=True)
        for name in self.names:
            column = self.contract.columns[name]
            values, bad = casting.typed_column(column, piece[name])
            if column.role == "target":
                bad = bad & casting.cleaned(column, piece[name]).is_not_null()
            else:
                refused = refused | bad
            wrong = int((values.is_null() & casting.cleaned(column, piece[name]).is_not_null()).sum())
            self._add_column(name, column, values, piece[name].filter(bad), wrong)
        self.rows, self.refused = self.rows + piece.height, self.refused + int(refused.sum())

    def _add_column(self, name: str, column: Column, values: pl.Series, bad: pl.Series, wrong: int) -> None:
        """Count values; the wrong ones are neither in a bin nor missing."""
        counts = drift.bin_counts(column, self.baselines[name], values)
        self.counts[name] = self.counts[name] + counts if name in self.counts else counts
        self.missing[name] += values.null_count() - wrong
        self.broken[name] += bad.len()
        if len(self.examples[name]) < 3:
            found = bad.unique(maintain_order=True).head(3)
            self.examples[name] = list(dict.fromkeys([*self.examples[name], *map(casting.quoted, _ones(found))]))[:3]

    def finding(self, name: str, limit: float) -> Finding:
        """What the counts of a column say."""
        missing = 0 if name == self.contract.target else self.missing[name]  # nothing was learned from such rows
        expected, actual = drift.shares(self.baselines[name], self.counts[name], missing)
        used = int(((expected > 0) | (actual > 0)).sum())
        chance = drift.chance(used, self.baselines[name]["rows"], self.rows)
        bins = (*drift.bin_names(self.contract.columns[name], self.baselines[name]), "missing")
        return Finding(
            name,
            self._problem(name),
            drift.psi(expected, actual),
            max(limit, chance),
            bins,
            tuple(expected.tolist()),
            tuple(actual.tolist()),
        )

    def _problem(self, name: str) -> str:
        if not self.broken[name]:
            return ""
        column = self.contract.columns[name]
        said = f"{self.broken[name]:,} of {self.rows:,} rows break the contract, as {', '.join(self.examples[name])}"
        return f"{said}; it should be {_wanted(column)}"


def _ones(values: pl.Series) -> list[pl.Series]:
    return [values[position : position + 1] for position in range(values.len())]


def _wanted(column: Column) -> str:
    """What the contract allows, in words."""
    words = [str(column.type)]
    if column.range:
        words.append(f"from {column.range[0]:.12g} to {column.range[1]:.12g}")
    if column.type == "category" and not column.other:
        words.append(f"one of {reader.shown([str(label) for label in column.categories], 10)}")
    if column.format:
        words.append(f"written as {column.format}")
    return ", ".join([*words, *([] if column.missing else ["never missing"])])
