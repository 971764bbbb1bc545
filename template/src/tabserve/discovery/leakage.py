"""Columns that alone predict the target perfectly: they may hold the answer, or be known only after it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tabserve.contract.encoding import Matrix, encode_table, layout
from tabserve.contract.model import SUSPICION, Contract, label_text
from tabserve.tables import casting

ROWS = 2_000
FEWEST_ROWS = 20
PERFECT = 0.999
MONOTONOUS = 0.99999
ADVICE = f"{SUSPICION}: if it is known only afterwards, give it role ignored in contract.yaml"


def suspects(contract: Contract, table: pl.DataFrame) -> dict[str, str]:
    """For each suspect of a raw table what to say of it; a few rows are enough to tell."""
    rows = casting.typed(contract, table.sample(min(table.height, 2 * ROWS), seed=0)).table
    known = rows.filter(rows[contract.target].is_not_null()).head(ROWS)
    if contract.task == "classification":
        labels = [label_text(label) for label in contract.classes]
        target = known[contract.target].replace_strict(labels, range(len(labels)), return_dtype=pl.Int64).to_numpy()
    else:
        target = known[contract.target].cast(pl.Float64).to_numpy()
    return suspicious(contract, encode_table(contract, known), target)


def suspicious(contract: Contract, matrix: Matrix, target: NDArray[Any]) -> dict[str, str]:
    """For each suspect of an encoded table what to say of it.

    Args:
        matrix: shape (rows, matrix columns).
        target: class positions or values, shape (rows,).
    """
    if len(target) > ROWS:
        chosen = np.sort(np.random.default_rng(0).choice(len(target), ROWS, replace=False))
        matrix, target = matrix[chosen], target[chosen]
    if len(target) < FEWEST_ROWS or len(np.unique(target)) < 2:
        return {}
    sources, filled = np.array(layout(contract).sources), np.nan_to_num(matrix, nan=-1e30)
    scores = {name: _score(contract.task, filled[:, sources == name], target) for name in contract.features}
    return _told(scores)


def _told(scores: Mapping[str, float]) -> dict[str, str]:
    return {name: ADVICE for name, score in scores.items() if score >= PERFECT}


def _score(task: str, matrix: Matrix, target: NDArray[Any]) -> float:
    """How well a tree on these columns does on the half that it was not fitted on; 1 is perfect.

    It stops after the first half where that is plainly not perfect.
    """
    if task == "regression" and matrix.shape[1] == 1 and _monotonous(matrix[:, 0], target):
        return 1.0
    classify = task == "classification" and np.bincount(target).min() >= 2
    folds = (StratifiedKFold if classify else KFold)(2, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of as many classes as rows
        return _worst(task, folds.split(matrix, target if classify else None), matrix, target)


def _worst(task: str, folds: Iterable[Any], matrix: Matrix, target: NDArray[Any]) -> float:
    """The agreement in the worse half."""
    worst = 1.0
    for learned, held in folds:
        kind = DecisionTreeClassifier if task == "classification" else DecisionTreeRegressor
        predicted = kind(random_state=0).fit(matrix[learned], target[learned]).predict(matrix[held])
        worst = min(worst, _agreement(task, target[held], predicted))
        if worst < PERFECT:
            break
    return worst


def _monotonous(values: NDArray[Any], target: NDArray[Any]) -> bool:
    """Whether larger values go with larger targets, or with smaller ones, nearly always (Spearman's correlation)."""
    if len(np.unique(values)) < len(values) / 2:
        return False
    return bool(abs(np.corrcoef(rankdata(values), rankdata(target))[0, 1]) >= MONOTONOUS)


def _agreement(task: str, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """The mean recall of the classes, or the coefficient of determination."""
    if task == "classification":
        return float(np.mean([(predicted[truth == label] == label).mean() for label in np.unique(truth)]))
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / spread if spread else 0.0
