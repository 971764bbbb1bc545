"""The training report: `metrics.json`, `holdout.csv` and `report.html` with its plots."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn import calibration, metrics
from sklearn.feature_selection import r_regression

from tabserve.contract.encoding import layout
from tabserve.contract.model import Contract, label_text, prediction_columns
from tabserve.page import document, figure, table
from tabserve.tables.cells import marked
from tabserve.training.evaluate import better, classification_scores, main_score, regression_scores
from tabserve.training.train import Outcome

IMPORTANCE_ROWS = 2_000
IMPORTANCE_REPEATS = 3
MANY_FEATURES = 60
SHOWN_FEATURES = 20
SHOWN_CLASSES = 10


def metrics_json(outcome: Outcome, contract: Contract) -> str:
    """Scores, baseline and parity as JSON."""
    scores, baseline, rows = outcome.scores, outcome.baseline, outcome.held_out.rows.height
    document = {
        "task": contract.task,
        "target": contract.target,
        "model_version": outcome.version,
        "train_rows": outcome.train_rows,
        "held_out_rows": rows,
        "metrics": scores,
        "baseline": baseline,
        "better_than_baseline": [name for name, score in scores.items() if better(name, score, baseline[name])],
        "parity": {"rows": rows, "largest_difference": outcome.parity},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def holdout_csv(outcome: Outcome, contract: Contract) -> str:
    """The held-out rows, the truth, and what the pipeline (not the exported model) predicts."""
    rows, matrix = outcome.held_out.rows, outcome.held_out.matrix
    names, predicted = [contract.target, *prediction_columns(contract)], outcome.pipeline.predict(matrix)
    if contract.task == "regression":
        added = [outcome.held_out.target, predicted]
    else:
        labels = np.array([label_text(label) for label in contract.classes])
        added = [labels[outcome.held_out.target], labels[predicted], *outcome.pipeline.predict_proba(matrix).T]
    return marked(rows.with_columns([pl.Series(*column) for column in zip(names, added, strict=True)])).write_csv()


def importances(outcome: Outcome, contract: Contract, seed: int) -> list[tuple[str, float]]:
    """How much the main score gets worse when a feature's held-out values are shuffled, largest first.

    Source: permutation importance (Breiman 2001), over contract columns, so that the parts of a date move together.
    """
    random = np.random.default_rng(seed)
    held_out = outcome.held_out
    if len(held_out.matrix) > IMPORTANCE_ROWS:
        held_out = held_out.at(np.sort(random.choice(len(held_out.matrix), IMPORTANCE_ROWS, replace=False)))
    name = main_score(contract.task, outcome.scores)
    session = onnxruntime.InferenceSession(outcome.model, providers=["CPUExecutionProvider"])

    def main(matrix: NDArray[Any]) -> float:
        predicted = session.run(None, {"features": matrix})[-1]
        if contract.task == "regression":
            return regression_scores(held_out.target, predicted.ravel())[name]
        return classification_scores(held_out.target, predicted.argmax(axis=1), predicted).get(name, 0.0)

    full = main(held_out.matrix)
    sources = np.array(layout(contract).sources)

    def drop(feature: str) -> float:
        shuffled = held_out.matrix.copy()
        block = np.flatnonzero(sources == feature)
        shuffled[:, block] = shuffled[random.permutation(len(shuffled))][:, block]
        return full - main(shuffled)

    features = _associated(outcome, contract, held_out.matrix, sources)
    drops = [(feature, float(np.mean([drop(feature) for _ in range(IMPORTANCE_REPEATS)]))) for feature in features]
    return sorted(drops, key=lambda pair: -pair[1])


def _associated(outcome: Outcome, contract: Contract, matrix: NDArray[Any], sources: NDArray[Any]) -> list[str]:
    """All features, or of many those that go along with the predictions most, by rank correlation."""
    features = list(contract.features)
    if len(features) <= MANY_FEATURES:
        return features
    columns = np.column_stack([matrix, outcome.pipeline.predict(matrix)])
    ranks = rankdata(np.nan_to_num(columns, nan=-np.inf), axis=0)
    along = np.abs(r_regression(ranks[:, :-1], ranks[:, -1]))
    strongest = dict.fromkeys(sources[np.argsort(-along, kind="stable")].tolist())
    return list(strongest)[:MANY_FEATURES]


def _confusion(axes: Axes, outcome: Outcome, contract: Contract) -> None:
    labels = [label_text(label) for label in contract.classes]
    predicted = outcome.pipeline.predict(outcome.held_out.matrix)
    matrix = metrics.confusion_matrix(outcome.held_out.target, predicted, labels=range(len(labels)))
    display = metrics.ConfusionMatrixDisplay(matrix, display_labels=labels)
    display.plot(ax=axes, cmap="Blues", colorbar=False, include_values=len(labels) <= SHOWN_CLASSES)
    axes.set_title("Confusion matrix")
    if len(labels) > 4:
        axes.tick_params("x", rotation=90)


def _curves(axes: Axes, outcome: Outcome, contract: Contract, title: str) -> None:
    """One curve for the positive class of a binary target, else one for each class."""
    probabilities = outcome.pipeline.predict_proba(outcome.held_out.matrix)
    classes = [1] if len(contract.classes) == 2 else range(min(len(contract.classes), SHOWN_CLASSES))
    draw, x, y = CURVES[title]
    for position in classes:
        truth = outcome.held_out.target == position
        if truth.any() and not truth.all():
            draw(truth, probabilities[:, position], name=label_text(contract.classes[position]), ax=axes)
    if title == "ROC":
        axes.axline((0, 0), slope=1, color="#999", linestyle=":", linewidth=1)
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(fontsize=7)


_calibration = functools.partial(calibration.CalibrationDisplay.from_predictions, n_bins=10, strategy="quantile")
CURVES = {
    "ROC": (metrics.RocCurveDisplay.from_predictions, "False positive rate", "True positive rate"),
    "Precision and recall": (metrics.PrecisionRecallDisplay.from_predictions, "Recall", "Precision"),
    "Calibration": (_calibration, "Mean predicted probability", "Share of positives"),
}


def _residuals(axes: Axes, outcome: Outcome, kind: str) -> None:
    predicted = outcome.pipeline.predict(outcome.held_out.matrix)
    display = metrics.PredictionErrorDisplay.from_predictions(
        outcome.held_out.target, predicted, kind=kind, ax=axes, subsample=1_000, random_state=0, scatter_kwargs={"s": 8}
    )
    display.ax_.set_title("Residuals" if kind == "residual_vs_predicted" else "Actual and predicted")


def _importance(axes: Axes, drops: Sequence[tuple[str, float]], name: str) -> None:
    shown = drops[:SHOWN_FEATURES][::-1]
    axes.barh([feature for feature, _ in shown], [drop for _, drop in shown], color="#4c78a8")
    axes.set(xlabel=f"loss of {name} when the feature is shuffled", title="Permutation importance")


def page(outcome: Outcome, contract: Contract, seed: int, name: str) -> str:
    """The report as one HTML page; `name` is that of the project."""
    drops = importances(outcome, contract, seed)
    main = main_score(contract.task, outcome.scores)
    figures = [figure(_importance, drops, main, height=1.2 + 0.22 * min(len(drops), SHOWN_FEATURES))]
    if contract.task == "classification":
        curves = [figure(_curves, outcome, contract, title) for title in CURVES]
        figures = [figure(_confusion, outcome, contract), *curves, *figures]
    else:
        kinds = ("actual_vs_predicted", "residual_vs_predicted")
        figures = [*(figure(_residuals, outcome, kind) for kind in kinds), *figures]
    note = (
        f"{contract.task} · learned from {outcome.train_rows:,} rows, scored on {outcome.held_out.rows.height:,} "
        f"held-out rows · the exported model agrees with the pipeline to {outcome.parity:.1e}"
    )
    columns = [(name, column.role, column.type or "", column.reason) for name, column in contract.columns.items()]
    body = [
        _facts(outcome, contract, seed),
        "<h2>Scores</h2>",
        _scores(outcome),
        f'<h2>Plots</h2><div class="plots">{"".join(figures)}</div>',
        f'<h2>Columns</h2><div class="wide">{table(("column", "role", "type", "why"), columns)}</div>',
    ]
    return document(f"{name}: {contract.target}", note, body)


def _facts(outcome: Outcome, contract: Contract, seed: int) -> str:
    """What the model was made from."""
    facts = {
        "model version": outcome.version,
        "data": f"{outcome.source} (SHA-256 {outcome.data_sha256[:12]})",
        "git commit": outcome.git_commit or "none",
        "seed": str(seed),
    }
    if outcome.loaded.drawn < outcome.loaded.in_file:
        facts["rows drawn at random"] = f"{outcome.loaded.drawn:,} of {outcome.loaded.in_file:,}"
    if contract.split:
        facts["held out"] = f"by {contract.split.by} of {contract.split.column}"
    for reason, count in outcome.loaded.left_out.items():
        bare = functools.reduce(lambda text, example: text.replace(example, ""), outcome.loaded.examples, reason)
        facts[f"rows {bare}"] = f"{count:,} left out"
    facts |= {f"suspicious: {name}": why for name, why in outcome.suspects.items()}
    return table(("made from", ""), facts.items())


def _scores(outcome: Outcome) -> str:
    rows = []
    for name, score in outcome.scores.items():
        is_better = "yes" if better(name, score, outcome.baseline[name]) else "no"
        rows.append((name, f"{score:z.4f}", f"{outcome.baseline[name]:z.4f}", is_better))
    return table(("score", "model", "baseline", "better than the baseline"), rows, scored=True)
