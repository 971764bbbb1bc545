"""Scores on held-out rows, with the names of scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

LOWER_IS_BETTER = {"log_loss", "brier", "mae", "rmse"}
MAIN = {"classification": ("roc_auc", "roc_auc_ovr", "balanced_accuracy"), "regression": ("r2",)}


def classification_scores(
    truth: NDArray[np.int64], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> dict[str, float]:
    """Scores by name; ranking scores are left out when a class has no held-out row.

    `truth` and the predicted `labels` are classes 0 to k - 1, of shape (rows,); `probabilities` has shape (rows, k).
    """
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # the sum of float32 is only nearly 1
    classes, one_hot = np.arange(probabilities.shape[1]), np.eye(probabilities.shape[1])[truth]
    binary, present = len(classes) == 2, np.unique(truth)
    average = "binary" if binary else "macro"
    scores: dict[str, Any] = {
        "accuracy": metrics.accuracy_score(truth, labels),
        "balanced_accuracy": metrics.recall_score(truth, labels, labels=present, average="macro"),
        "f1" if binary else "f1_macro": metrics.f1_score(truth, labels, average=average, zero_division=0),
    }
    if len(present) == len(classes):
        ranked = (truth, probabilities[:, 1]) if binary else (one_hot, probabilities)
        scores["roc_auc" if binary else "roc_auc_ovr"] = metrics.roc_auc_score(*ranked)
        scores["average_precision"] = metrics.average_precision_score(*ranked)
    scores["log_loss"] = metrics.log_loss(truth, probabilities, labels=classes)
    scores["brier"] = metrics.brier_score_loss(truth, probabilities, labels=classes)
    return {name: float(score) for name, score in scores.items()}


def regression_scores(truth: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float]:
    """Scores by name."""
    scores = {"mae": metrics.mean_absolute_error(truth, values), "rmse": metrics.root_mean_squared_error(truth, values)}
    if len(truth) > 1:
        scores["r2"] = metrics.r2_score(truth, values)
    return {name: float(score) for name, score in scores.items()}


def better(name: str, score: float, baseline: float) -> bool:
    """Whether a score is better than that of the baseline."""
    return score < baseline if name in LOWER_IS_BETTER else score > baseline


def main_score(task: str, scores: Mapping[str, float]) -> str:
    """The name of the most important score."""
    return next((name for name in MAIN[task] if name in scores), next(iter(scores)))
