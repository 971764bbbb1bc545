"""Find columns that alone predict the target perfectly: they may leak it."""

import warnings
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tabserve.contract.encoding import Matrix, encode_table, layout
from tabserve.contract.model import SUSPICION, Contract, label_text
from tabserve.tables import casting

ROWS = 2_000
FEWEST_ROWS = 20
PERFECT = 0.999
MONOTONOUS = 0.99999
TREES = {
    "classification": (DecisionTreeClassifier, balanced_accuracy_score),
    "regression": (DecisionTreeRegressor, r2_score),
}
ADVICE = f"{SUSPICION}: if it is known only afterwards, give it role ignored in contract.yaml"


def suspects(contract: Contract, table: pl.DataFrame) -> dict[str, str]:
    """`suspicious` for a sample of a raw table."""
    rows = casting.typed(contract, table.sample(min(table.height, 2 * ROWS), seed=0)).table
    labelled = rows.filter(rows[contract.target].is_not_null()).head(ROWS)
    target = labelled[contract.target]
    if contract.task == "classification":
        labels = [label_text(label) for label in contract.classes]
        target = target.replace_strict(labels, range(len(labels)), return_dtype=pl.Int64)
    return suspicious(contract, encode_table(contract, labelled), target.to_numpy())


def suspicious(contract: Contract, matrix: Matrix, target: NDArray[Any]) -> dict[str, str]:
    """The suspects by name, with advice; the target is class positions or values, shape (rows,)."""
    if len(target) > ROWS:
        chosen = np.sort(np.random.default_rng(0).choice(len(target), ROWS, replace=False))
        matrix, target = matrix[chosen], target[chosen]
    if len(target) < FEWEST_ROWS or len(np.unique(target)) < 2:
        return {}
    sources, filled = np.array(layout(contract).sources), np.nan_to_num(matrix, nan=-1e30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about as many classes as rows, and classes that a half lacks
        perfect = [name for name in contract.features if _predicts(contract.task, filled[:, sources == name], target)]
    return dict.fromkeys(perfect, ADVICE)


def _predicts(task: str, matrix: Matrix, target: NDArray[Any]) -> bool:
    """Whether a tree on these columns is perfect in two-fold cross-validation."""
    varied = matrix.shape[1] == 1 and len(np.unique(matrix)) >= len(matrix) / 2
    if task == "regression" and varied and abs(spearmanr(matrix[:, 0], target).statistic) >= MONOTONOUS:
        return True
    tree, score = TREES[task]
    stratify = task == "classification" and np.bincount(target).min() >= 2
    folds = (StratifiedKFold if stratify else KFold)(2, shuffle=True, random_state=0)
    for train, test in folds.split(matrix, target):
        predicted = tree(random_state=0).fit(matrix[train], target[train]).predict(matrix[test])
        if score(target[test], predicted) < PERFECT:
            return False
    return True
