"""How the values of a column are distributed, and how far one distribution is from another."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import chi2

from tabserve.contract.encoding import EPOCH, WORD
from tabserve.contract.model import Column, label_text

QUANTILES = np.linspace(0, 1, 11)[1:-1]
SMALLEST_SHARE = 1e-4  # in the place of an empty bin, whose logarithm would be infinite
CERTAINTY = 0.999

Baseline = Mapping[str, Any]


def baseline(column: Column, values: pl.Series) -> dict[str, Any]:
    """The distribution of a typed column: `rows`, the share that is `missing`, and `shares` of all rows by bin.

    Bins are `labels`, with one more for any other value; or the intervals between `edges`, each with its upper edge.
    """
    bins: dict[str, Any] = {"labels": _labels(column)}
    if bins["labels"] is None:
        present = measures(column, values)
        present = present[~np.isnan(present)]
        bins = {"edges": _edges(present)}
    rows = max(values.len(), 1)
    shares = bin_counts(column, bins, values) / rows
    return {"rows": values.len(), "missing": values.null_count() / rows, **bins, "shares": shares.tolist()}


def _edges(present: NDArray[np.float64]) -> list[float]:
    """The deciles; a value that is two of them, or of few values each one, gets a bin of its own."""
    values = np.unique(present)
    if len(values) <= len(QUANTILES) + 1:
        return list(map(float, values[:-1]))
    deciles = np.quantile(present, QUANTILES)
    edges, counts = np.unique(deciles, return_counts=True)
    below = [values[values < edge].max() for edge in edges[counts > 1] if edge > values[0]]
    return sorted({float(edge) for edge in (*edges, *below) if edge < values[-1]})


def _labels(column: Column) -> list[str] | None:
    if column.type == "boolean":
        return ["false", "true"]
    return [label_text(label) for label in column.categories] if column.type == "category" else None


def measures(column: Column, values: pl.Series) -> NDArray[np.float64]:
    """A number for each value, NaN when missing: days of dates, hours of times, words of texts."""
    if column.type == "text":
        words = [None if text is None else len(WORD.findall(text)) for text in values.to_list()]
        numbers = pl.Series(words, dtype=pl.Float64)
    elif column.type in ("date", "datetime"):
        numbers = values.cast(pl.Datetime("us")).dt.timestamp("us") / 8.64e10
    elif column.type == "time":
        numbers = values.cast(pl.Int64) / 3.6e12
    else:
        numbers = values.cast(pl.Float64)
    return numbers.fill_null(np.nan).to_numpy()


def bin_counts(column: Column, bins: Baseline, values: pl.Series) -> NDArray[np.int64]:
    """How many present values fall into each bin of a baseline."""
    if bins.get("labels") is not None:
        labels = list(bins["labels"])
        texts = values.drop_nulls().cast(pl.String)
        codes = texts.replace_strict(labels, range(len(labels)), default=len(labels), return_dtype=pl.Int64).to_numpy()
        return np.bincount(codes, minlength=len(labels) + 1)
    numbers = measures(column, values)
    codes = np.searchsorted(np.array(bins["edges"]), numbers[~np.isnan(numbers)], side="left")
    return np.bincount(codes, minlength=len(bins["edges"]) + 1)


def bin_names(column: Column, bins: Baseline) -> list[str]:
    """The bins as a person reads them."""
    if bins.get("labels") is not None:
        return [*bins["labels"], "other"]
    edges = [_edge(column, edge) for edge in bins["edges"]]
    if not edges:
        return ["all"]
    return [f"up to {edges[0]}", *(f"to {edge}" for edge in edges[1:]), f"above {edges[-1]}"]


def _edge(column: Column, edge: float) -> str:
    if column.type in ("date", "datetime"):
        return f"{EPOCH + dt.timedelta(days=edge):%Y-%m-%d}"
    if column.type == "time":
        return f"{int(edge):02}:{round(edge % 1 * 60) % 60:02}"
    return f"{edge:,.6g}"


def shares(expected: Baseline, counts: NDArray[np.int64], missing: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Shares of all rows by bin, missing values last: expected ones and those of new counts."""
    total = max(int(counts.sum()) + missing, 1)
    return np.array([*expected["shares"], expected["missing"]]), np.array([*counts, missing]) / total


def psi(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """The population stability index of two distributions over the same bins: 0 when they are equal.

    Source: Siddiqi, Credit Risk Scorecards (2006); it is the symmetric Kullback-Leibler divergence.
    """
    e, a = np.maximum(expected, SMALLEST_SHARE), np.maximum(actual, SMALLEST_SHARE)
    return float(((a - e) * np.log(a / e)).sum())


def chance(bins: int, rows: int, new_rows: int) -> float:
    """The index that two samples of one distribution exceed in one of a thousand cases.

    Source: Yurdakul, Statistical properties of the population stability index (2018): scaled, it is chi-squared
    distributed with one degree of freedom fewer than there are bins.
    """
    return float(chi2.ppf(CERTAINTY, max(bins - 1, 1)) * (1 / max(rows, 1) + 1 / max(new_rows, 1)))
