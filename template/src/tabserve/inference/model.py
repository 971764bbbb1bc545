"""The model file: an ONNX graph from the encoded matrix to predictions, with everything about it in its metadata.

Metadata (JSON in ONNX `metadata_props`): `contract`, `version`, `metrics`, `versions`, `data_sha256`, `git_commit`,
`example` (one row that the API accepts) and `baselines` (the training distribution of each feature).
Only onnxruntime, numpy and pydantic are needed to read it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pydantic
from numpy.typing import NDArray
from pydantic_core import PydanticSerializationError, from_json, to_json

from tabserve.contract import schema
from tabserve.contract.encoding import Matrix, layout, row_encoder
from tabserve.contract.model import VERSION, Contract, label_text
from tabserve.contract.schema import Row
from tabserve.errors import UserError

DIGITS = 7  # what float32 carries
NUMBER = f"%.{DIGITS}g"
TINY, HUGE = 1e-60, 1e60  # beyond every float32
# The answer for a row: the text of its label, `value` for a regression; and JSON, None where a number is not finite.
Answer = tuple[str, str | None]
OVERFLOW = "a value is so large that the prediction is no finite number"


class Prediction(NamedTuple):
    """Predictions for some rows.

    Attributes:
        labels: for a classification the position of each row's class, shape (rows,), else None.
        numbers: for a classification the probabilities, shape (rows, classes), else the values, shape (rows, 1).
    """

    labels: NDArray[np.int64] | None
    numbers: NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A loaded model file."""

    session: onnxruntime.InferenceSession
    contract: Contract
    metadata: Mapping[str, Any]

    @cached_property
    def encode(self) -> Callable[[Sequence[Mapping[str, Any]]], Matrix]:
        """From validated rows to the matrix that the graph reads."""
        return row_encoder(self.contract)

    @cached_property
    def _input(self) -> str:
        return str(self.session.get_inputs()[0].name)

    @cached_property
    def _outputs(self) -> list[str]:
        return [output.name for output in self.session.get_outputs()]

    @cached_property
    def _templates(self) -> list[str]:
        """The JSON of a row's answer for each class, or the one of a regression, with `%` for the numbers."""
        if self.contract.task == "regression":
            return ['{"value":' + NUMBER + "}"]
        labels = [json.dumps(label, ensure_ascii=False).replace("%", "%%") for label in self.contract.classes]
        keys = [label if label.startswith('"') else f'"{label}"' for label in labels]
        probabilities = ",".join(f"{key}:{NUMBER}" for key in keys)
        return ['{"label":' + label + ',"probabilities":{' + probabilities + "}}" for label in labels]

    def predict(self, rows: Row | Sequence[Row]) -> list[dict[str, Any]]:
        """Predict for rows, as the API does: the same checks, the same answers, in the same order.

        Dates may be dates as well as text, and numbers those of NumPy; NaN, NaT and NA are missing values.

        Args:
            rows: one or several, each with a value for each feature that may not be missing.

        Raises:
            UserError: a row breaks the contract, or a prediction is not finite.
        """
        if hasattr(rows, "columns") or not isinstance(rows, Iterable):
            raise UserError("predict takes rows: of a table, to_dicts() (Polars) or to_dict('records') (pandas)")
        many = [rows] if isinstance(rows, Mapping) else list(rows)
        if not many:
            return []
        many = [{name: _known(row[name]) for name in row} if isinstance(row, Mapping) else row for row in many]
        try:
            valid = self._adapter.validate_json(to_json(many, inf_nan_mode="constants", fallback=_plain))
            content = self.content(self.answers(self.run(self.encode(valid))))
        except pydantic.ValidationError as error:
            first = schema.problems(error)[0]
            where = [f"row {part}" if at == 0 else str(part) for at, part in enumerate(first["loc"][1:])]
            raise UserError(": ".join([*where, first["msg"]])) from None
        except (OverflowError, PydanticSerializationError) as error:
            raise UserError(str(error)) from None
        predictions: list[dict[str, Any]] = from_json(content)["predictions"]
        return predictions

    @cached_property
    def _adapter(self) -> pydantic.TypeAdapter[list[Row]]:
        return schema.rows_adapter(self.contract)

    def run(self, matrix: Matrix) -> Prediction:
        """Predict for an encoded matrix of shape (rows, matrix columns)."""
        outputs = self.session.run(self._outputs, {self._input: matrix})
        numbers = outputs[-1].reshape(len(matrix), len(self._templates))
        return Prediction(outputs[0] if len(outputs) > 1 else None, numbers)

    def answers(self, prediction: Prediction) -> list[Answer]:
        """The answer for each row; numbers have as many digits as float32 carries."""
        rows = prediction.numbers.tolist()
        labels = [0] * len(rows) if prediction.labels is None else prediction.labels.tolist()
        names, templates, finite = self._labels, self._templates, math.isfinite
        return [
            (names[label], templates[label] % tuple(row) if all(map(finite, row)) else None)
            for label, row in zip(labels, rows, strict=True)
        ]

    def content(self, answers: Sequence[Answer]) -> bytes:
        """The body of a response.

        Raises:
            OverflowError: a prediction is not finite; JSON could not hold it.
        """
        try:
            texts = ",".join([text for _, text in answers])  # type: ignore[misc]
        except TypeError:
            raise OverflowError(OVERFLOW) from None
        return f'{{"predictions":[{texts}],"model_version":"{self.version}"}}'.encode()

    @cached_property
    def _labels(self) -> list[str]:
        return [label_text(label) for label in self.contract.classes] or ["value"]

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that stand for the graph and the contract: same training, same version."""
        return str(self.metadata["version"])


def _known(value: Any) -> Any:
    """None for NaN, and for NaT and NA of pandas; a number for a decimal one."""
    value = float(value) if isinstance(value, Decimal) else value
    missing = type(value).__name__ in ("NaTType", "NAType") or (isinstance(value, float) and math.isnan(value))
    return None if missing else value


def _plain(value: Any) -> Any:
    """A NumPy scalar as one of Python."""
    if isinstance(value, np.generic):
        value = value.astype("datetime64[us]") if isinstance(value, np.datetime64) else value
        return _known(value.item())
    raise TypeError(f"a row holds {type(value).__name__}: give it text, numbers, booleans, dates or None")


def significant(numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    """The numbers with as many significant digits as float32 carries, so that 0.1 reads 0.1."""
    exact = numbers.astype(np.float64)
    size = np.minimum(np.maximum(np.abs(exact), TINY), HUGE)  # zero and infinity have no logarithm
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(size)))
    rounded: NDArray[np.float64] = np.rint(exact * scale) / scale
    return rounded


def load(path: Path, threads: int = 1) -> Model:
    """Read and check a model file.

    Args:
        threads: how many threads one inference may use; none of them spins.

    Raises:
        UserError: the file is missing, damaged, not a model of this project, or of a newer contract version.
    """
    if not path.is_file():
        raise UserError(f"there is no model at {path}: train one with `make train`")
    try:
        # Without fallback: it would print to standard output and try the same again.
        session = onnxruntime.InferenceSession(path, _options(threads), providers=_providers(), enable_fallback=0)
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise UserError(f"{path} is no readable ONNX model ({_first_line(error)}): train it again") from None
    metadata = _metadata(session, path)
    model = Model(session, _contract(metadata, path), metadata)
    _check_shape(model, path)
    _check_outputs(model, path)
    return model


def _providers() -> list[str]:
    """What computes: a GPU where this onnxruntime has CUDA and can load it, else the CPU."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    onnxruntime.preload_dlls()
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _metadata(session: onnxruntime.InferenceSession, path: Path) -> dict[str, Any]:
    try:
        texts = session.get_modelmeta().custom_metadata_map
        metadata = {key: json.loads(text) for key, text in texts.items()}
    except ValueError:  # also bytes that are no UTF-8
        raise UserError(f"{path} has damaged metadata: train it again") from None
    if "contract" not in metadata or "version" not in metadata:
        raise UserError(f"{path} is an ONNX model of another origin: its metadata holds no contract")
    return metadata


