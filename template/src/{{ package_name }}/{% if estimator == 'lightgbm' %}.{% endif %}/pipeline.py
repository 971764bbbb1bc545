"""The scikit-learn pipeline: preprocessing and estimator. Edit it, run `make train`, read the report.

It reads the float32 matrix that `tabserve/contract/encoding.py` describes: numbers, with NaN where a value is
missing, and category codes. Training checks that all of it can be exported to ONNX, and names the step that cannot.
"""

from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from tabserve.contract.encoding import Layout

# Derived features by name; there are none yet.
FEATURES: dict[str, str] = {}


def pipelines(
    task: str, columns: Layout, seed: int, n_estimators: int = 100, learning_rate: float = 0.1
) -> dict[str, Pipeline]:
    """An unfitted pipeline for a classification or a regression, by name."""
    kind = LGBMClassifier if task == "classification" else LGBMRegressor
    same = {"deterministic": True, "force_row_wise": True}  # the same model every time
    learner = kind(n_estimators=n_estimators, learning_rate=learning_rate, random_state=seed, verbose=-1, **same)
    steps = [("preprocess", preprocess(columns)), ("estimator", learner)]
    return {"lightgbm": Pipeline(steps)}


def preprocess(columns: Layout) -> ColumnTransformer:
    """One-hot categories, with a code for missing and one for rare and unknown values.

    LightGBM reads missing numbers as they are; scaling before trees would only cost precision.
    """
    one_hot = OneHotEncoder(categories=columns.code_arrays(), sparse_output=False)
    steps = [("numbers", "passthrough", columns.numeric), ("categories", one_hot, columns.categorical)]
    return ColumnTransformer([step for step in steps if step[2]])
