"""The scikit-learn pipeline: preprocessing and estimator. Edit it, run `make train`, read the report.

It reads the float32 matrix that `encode.py` describes: numbers with NaN where a value is missing, and
category codes. Whatever it does must survive the export to ONNX; training checks that and says where it does not.
"""

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from .encode import Layout


def build_pipeline(task: str, columns: Layout, seed: int) -> Pipeline:
    """An unfitted pipeline for a classification or a regression."""
    return Pipeline([("preprocess", preprocess(columns)), ("estimator", estimator(task, seed))])


def preprocess(columns: Layout) -> ColumnTransformer:
    """One-hot categories, with a code for missing and one for rare and unknown values.

    Histogram gradient boosting reads missing numbers as they are; scaling before trees would only cost precision.
    """
    one_hot = OneHotEncoder(categories=columns.code_arrays(), sparse_output=False)
    steps = [("numbers", "passthrough", columns.numeric), ("categories", one_hot, columns.categorical)]
    return ColumnTransformer([step for step in steps if step[2]])


def estimator(task: str, seed: int) -> BaseEstimator:
    """The estimator, with early stopping on a tenth of large training sets."""
    if task == "classification":
        return HistGradientBoostingClassifier(random_state=seed)
    return HistGradientBoostingRegressor(random_state=seed)
