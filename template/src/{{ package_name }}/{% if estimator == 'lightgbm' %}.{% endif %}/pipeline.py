"""The scikit-learn pipeline: preprocessing and estimator. Edit it, run `make train`, read the report.

It reads the float32 matrix that `encode.py` describes: numbers with NaN where a value is missing, and
category codes. Whatever it does must survive the export to ONNX; training checks that and says where it does not.
"""

from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from .encode import Layout


def build_pipeline(task: str, columns: Layout, seed: int) -> Pipeline:
    """An unfitted pipeline for a classification or a regression."""
    return Pipeline([("preprocess", preprocess(columns)), ("estimator", estimator(task, seed))])


def preprocess(columns: Layout) -> ColumnTransformer:
    """One-hot categories, with a code for missing and one for rare and unknown values.

    LightGBM reads missing numbers as they are; scaling before trees would only cost precision.
    """
    one_hot = OneHotEncoder(categories=columns.code_arrays(), sparse_output=False)
    steps = [("numbers", "passthrough", columns.numeric), ("categories", one_hot, columns.categorical)]
    return ColumnTransformer([step for step in steps if step[2]])


def estimator(task: str, seed: int) -> BaseEstimator:
    """The estimator, made to give the same model every time."""
    kind = LGBMClassifier if task == "classification" else LGBMRegressor
    return kind(random_state=seed, deterministic=True, force_row_wise=True, verbose=-1)
