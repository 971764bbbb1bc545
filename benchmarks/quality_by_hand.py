"""For quality.py, in its environment: gradient boosting with its defaults, on the raw columns and the same rows.

Dates are days, columns of words are categories, columns that name a row are left out. Scores both fits.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

MOST_CATEGORIES = 255  # that the estimator takes as such
NUMPY = import_module("numpy")
METRICS = import_module("sklearn.metrics")
ENSEMBLE = import_module("sklearn.ensemble")


def main() -> None:
    """Fit on each split and write the mean scores."""
    folder = Path(sys.argv[1])
    table = json.loads((folder / "table.json").read_text())
    task = json.loads((folder / "contract.json").read_text())["task"]
    features = read(table)
    scores = []
    for seed, path in enumerate(sorted(folder.glob("split-*.npz"))):
        split = dict(NUMPY.load(path))
        predicted = fitted(features.iloc[split["rows"]], split, task, seed)
        truth = split["target"][split["test"]]
        scores.append([score(task, truth, split["predicted"]), score(task, truth, predicted)])
    ours, by_hand = NUMPY.mean(scores, axis=0)
    found = {"task": task, "rows": len(split["rows"]), "ours": float(ours), "by_hand": float(by_hand)}
    (folder / "scores.json").write_text(json.dumps(found))


def read(table: dict[str, Any]) -> Any:
    """The features, as a person would hand them to the estimator."""
    pandas: Any = import_module("pandas")
    frame = pandas.read_csv(table["csv"]).drop(columns=[table["target"], *table["named"]])
    for name in frame.columns:
        if name in table["dates"]:
            times = pandas.to_datetime(frame[name])
            frame[name] = (times - times.min()) / pandas.Timedelta(days=1)
        elif frame[name].dtype == object:
            category = frame[name].astype(str).where(frame[name].notna()).astype("category")
            few = len(category.cat.categories) <= MOST_CATEGORIES
            frame[name] = category if few else category.cat.codes.astype(float)
        else:
            frame[name] = frame[name].astype(float)
    return frame


def fitted(features: Any, split: dict[str, Any], task: str, seed: int) -> Any:
    """What the estimator predicts of the held-out rows."""
    kind = "Regressor" if task == "regression" else "Classifier"
    estimator = getattr(ENSEMBLE, f"HistGradientBoosting{kind}")(random_state=seed)
    estimator.fit(features.iloc[split["train"]], split["target"][split["train"]])
    held_out = features.iloc[split["test"]]
    return estimator.predict(held_out) if task == "regression" else estimator.predict_proba(held_out)


def score(task: str, truth: Any, predicted: Any) -> float:
    """R2 or ROC AUC, the mean over the classes that have held-out rows."""
    if task == "regression":
        return float(METRICS.r2_score(truth, predicted))
    if predicted.shape[1] == 2:
        return float(METRICS.roc_auc_score(truth, predicted[:, 1]))
    present = NUMPY.unique(truth)
    return float(NUMPY.mean([METRICS.roc_auc_score(truth == label, predicted[:, label]) for label in present]))


if __name__ == "__main__":
    main()
