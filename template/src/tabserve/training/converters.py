"""ONNX converters for the estimators that skl2onnx lacks, or converts with a flaw."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx.common._registration import get_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

CLASSIFIER_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"], "raw_scores": [True, False]}


def register_converters() -> None:
    """Teach skl2onnx the estimators that need help; those of libraries that are not imported are left alone."""
    for kind, shape, options in (
        (HistGradientBoostingClassifier, calculate_linear_classifier_output_shapes, CLASSIFIER_OPTIONS),
        (HistGradientBoostingRegressor, calculate_linear_regressor_output_shapes, None),
    ):
        alias = f"Sklearn{kind.__name__}"
        converter = _hist_gradient_boosting_converter(alias)
        update_registered_converter(kind, alias, shape, converter, overwrite=True, options=options)
    if "xgboost" in sys.modules:
        _register_xgboost()
    if "lightgbm" in sys.modules:
        _register_lightgbm()


def _hist_gradient_boosting_converter(alias: str) -> Callable[[Any, Any, Any], None]:
    original = getattr(get_converter(alias), "original", get_converter(alias))

    def converter(scope: Any, operator: Any, container: Any) -> None:
        operator.raw_operator = _hist_gradient_boosting_rounded(operator.raw_operator)
        original(scope, operator, _PlainIntegers(container))

    converter.original = original  # type: ignore[attr-defined]
    return converter


class _PlainIntegers:
    """A container that makes plain integers of NumPy integers and booleans, which onnx refuses with protobuf 7."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *positional: Any, **attributes: Any) -> Any:
        plain = {name: _plain_integers(value) for name, value in attributes.items()}
        return self._container.add_node(*positional, **plain)


def _plain_integers(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], (int, np.integer)):
        return [int(item) for item in value]
    return value


def _register_xgboost() -> None:
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from xgboost import XGBClassifier, XGBRegressor

    shapes = (calculate_linear_classifier_output_shapes, calculate_linear_regressor_output_shapes)
    update_registered_converter(
        XGBClassifier, "XGBoostXGBClassifier", shapes[0], convert_xgboost, overwrite=True, options=CLASSIFIER_OPTIONS
    )
    update_registered_converter(XGBRegressor, "XGBoostXGBRegressor", shapes[1], convert_xgboost, overwrite=True)


def _register_lightgbm() -> None:
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    def converter(scope: Any, operator: Any, container: Any) -> None:
        operator.raw_operator = _lightgbm_rounded(operator.raw_operator)
        convert_lightgbm(scope, operator, container)

    shapes = (calculate_linear_classifier_output_shapes, calculate_linear_regressor_output_shapes)
    update_registered_converter(
        LGBMClassifier,
        "LightGbmLGBMClassifier",
        shapes[0],
        converter,
        overwrite=True,
        options=CLASSIFIER_OPTIONS,
    )
    update_registered_converter(
        LGBMRegressor, "LightGbmLGBMRegressor", shapes[1], converter, overwrite=True, options={"split": None}
    )


# The graph stores thresholds as float32. Rounded to nearest, a threshold between two neighbouring float32 numbers
# lands on one of them and sends a row the other way; rounded down, `x <= threshold` keeps its answer for every x.


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _hist_gradient_boosting_rounded(estimator: Any) -> Any:
    rounded = copy.copy(estimator)
    rounded._predictors = [[copy.copy(tree) for tree in iteration] for iteration in estimator._predictors]
    for tree in (tree for iteration in rounded._predictors for tree in iteration):
        tree.nodes = tree.nodes.copy()
        tree.nodes["num_threshold"] = _round_down(tree.nodes["num_threshold"])
    return rounded


def _lightgbm_rounded(estimator: Any) -> Any:
    import lightgbm

    def rounded_line(line: re.Match[str]) -> str:
        thresholds = _round_down(np.array(line[1].split(), dtype=np.float64))
        return "threshold=" + " ".join(repr(float(threshold)) for threshold in thresholds)

    # Without the line of tree sizes, LightGBM reads tree after tree instead of jumping to where they stood.
    text = re.sub(r"^tree_sizes=.*\n", "", estimator.booster_.model_to_string(), flags=re.MULTILINE)
    text = re.sub(r"^threshold=(.*)$", rounded_line, text, flags=re.MULTILINE)
    rounded = copy.copy(estimator)
    rounded._Booster = lightgbm.Booster(model_str=text)
    return rounded
