"""Scores on held-out rows, under the names that scikit-learn gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

HIGHER_IS_BETTER = {
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "roc_auc",
    "roc_auc_ovr",
    "average_precision",
    "r2",
}
MAIN = {"classification": ("roc_auc", "roc_auc_ovr", "balanced_accuracy"), "regression": ("r2",)}


def classification_scores(
    truth: NDArray[np.int64], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> dict[str, float]:
    """Scores of predicted classes 0 to k - 1.

    Args:
        truth: shape (rows,).
        labels: shape (rows,).
        probabilities: shape (rows, k).

    Returns:
        scores by name; ranking scores are left out when a class has no held-out row.
    """
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # those of float32 add up to 1 only nearly
    classes = np.arange(probabilities.shape[1])
    binary, complete = len(classes) == 2, len(np.unique(truth)) == len(classes)
    one_hot = np.eye(len(classes))[truth]
    scores: dict[str, Any] = {
        "accuracy": metrics.accuracy_score(truth, labels),
        "balanced_accuracy": np.mean([(labels[truth == label] == label).mean() for label in np.unique(truth)]),
        "f1" if binary else "f1_macro": _f1(truth, labels, binary),
    }
    if complete and binary:
        scores["roc_auc"] = metrics.roc_auc_score(truth, probabilities[:, 1])
        scores["average_precision"] = metrics.average_precision_score(truth, probabilities[:, 1])
    elif complete:
        scores["roc_auc_ovr"] = metrics.roc_auc_score(one_hot, probabilities, average="macro")
        scores["average_precision"] = metrics.average_precision_score(one_hot, probabilities, average="macro")
    scores["log_loss"] = metrics.log_loss(truth, probabilities, labels=classes)
    scores["brier"] = _brier(one_hot, probabilities)
    return {name: float(score) for name, score in scores.items()}


def _f1(truth: NDArray[np.int64], labels: NDArray[np.int64], binary: bool) -> Any:
    return metrics.f1_score(truth, labels, average="binary" if binary else "macro", zero_division=0)


def _brier(one_hot: NDArray[np.float64], probabilities: NDArray[np.float64]) -> float:
    """Mean squared error of the probabilities; of a binary target, of the positive class alone.

    Source: sklearn.metrics.brier_score_loss, whose scale is halved for two classes.
    """
    squared = ((probabilities - one_hot) ** 2).sum(axis=1).mean()
    return float(squared / 2 if one_hot.shape[1] == 2 else squared)


def regression_scores(truth: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float]:
    """Scores of predicted values; both of shape (rows,)."""
    scores = {
        "mae": metrics.mean_absolute_error(truth, values),
        "rmse": metrics.root_mean_squared_error(truth, values),
    }
    if len(truth) > 1:
        scores["r2"] = metrics.r2_score(truth, values)
    return {name: float(score) for name, score in scores.items()}


def better(name: str, score: float, baseline: float) -> bool:
    """Whether a score beats the baseline's."""
    return score > baseline if name in HIGHER_IS_BETTER else score < baseline


def main_score(task: str, scores: Mapping[str, float]) -> str:
    """The name of the score to look at first."""
    return next((name for name in MAIN[task] if name in scores), next(iter(scores)))
