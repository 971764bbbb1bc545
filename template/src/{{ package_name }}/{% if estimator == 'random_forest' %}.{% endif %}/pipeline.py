"""The scikit-learn pipeline: preprocessing and estimator. Edit it, run `make train`, read the report.

It reads the float32 matrix that `encode.py` describes: numbers with NaN where a value is missing, and
category codes. Whatever it does must survive the export to ONNX; training checks that and says where it does not.
"""

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from .encode import Layout


def build_pipeline(task: str, columns: Layout, seed: int) -> Pipeline:
    """An unfitted pipeline for a classification or a regression."""
    return Pipeline([("preprocess", preprocess(columns)), ("estimator", estimator(task, seed))])


def preprocess(columns: Layout) -> ColumnTransformer:
    """Median imputation, and one-hot categories with a code for missing and one for rare and unknown values.

    No scaling: it changes nothing for trees, and would only cost precision.
    """
    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    one_hot = OneHotEncoder(categories=columns.code_arrays(), sparse_output=False)
    steps = [("numbers", impute, columns.numeric), ("categories", one_hot, columns.categorical)]
    return ColumnTransformer([step for step in steps if step[2]])


def estimator(task: str, seed: int) -> BaseEstimator:
    """The estimator; leaves of five rows keep the model file small and the probabilities calm."""
    if task == "classification":
        return RandomForestClassifier(n_estimators=100, min_samples_leaf=5, random_state=seed)
    return RandomForestRegressor(n_estimators=100, min_samples_leaf=5, random_state=seed)
