"""The scikit-learn pipeline: preprocessing and estimator. Edit it, run `make train`, read the report.

It reads the float32 matrix that `tabserve/contract/encoding.py` describes: numbers, with NaN where a value is
missing, and category codes. Training checks that all of it can be exported to ONNX, and names the step that cannot.
"""

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tabserve.contract.encoding import Layout

# Derived features by name; there are none yet.
FEATURES: dict[str, str] = {}


def pipelines(task: str, columns: Layout, seed: int, alpha: float = 1.0) -> dict[str, Pipeline]:
    """An unfitted pipeline for a classification or a regression, by name.

    `alpha` is the strength of the regularization.
    """
    if task == "classification":
        learner = LogisticRegression(C=1 / alpha, max_iter=2_000, random_state=seed)
    else:
        learner = Ridge(alpha=alpha, random_state=seed)
    steps = [("preprocess", preprocess(columns)), ("estimator", learner)]
    return {"linear": Pipeline(steps)}


def preprocess(columns: Layout) -> ColumnTransformer:
    """Median imputation and scaling, and one-hot categories with a code for missing and one for rare values."""
    scale = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    one_hot = OneHotEncoder(categories=columns.code_arrays(), sparse_output=False)
    steps = [("numbers", scale, columns.numeric), ("categories", one_hot, columns.categorical)]
    return ColumnTransformer([step for step in steps if step[2]])
