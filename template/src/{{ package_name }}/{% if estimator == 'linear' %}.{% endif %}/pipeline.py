"""The scikit-learn pipeline: preprocessing and estimator. Edit it, run `make train`, read the report.

It reads the float32 matrix that `encode.py` describes: numbers with NaN where a value is missing, and
category codes. Whatever it does must survive the export to ONNX; training checks that and says where it does not.
"""

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .encode import Layout


def build_pipeline(task: str, columns: Layout, seed: int) -> Pipeline:
    """An unfitted pipeline for a classification or a regression."""
    return Pipeline([("preprocess", preprocess(columns)), ("estimator", estimator(task, seed))])


def preprocess(columns: Layout) -> ColumnTransformer:
    """Median imputation and scaling, and one-hot categories with a code for missing and one for rare values."""
    scale = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    one_hot = OneHotEncoder(categories=columns.code_arrays(), sparse_output=False)
    steps = [("numbers", scale, columns.numeric), ("categories", one_hot, columns.categorical)]
    return ColumnTransformer([step for step in steps if step[2]])


def estimator(task: str, seed: int) -> BaseEstimator:
    """The estimator, with its default regularisation."""
    if task == "classification":
        return LogisticRegression(max_iter=2_000, random_state=seed)
    return Ridge(random_state=seed)
