"""Compare a file with the contract and training data of a model: rejected rows and drift."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tabserve.contract.model import Column
from tabserve.errors import UserError
from tabserve.inference.model import Model
from tabserve.monitoring import drift
from tabserve.tables import casting, reader
from tabserve.tables.sources import Source

ABSENT = "the column is absent"
EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """The result for one column."""

    name: str
    problem: str  # how it breaks the contract; empty when it does not
    psi: float | None = None  # the population stability index; None when the column is absent
    limit: float = 0.0  # of the index: the setting, or more for few rows
    bins: tuple[str, ...] = ()  # names of the bins, missing values last
    expected: Sequence[float] = ()  # the share of the training rows in each bin
    actual: Sequence[float] = ()  # the share of the rows of the file
    examples: str = ""  # the values in `problem`, for the terminal only: pages are published

    @property
    def drifted(self) -> bool:
        """Whether the index is above its limit."""
        return self.psi is not None and self.psi > self.limit


@dataclass(frozen=True)
class Check:
    """The result for a file."""

    rows: int
    rejected: int  # the number of rows that the model would reject
    findings: tuple[Finding, ...]  # for each feature, and for the target if the file has it
    unknown: tuple[str, ...]  # columns that are not in the contract

    def worst_first(self) -> list[Finding]:
        """Columns that break the contract, then columns with drift, then the others."""
        return sorted(self.findings, key=lambda found: (not found.problem, not found.drifted, -(found.psi or 0)))

    def breaks(self, tolerated: float) -> bool:
        """Whether a column is absent, or more than this share of the rows is rejected."""
        absent = any(finding.problem == ABSENT for finding in self.findings)
        return absent or self.rejected > tolerated * self.rows


def check(model: Model, source: Source, limit: float, progress: Callable[[int], None]) -> Check:
    """Compare a file with the contract and the training data of a model.

    `limit` is the population stability index that counts as drift; `progress` is called with the number of rows done
    after each batch. Raises `UserError` if the file cannot be read or has no rows.
    """
    contract, present = model.contract, reader.names(source)
    names = [name for name in (*contract.features, contract.target) if name in present]
    counts = {name: _Counts(contract.columns[name], model.metadata["baselines"][name]) for name in names}
    absent = [name for name in contract.features if name not in present]
    is_complete = all(contract.features[name].missing for name in absent)
    rows = rejected = 0
    for batch in reader.batches(source, names):
        bad = pl.repeat(not is_complete, batch.height, dtype=pl.Boolean, eager=True)
        for name in names:
            in_column = counts[name].add(batch[name])
            bad = bad | in_column if name != contract.target else bad
        rows, rejected = rows + batch.height, rejected + int(bad.sum())
        progress(rows)
    if not rows:
        raise UserError(f"{source} has a header but no rows")
    # An absent column is a problem even if it may be missing: its name may have changed.
    findings = {name: Finding(name, ABSENT) for name in absent}
    findings |= {name: counts[name].finding(name, rows, limit) for name in names}
    ordered = tuple(findings[name] for name in (*contract.features, contract.target) if name in findings)
    return Check(rows, rejected, ordered, tuple(name for name in present if name not in contract.columns))


@dataclass
class _Counts:
    """Running counts of the values of one column."""

    column: Column
    baseline: drift.Baseline
    bins: NDArray[np.int64] | int = 0
    missing: int = 0
    broken: int = 0
    examples: dict[str, None] = field(default_factory=dict)

    def add(self, raw: pl.Series) -> pl.Series:
        """Count the values, and return for each row whether it breaks the contract."""
        values, bad = casting.typed_column(self.column, raw)
        missing = casting.cleaned(self.column, raw).is_null()
        if self.column.role == "target":
            bad = bad & ~missing
        else:
            self.missing += int(missing.sum())  # training data has no rows without a target
        self.bins = self.bins + drift.bin_counts(self.column, self.baseline, values)
        self.broken += int(bad.sum())
        if len(self.examples) < EXAMPLES:
            self.examples |= dict.fromkeys(casting.quoted(raw.filter(bad).unique(maintain_order=True).head(EXAMPLES)))
        return bad

    def finding(self, name: str, rows: int, limit: float) -> Finding:
        expected, actual = drift.shares(self.baseline, np.asarray(self.bins), self.missing)
        used = int(((expected > 0) | (actual > 0)).sum())
        limit = max(limit, drift.chance(used, self.baseline["rows"], rows))
        bins, psi = (*drift.bin_names(self.column, self.baseline), "missing"), drift.psi(expected, actual)
        shares = expected.tolist(), actual.tolist()
        return Finding(name, self._problem(rows), psi, limit, bins, *shares, self._shown())

    def _shown(self) -> str:
        return f", as {', '.join(list(self.examples)[:EXAMPLES])}"

    def _problem(self, rows: int) -> str:
        if not self.broken:
            return ""
        column = self.column
        rules = [str(column.type)]
        if column.range:
            rules.append(f"from {column.range[0]:.12g} to {column.range[1]:.12g}")
        if column.categories and not column.other:
            rules.append(f"one of {reader.shown(list(map(str, column.categories)), 10)}")
        if column.format:
            rules.append(f"written as {column.format}")
        if not column.missing:
            rules.append("never missing")
        should = ", ".join(rules)
        return f"{self.broken:,} of {rows:,} rows break the contract{self._shown()}; it should be {should}"
