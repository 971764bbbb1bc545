"""From a fitted pipeline to the model file: ONNX conversion, the parity gate, metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Parity:
    """How close the graph comes to the pipeline on the held-out rows.

    Attributes:
        rows: how many rows were compared.
        difference: the largest difference, of probabilities, or of values in standard deviations of the target.
    """

    rows: int
    difference: float


def convert(pipeline: Pipeline, width: int) -> onnx.ModelProto:
    """The fitted pipeline as an ONNX graph over one float matrix with `width` columns.

    Raises:
        UserError: a step cannot be expressed in ONNX; the message names it.
    """
    register_converters()
    classifier = hasattr(pipeline.steps[-1][1], "classes_")
    if classifier and not hasattr(pipeline, "predict_proba"):
        raise UserError(
            f"pipeline.py: {_kind(pipeline.steps[-1][1])} gives no probabilities; use an estimator that does"
        )
    try:
        graph = _to_onnx(pipeline, width, {id(pipeline): {"zipmap": False}} if classifier else None)
        return _with_labels_by_probability(graph) if classifier else graph
    except Exception as error:  # skl2onnx raises many unrelated kinds
        raise UserError(
            f"pipeline.py: {_culprit(pipeline, width)} cannot be exported to ONNX: {one_line(error)}"
        ) from None


def _to_onnx(step: Any, width: int, options: Any = None) -> onnx.ModelProto:
    inputs = [("features", FloatTensorType([None, width]))]
    return to_onnx(step, initial_types=inputs, target_opset=OPSET, options=options)


def _with_labels_by_probability(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the most probable class as its label.

    TreeEnsembleClassifier finds the label of a binary target by the signs of all leaf weights: when none is negative,
    as in trees that never split, it compares the raw score with 0.5 where 0 is right.
    """
    probabilities = graph.graph.output[1].name
    graph.graph.node.append(onnx.helper.make_node("ArgMax", [probabilities], ["position"], axis=1, keepdims=0))
    graph.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("position", onnx.TensorProto.INT64, [None]))
    return graph


def _culprit(pipeline: Pipeline, width: int) -> str:
    """The first step that fails when the steps before it convert."""
    for count in range(1, len(pipeline.steps)):
        try:
            _to_onnx(pipeline[:count], width)
        except Exception:
            return _named_step(pipeline, count - 1)
    return _named_step(pipeline, len(pipeline.steps) - 1)


def _named_step(pipeline: Pipeline, position: int) -> str:
    name, step = pipeline.steps[position]
    inner = [_kind(part) for _, part, _ in getattr(step, "transformers_", []) if not isinstance(part, str)]
    return f"step {name!r} ({_kind(step)}{' of ' + ', '.join(inner) if inner else ''})"


def _kind(step: Any) -> str:
    return type(step).__name__


# --- the parity gate


def check_parity(graph: onnx.ModelProto, pipeline: Pipeline, matrix: Matrix, scale: float = 1.0) -> Parity:
    """Compare the graph with the pipeline on rows that training did not see.

    Args:
        scale: for a regression the standard deviation of the target, the unit of the tolerance.

    Raises:
        UserError: they disagree: probabilities (or values in units of `scale`) by more than 1e-4, or a label
            outside that band; the message says in which step the numbers part.
    """
    outputs = _run(graph, matrix)
    if len(outputs) == 2:
        expected = pipeline.predict_proba(matrix)
        differences = np.abs(outputs[1] - expected).max(axis=1)
        flipped = (outputs[0] != pipeline.predict(matrix)) & ~_undecided(expected)
    else:
        differences = np.abs(outputs[0].ravel() - pipeline.predict(matrix)) / scale
        flipped = np.zeros(len(matrix), dtype=bool)
    worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
    parity = Parity(len(matrix), float(differences[worst]))
    wrong = int((~(differences <= TOLERANCE) | flipped).sum())
    if wrong:
        far = parity.difference > TOLERANCE
        by = f"by up to {parity.difference:.2g} (allowed {TOLERANCE:g})" if far else "in the label alone"
        raise UserError(
            f"parity gate: the exported model differs from pipeline.py on {wrong:,} of {parity.rows:,} held-out rows, "
            f"{by}; they part in {_parting(pipeline, matrix)}"
        )
    return parity


def _undecided(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows whose two best classes are closer than the tolerance."""
    best = np.sort(probabilities, axis=1)[:, -2:]
    return (best[:, 1] - best[:, 0]) <= 2 * TOLERANCE


def _parting(pipeline: Pipeline, matrix: Matrix) -> str:
    for count in range(1, len(pipeline.steps)):
        expected = pipeline[:count].transform(matrix)
        actual = _run(_to_onnx(pipeline[:count], matrix.shape[1]), matrix)[0]
        if not np.allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            return _named_step(pipeline, count - 1)
    return _named_step(pipeline, len(pipeline.steps) - 1)


def _run(graph: onnx.ModelProto, matrix: Matrix) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[Any]] = session.run(None, {"features": matrix})
    return outputs


# --- the file


def with_metadata(graph: onnx.ModelProto, metadata: Mapping[str, Any]) -> tuple[bytes, str]:
    """The graph and its metadata as the bytes of a model file, and its version.

    The same input gives the same bytes; the version is a digest of the graph and the contract.
    """
    graph.graph.name = "model"
    opsets = sorted(graph.opset_import, key=lambda opset: opset.domain)  # they come in the order of a set of strings
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    graph.producer_name, graph.producer_version, graph.doc_string = "skl2onnx", "", ""
    contract = json.dumps(metadata["contract"], ensure_ascii=False, sort_keys=True)
    version = hashlib.sha256(graph.SerializeToString(deterministic=True) + contract.encode()).hexdigest()[:12]
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in {**metadata, "version": version}.items()}
    onnx.helper.set_model_props(graph, texts)
    return graph.SerializeToString(deterministic=True), version