def _contract(metadata: Mapping[str, Any], path: Path) -> Contract:
    document = metadata["contract"]
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise UserError(
            f"{path} has contract version {version}, but this server reads up to {VERSION}: update the server"
        )
    try:
        return Contract.model_validate(document)
    except pydantic.ValidationError as error:
        raise UserError(
            f"{path} holds a contract that this version cannot read ({error.error_count()} errors)"
        ) from None


def _check_shape(model: Model, path: Path) -> None:
    inputs = model.session.get_inputs()
    width = len(layout(model.contract).names)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or list(inputs[0].shape[1:]) != [width]:
        raise UserError(
            f"{path} does not fit its own contract: the graph should read one float matrix of {width} columns"
        )


def _check_outputs(model: Model, path: Path) -> None:
    """A first prediction, of a row of zeros, has the shapes and types that the contract promises."""
    classes = max(len(model.contract.classes), 1)
    labels = 1 if model.contract.task == "classification" else 0
    try:
        row = np.zeros((1, len(layout(model.contract).names)), dtype=np.float32)
        outputs = model.session.run(None, {model.session.get_inputs()[0].name: row})
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise UserError(f"{path} cannot predict ({_first_line(error)}): train it again") from None
    kinds = [np.asarray(output).dtype.kind for output in outputs]
    if kinds != ["i"] * labels + ["f"] or np.size(outputs[-1]) != classes:
        promised = f"labels and {classes} probabilities" if labels else "one value"
        raise UserError(f"{path} does not fit its own contract: the graph should give {promised} for each row")
