"""Export a fitted pipeline: conversion to ONNX, the parity gate, metadata."""

import copy
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common import shape_calculator
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline

from tabserve.contract.encoding import Matrix
from tabserve.errors import UserError, one_line
from tabserve.inference.model import seal

OPSET = {"": 21, "ai.onnx.ml": 3}
TOLERANCE = 1e-4
CLASSIFIER_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"], "raw_scores": [True, False]}

Converter = Callable[[Any, Any, Any], None]


def convert(pipeline: Pipeline, width: int) -> onnx.ModelProto:
    """The pipeline as an ONNX graph over `width` columns; raises `UserError` with the step that fails."""
    _register_converters()
    classifier = hasattr(pipeline, "classes_")
    if classifier and not hasattr(pipeline, "predict_proba"):
        kind = type(pipeline.steps[-1][1]).__name__
        raise UserError(f"pipeline.py: {kind} gives no probabilities (predict_proba); use one that does")
    try:
        graph = _to_onnx(pipeline, width, {id(pipeline): {"zipmap": False}} if classifier else None)
    except Exception as error:  # skl2onnx raises many unrelated kinds
        step = _first_step(pipeline, lambda prefix: _to_onnx(prefix, width))
        raise UserError(f"pipeline.py: {step} cannot be exported to ONNX: {one_line(error)}") from None
    return _with_label_and_limits(graph) if classifier else graph


def _to_onnx(step: Any, width: int, options: Any = None) -> onnx.ModelProto:
    inputs = [("features", FloatTensorType([None, width]))]
    return to_onnx(step, initial_types=inputs, target_opset=OPSET, options=options)


def _with_label_and_limits(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the most probable class as its label, and probabilities from 0 to 1.

    TreeEnsembleClassifier derives the label of a binary target from the signs of all leaf weights: if none is negative,
    as in trees that never split, it compares the raw score with 0.5 instead of 0. Its sums of float32 may exceed 1.
    """
    body, sums = graph.graph, graph.graph.output[1].name
    body.initializer.extend(numpy_helper.from_array(np.float32(limit), f"limit_{limit}") for limit in (0, 1))
    body.node.append(onnx.helper.make_node("ArgMax", [sums], ["position"], axis=1, keepdims=0))
    body.node.append(onnx.helper.make_node("Clip", [sums, "limit_0", "limit_1"], ["probability"]))
    body.output[0].CopyFrom(onnx.helper.make_tensor_value_info("position", onnx.TensorProto.INT64, [None]))
    body.output[1].name = "probability"
    return graph


def _first_step(pipeline: Pipeline, check: Callable[[Pipeline], object]) -> str:
    """The first step with which the pipeline fails, in words; at last the estimator."""
    position = 0
    with suppress(Exception):
        for count in range(1, len(pipeline.steps)):
            check(pipeline[:count])
            position = count
    name, step = pipeline.steps[position]
    inner = [type(part).__name__ for _, part, _ in getattr(step, "transformers_", []) if not isinstance(part, str)]
    return f"step {name!r} ({type(step).__name__}{' of ' + ', '.join(inner) if inner else ''})"


def check_parity(graph: onnx.ModelProto, pipeline: Pipeline, matrix: Matrix, scale: float = 1.0) -> float:
    """The largest difference between graph and pipeline, in units of `scale`; raises `UserError` if too large."""
    outputs = _run(graph, matrix)
    differing_labels = np.zeros(len(matrix), dtype=bool)
    if len(outputs) == 2:
        expected = pipeline.predict_proba(matrix)
        differences = np.abs(outputs[1] - expected).max(axis=1)
        best = np.sort(expected, axis=1)[:, -2:]
        is_clear = best[:, 1] - best[:, 0] > 2 * TOLERANCE  # else the label may differ
        differing_labels = (outputs[0] != pipeline.predict(matrix)) & is_clear
    else:
        differences = np.abs(outputs[0].ravel() - pipeline.predict(matrix)) / scale
    largest = float(np.nan_to_num(differences, nan=np.inf).max())
    if wrong := int((~(differences <= TOLERANCE) | differing_labels).sum()):
        far = largest > TOLERANCE
        by = f"by up to {largest:.2g} (allowed {TOLERANCE:g})" if far else "only in the label"
        step = _first_step(pipeline, lambda prefix: _compare(prefix, matrix))
        raise UserError(
            f"parity gate: the exported model differs from pipeline.py on {wrong:,} of {len(matrix):,} held-out rows, "
            f"{by}; they first differ in {step}"
        )
    return largest


def _compare(transformers: Pipeline, matrix: Matrix) -> None:
    actual = _run(_to_onnx(transformers, matrix.shape[1]), matrix)[0]
    np.testing.assert_allclose(actual, transformers.transform(matrix), rtol=TOLERANCE, atol=TOLERANCE)


def _run(graph: onnx.ModelProto, matrix: Matrix) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[Any]] = session.run(None, {"features": matrix})
    return outputs


def with_metadata(graph: onnx.ModelProto, metadata: Mapping[str, Any]) -> tuple[bytes, str]:
    """The bytes of a model file, the same for the same input, and its version: a digest of graph and contract."""
    graph.graph.name = "model"
    opsets = sorted(graph.opset_import, key=lambda opset: opset.domain)  # their order is that of a set
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    graph.producer_name, graph.producer_version, graph.doc_string = "skl2onnx", "", ""
    contract = json.dumps(metadata["contract"], ensure_ascii=False, sort_keys=True)
    version = hashlib.sha256(graph.SerializeToString(deterministic=True) + contract.encode()).hexdigest()[:12]
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in {**metadata, "version": version}.items()}
    onnx.helper.set_model_props(graph, texts)
    content = graph.SerializeToString(deterministic=True)
    return content + seal(content), version


def _register_converters() -> None:
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
        shapes, options = shape_calculator.calculate_linear_classifier_output_shapes, CLASSIFIER_OPTIONS
    else:
        shapes = shape_calculator.calculate_linear_regressor_output_shapes
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


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    # The graph stores thresholds as float32. Rounded to nearest, one between two neighboring float32 numbers becomes
    # one of them and sends a row the other way; rounded down, `x <= threshold` is the same for every x.
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _convert_hist_gradient_boosting(original: Converter, scope: Any, operator: Any, container: Any) -> None:
    operator.raw_operator = copy.deepcopy(operator.raw_operator)
    for tree in itertools.chain.from_iterable(operator.raw_operator._predictors):
        tree.nodes["num_threshold"] = _round_down(tree.nodes["num_threshold"])
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
