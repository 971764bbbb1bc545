"""The scikit-learn pipeline: preprocessing and estimator. Edit it, run `make train`, read the report.

It reads the float32 matrix that `tabserve/contract/encoding.py` describes: numbers, with NaN where a value is
missing, and category codes. Training checks that all of it can be exported to ONNX, and names the step that cannot.
"""

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from tabserve.contract.encoding import Layout

# Derived features by name; there are none yet.
FEATURES: dict[str, str] = {}


def pipelines(
    task: str, columns: Layout, seed: int, n_estimators: int = 100, min_samples_leaf: int = 5
) -> dict[str, Pipeline]:
    """An unfitted pipeline for a classification or a regression, by name.

    Leaves of five rows keep the model file small and the probabilities calm.
    """
    kind = RandomForestClassifier if task == "classification" else RandomForestRegressor
    learner = kind(n_estimators=n_estimators, min_samples_leaf=min_samples_leaf, random_state=seed)
    steps = [("preprocess", preprocess(columns)), ("estimator", learner)]
    return {"random_forest": Pipeline(steps)}


def preprocess(columns: Layout) -> ColumnTransformer:
    """Median imputation, and one-hot categories with a code for missing and one for rare and unknown values.

    No scaling: it changes nothing for trees, and would only cost precision.
    """
    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    one_hot = OneHotEncoder(categories=columns.code_arrays(), sparse_output=False)
    steps = [("numbers", impute, columns.numeric), ("categories", one_hot, columns.categorical)]
    return ColumnTransformer([step for step in steps if step[2]])
