"""Export a fitted pipeline: ONNX conversion, the parity gate, metadata."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import Pipeline

from tabserve.contract.encoding import Matrix
from tabserve.errors import UserError, one_line
from tabserve.training.converters import register_converters

OPSET = {"": 21, "ai.onnx.ml": 3}
TOLERANCE = 1e-4


def convert(pipeline: Pipeline, width: int) -> onnx.ModelProto:
    """The fitted pipeline as an ONNX graph over `width` float columns; raises `UserError` with the step that fails."""
    register_converters()
    estimator = pipeline.steps[-1][1]
    classifier = hasattr(estimator, "classes_")
    if classifier and not hasattr(pipeline, "predict_proba"):
        raise UserError(
            f"pipeline.py: {type(estimator).__name__} gives no probabilities (predict_proba); use one that does"
        )
    try:
        graph = _to_onnx(pipeline, width, {id(pipeline): {"zipmap": False}} if classifier else None)
    except Exception as error:  # skl2onnx raises many unrelated kinds
        step = _first_step(pipeline, lambda prefix: _fails(prefix, width))
        raise UserError(f"pipeline.py: {step} cannot be exported to ONNX: {one_line(error)}") from None
    return _with_most_probable_label(graph) if classifier else graph


def _to_onnx(step: Any, width: int, options: Any = None) -> onnx.ModelProto:
    inputs = [("features", FloatTensorType([None, width]))]
    return to_onnx(step, initial_types=inputs, target_opset=OPSET, options=options)


def _fails(step: Any, width: int) -> bool:
    with suppress(Exception):
        _to_onnx(step, width)
        return False
    return True


def _with_most_probable_label(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the most probable class as its label.

    TreeEnsembleClassifier derives the label of a binary target from the signs of all leaf weights: if none is negative,
    as in trees that never split, it compares the raw score with 0.5 instead of 0.
    """
    probabilities = graph.graph.output[1].name
    graph.graph.node.append(onnx.helper.make_node("ArgMax", [probabilities], ["position"], axis=1, keepdims=0))
    graph.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("position", onnx.TensorProto.INT64, [None]))
    return graph


def _first_step(pipeline: Pipeline, fails: Callable[[Pipeline], bool]) -> str:
    """The step that makes a prefix of the pipeline fail, in words; the estimator if no transformer does."""
    last = len(pipeline.steps) - 1
    position = next((count - 1 for count in range(1, last + 1) if fails(pipeline[:count])), last)
    name, step = pipeline.steps[position]
    inner = [type(part).__name__ for _, part, _ in getattr(step, "transformers_", []) if not isinstance(part, str)]
    return f"step {name!r} ({type(step).__name__}{' of ' + ', '.join(inner) if inner else ''})"


def check_parity(graph: onnx.ModelProto, pipeline: Pipeline, matrix: Matrix, scale: float = 1.0) -> float:
    """The largest difference between the graph and the pipeline on rows that were not used for training.

    `scale` is the unit of differences, for a regression the standard deviation of the target. Raises `UserError`, which
    names the first step with a difference, if probabilities or values differ by more than 1e-4, or a label differs
    whose probability is not that close to another.
    """
    outputs = _run(graph, matrix)
    differing_labels = np.zeros(len(matrix), dtype=bool)
    if len(outputs) == 2:
        expected = pipeline.predict_proba(matrix)
        differences = np.abs(outputs[1] - expected).max(axis=1)
        best = np.sort(expected, axis=1)[:, -2:]
        is_clear = best[:, 1] - best[:, 0] > 2 * TOLERANCE
        differing_labels = (outputs[0] != pipeline.predict(matrix)) & is_clear
    else:
        differences = np.abs(outputs[0].ravel() - pipeline.predict(matrix)) / scale
    largest = float(np.nan_to_num(differences, nan=np.inf).max())
    if wrong := int((~(differences <= TOLERANCE) | differing_labels).sum()):
        far = largest > TOLERANCE
        by = f"by up to {largest:.2g} (allowed {TOLERANCE:g})" if far else "only in the label"
        step = _first_step(pipeline, lambda prefix: _differs(prefix, matrix))
        raise UserError(
            f"parity gate: the exported model differs from pipeline.py on {wrong:,} of {len(matrix):,} held-out rows, "
            f"{by}; they first differ in {step}"
        )
    return largest


def _differs(transformers: Pipeline, matrix: Matrix) -> bool:
    actual = _run(_to_onnx(transformers, matrix.shape[1]), matrix)[0]
    expected = transformers.transform(matrix)
    return not np.allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


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
    return graph.SerializeToString(deterministic=True), version
