"""The distribution of a column, and the distance between two distributions."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import chi2

from tabserve.contract.encoding import DAY, EPOCH, HOUR, WORD
from tabserve.contract.model import Column, label_text

QUANTILES = np.linspace(0, 1, 11)[1:-1]
SMALLEST_SHARE = 1e-4  # instead of 0, whose logarithm is infinite
CERTAINTY = 0.999

Baseline = Mapping[str, Any]


def baseline(column: Column, values: pl.Series) -> dict[str, Any]:
    """The distribution of a typed column: `rows`, the share that is `missing`, and `shares` of all rows by bin.

    Bins are `labels`, with one more for any other value; or the intervals between `edges`, each with its upper edge.
    """
    if column.type in ("boolean", "category"):
        labels = [label_text(label) for label in column.categories] or ["false", "true"]
        bins: dict[str, Any] = {"labels": labels}
    else:
        bins = {"edges": _edges(_present(column, values))}
    rows = max(values.len(), 1)
    shares = bin_counts(column, bins, values) / rows
    return {"rows": values.len(), "missing": values.null_count() / rows, **bins, "shares": shares.tolist()}


def _edges(present: NDArray[np.float64]) -> list[float]:
    """The deciles; a value that is more than one decile, or one of a few values, gets its own bin."""
    values = np.unique(present)
    if len(values) <= len(QUANTILES) + 1:
        return list(map(float, values[:-1]))
    edges, counts = np.unique(np.quantile(present, QUANTILES), return_counts=True)
    below = [values[values < edge].max() for edge in edges[counts > 1] if edge > values[0]]
    return sorted({float(edge) for edge in (*edges, *below) if edge < values[-1]})


def _present(column: Column, values: pl.Series) -> NDArray[np.float64]:
    """A number for each value that is not missing: days of dates, hours of times, words of texts."""
    present = values.drop_nulls()
    if column.type == "text":
        return np.array([len(WORD.findall(text)) for text in present], dtype=np.float64)
    if column.type in ("date", "datetime"):
        present = present.cast(pl.Datetime("us")).dt.timestamp("us") / DAY
    elif column.type == "time":
        present = present.cast(pl.Int64) / (HOUR * 1_000)
    return present.cast(pl.Float64).to_numpy()


def bin_counts(column: Column, bins: Baseline, values: pl.Series) -> NDArray[np.int64]:
    """The number of values in each bin of a baseline, without missing ones."""
    if (labels := bins.get("labels")) is not None:
        texts = values.drop_nulls().cast(pl.String)
        codes = texts.replace_strict(labels, range(len(labels)), default=len(labels), return_dtype=pl.Int64)
        return np.bincount(codes.to_numpy(), minlength=len(labels) + 1)
    positions = np.searchsorted(np.array(bins["edges"]), _present(column, values), side="left")
    return np.bincount(positions, minlength=len(bins["edges"]) + 1)


def bin_names(column: Column, bins: Baseline) -> list[str]:
    """The names of the bins in reports."""
    if (labels := bins.get("labels")) is not None:
        return [*labels, "other"]
    if not bins["edges"]:
        return ["all"]
    first, *others = edges = [_edge_name(column, edge) for edge in bins["edges"]]
    return [f"up to {first}", *(f"to {edge}" for edge in others), f"above {edges[-1]}"]


def _edge_name(column: Column, edge: float) -> str:
    if column.type in ("date", "datetime"):
        return f"{EPOCH + dt.timedelta(days=edge):%Y-%m-%d}"
    if column.type == "time":
        return f"{int(edge):02}:{round(edge % 1 * 60) % 60:02}"
    return f"{edge:,.6g}"


def shares(expected: Baseline, counts: NDArray[np.int64], missing: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The expected and the actual share of all rows in each bin, missing values last."""
    total = max(int(counts.sum()) + missing, 1)
    return np.array([*expected["shares"], expected["missing"]]), np.array([*counts, missing]) / total


def psi(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """The population stability index of two distributions over the same bins; 0 if they are equal.

    Source: Siddiqi, Credit Risk Scorecards (2006); it is the symmetric Kullback-Leibler divergence.
    """
    e, a = np.maximum(expected, SMALLEST_SHARE), np.maximum(actual, SMALLEST_SHARE)
    return float(((a - e) * np.log(a / e)).sum())


def chance(bins: int, rows: int, new_rows: int) -> float:
    """The index that two samples of the same distribution exceed in one of a thousand cases.

    Source: Yurdakul, Statistical properties of the population stability index (2018): scaled, it is chi-squared
    distributed with one degree of freedom less than the number of bins.
    """
    return float(chi2.ppf(CERTAINTY, max(bins - 1, 1)) * (1 / max(rows, 1) + 1 / max(new_rows, 1)))
