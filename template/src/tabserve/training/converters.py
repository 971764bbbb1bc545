"""ONNX converters for estimators that skl2onnx lacks, or converts incorrectly."""

import copy
import re
import sys
from collections.abc import Callable
from functools import partial
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
Converter = Callable[[Any, Any, Any], None]


def register_converters() -> None:
    """Register the converters with skl2onnx, for XGBoost and LightGBM only if they are imported."""
    for kind in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        alias = f"Sklearn{kind.__name__}"
        converter = get_converter(alias)
        original = converter.args[0] if isinstance(converter, partial) else converter
        _register(kind, alias, partial(_convert_hist_gradient_boosting, original))
    if "xgboost" in sys.modules:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier, XGBRegressor

        _register(XGBClassifier, "XGBoostXGBClassifier", convert_xgboost)
        _register(XGBRegressor, "XGBoostXGBRegressor", convert_xgboost)
    if "lightgbm" in sys.modules:
        from lightgbm import LGBMClassifier, LGBMRegressor

        _register(LGBMClassifier, "LightGbmLGBMClassifier", _convert_lightgbm)
        _register(LGBMRegressor, "LightGbmLGBMRegressor", _convert_lightgbm, {"split": None})


def _register(kind: type, alias: str, converter: Converter, options: dict[str, Any] | None = None) -> None:
    if kind.__name__.endswith("Classifier"):
        shapes, options = calculate_linear_classifier_output_shapes, CLASSIFIER_OPTIONS
    else:
        shapes = calculate_linear_regressor_output_shapes
    update_registered_converter(kind, alias, shapes, converter, overwrite=True, options=options)


class _PlainIntegers:
    """A container that turns NumPy integers and booleans into integers: onnx rejects the others with protobuf 7."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *positional: Any, **attributes: Any) -> Any:
        for name, value in attributes.items():
            if isinstance(value, list) and value and isinstance(value[0], (int, np.integer)):
                attributes[name] = [int(item) for item in value]
        return self._container.add_node(*positional, **attributes)


# The graph stores thresholds as float32. Rounded to nearest, a threshold between two neighbouring float32 numbers
# becomes one of them and sends a row the other way; rounded down, `x <= threshold` is the same for every x.


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _convert_hist_gradient_boosting(original: Converter, scope: Any, operator: Any, container: Any) -> None:
    rounded = copy.copy(operator.raw_operator)
    rounded._predictors = [[copy.copy(tree) for tree in iteration] for iteration in rounded._predictors]
    for tree in (tree for iteration in rounded._predictors for tree in iteration):
        tree.nodes = tree.nodes.copy()
        tree.nodes["num_threshold"] = _round_down(tree.nodes["num_threshold"])
    operator.raw_operator = rounded
    original(scope, operator, _PlainIntegers(container))


def _convert_lightgbm(scope: Any, operator: Any, container: Any) -> None:
    from lightgbm import Booster
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    def rounded_line(line: re.Match[str]) -> str:
        thresholds = _round_down(np.array(line[1].split(), dtype=np.float64))
        return "threshold=" + " ".join(repr(float(threshold)) for threshold in thresholds)

    # Without the line of tree sizes, LightGBM reads the trees in order instead of jumping to their old positions.
    text = re.sub(r"^tree_sizes=.*\n", "", operator.raw_operator.booster_.model_to_string(), flags=re.MULTILINE)
    text = re.sub(r"^threshold=(.*)$", rounded_line, text, flags=re.MULTILINE)
    operator.raw_operator = copy.copy(operator.raw_operator)
    operator.raw_operator._Booster = Booster(model_str=text)
    convert_lightgbm(scope, operator, container)
