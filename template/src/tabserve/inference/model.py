"""The model file: an ONNX graph from the encoded matrix to predictions, with metadata.

Metadata (JSON in ONNX `metadata_props`): `contract`, `version`, `metrics`, `versions`, `data_sha256`, `git_commit`,
`example` (a made row, null if it would be one of the table's) and `baselines` (the training distribution of each feature).
Only onnxruntime, numpy and pydantic are needed to read it.
"""

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
from tabserve.errors import UserError, first_line

DIGITS = 7  # what float32 carries
NUMBER = f"%.{DIGITS}g"
TINY, HUGE = 1e-60, 1e60  # beyond every float32
# The answer for a row: its label as text, `value` for a regression; and JSON, None if a number is not finite.
Answer = tuple[str, str | None]
OVERFLOW = "a value is so large that the prediction is not a finite number"


class Prediction(NamedTuple):
    """Predictions for some rows."""

    labels: NDArray[np.int64] | None  # class positions of shape (rows,) for a classification, else None
    numbers: NDArray[np.float32]  # probabilities of shape (rows, classes), or values of shape (rows, 1)


@dataclass(frozen=True)
class Model:
    """A loaded model file."""

    session: onnxruntime.InferenceSession
    contract: Contract
    metadata: Mapping[str, Any]

    @cached_property
    def version(self) -> str:
        """Twelve hex digits, the digest of the graph and the contract."""
        return str(self.metadata["version"])

    @cached_property
    def example(self) -> Row:
        """A row that the API accepts, typical where training could make one."""
        values = {name: schema.any_value(column) for name, column in self.contract.features.items()}
        return self.metadata["example"] or schema.json_row(self.contract, values)

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The metadata, without ranges, categories and distributions of private columns."""
        private = [name for name, column in self.contract.columns.items() if column.private]
        columns = self.metadata["contract"]["columns"]
        kept = {name: {key: columns[name][key] for key in ("role", "type", "missing") if key in columns[name]} for name in private}
        baselines = {name: each for name, each in self.metadata["baselines"].items() if name not in private}
        contract = self.metadata["contract"] | {"columns": columns | kept}
        return {**self.metadata, "contract": contract, "baselines": baselines}

    @cached_property
    def encode(self) -> Callable[[Sequence[Mapping[str, Any]]], Matrix]:
        """Encodes validated rows as the matrix that the graph reads."""
        return row_encoder(self.contract)

    @cached_property
    def _names(self) -> tuple[list[str], str]:
        """The names of the outputs and of the input of the graph."""
        return [output.name for output in self.session.get_outputs()], str(self.session.get_inputs()[0].name)

    @cached_property
    def _labels(self) -> list[str]:
        return [label_text(label) for label in self.contract.classes] or ["value"]

    @cached_property
    def _adapter(self) -> pydantic.TypeAdapter[list[Row]]:
        return schema.rows_adapter(self.contract)

    @cached_property
    def _templates(self) -> list[str]:
        """For each class, or for a regression, the JSON of a prediction with `%` for the numbers."""
        if self.contract.task == "regression":
            return ['{"value":' + NUMBER + "}"]
        labels = [json.dumps(label, ensure_ascii=False).replace("%", "%%") for label in self.contract.classes]
        keys = [label if label.startswith('"') else f'"{label}"' for label in labels]
        probabilities = ",".join(f"{key}:{NUMBER}" for key in keys)
        return ['{"label":' + label + ',"probabilities":{' + probabilities + "}}" for label in labels]

    def predict(self, rows: Row | Sequence[Row]) -> list[dict[str, Any]]:
        """Predict for one row or several, with the checks and the answers of the API.

        Dates may be text or dates, and numbers those of NumPy; NaN, NaT and NA are missing values. Raises `UserError`
        if a row breaks the contract, or a prediction is not finite.
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

    def run(self, matrix: Matrix) -> Prediction:
        """Predict for an encoded matrix of shape (rows, matrix columns)."""
        names, features = self._names
        outputs = self.session.run(names, {features: matrix})
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
        """The body of a response; raises `OverflowError` if a prediction is not finite: JSON could not hold it."""
        try:
            texts = ",".join([text for _, text in answers])  # type: ignore[misc]
        except TypeError:
            raise OverflowError(OVERFLOW) from None
        return f'{{"predictions":[{texts}],"model_version":"{self.version}"}}'.encode()


def _known(value: Any) -> Any:
    """None for NaN, and for NaT and NA of pandas; a float for a decimal."""
    value = float(value) if isinstance(value, Decimal) else value
    missing = type(value).__name__ in ("NaTType", "NAType") or (isinstance(value, float) and math.isnan(value))
    return None if missing else value


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python value."""
    if isinstance(value, np.generic):
        value = value.astype("datetime64[us]") if isinstance(value, np.datetime64) else value
        return _known(value.item())
    raise TypeError(f"a row holds {type(value).__name__}: give it text, numbers, booleans, dates or None")


def significant(numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    """The numbers with the digits that float32 carries, so that 0.1 is written as 0.1."""
    exact = numbers.astype(np.float64)
    size = np.minimum(np.maximum(np.abs(exact), TINY), HUGE)  # zero and infinity have no logarithm
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(size)))
    rounded: NDArray[np.float64] = np.rint(exact * scale) / scale
    return rounded


def load(path: Path, threads: int = 1) -> Model:
    """Read and check a model file.

    Raises `UserError` if it is missing, damaged, not a model of this project, or has a newer contract version.
    """
    if not path.is_file():
        raise UserError(f"there is no model at {path}: train one with `make train`")
    try:
        session = _session(path, threads)
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise UserError(f"{path} is not a valid ONNX model ({first_line(error)}): train it again") from None
    try:
        texts = session.get_modelmeta().custom_metadata_map
        metadata = {key: json.loads(text) for key, text in texts.items()}
    except ValueError:  # also bytes that are not UTF-8
        raise UserError(f"{path} has damaged metadata: train it again") from None
    if "contract" not in metadata or "version" not in metadata:
        raise UserError(f"{path} is an ONNX model of another origin: its metadata holds no contract")
    model = Model(session, _contract(metadata["contract"], path), metadata)
    _check(model, path)
    return model


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on a GPU if this onnxruntime has CUDA and can load it, else on the CPU."""
    providers = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    # Without fallback: it would print to standard output and try the same again.
    return onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)


def _contract(document: Any, path: Path) -> Contract:
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > VERSION:
        known = f"this server reads up to {VERSION}: update the server"
        raise UserError(f"{path} has contract version {version}, but {known}")
    try:
        return Contract.model_validate(document)
    except pydantic.ValidationError as error:
        errors = error.error_count()
        raise UserError(f"{path} holds a contract that this version cannot read ({errors} errors)") from None


def _check(model: Model, path: Path) -> None:
    """Check that a prediction for zeros has the types and shapes that the contract promises."""
    width, classes = len(layout(model.contract).names), len(model.contract.classes)
    expected = [("i", 1), ("f", classes)] if classes else [("f", 1)]
    try:
        (graph_input,) = model.session.get_inputs()
        outputs = model.session.run(None, {graph_input.name: np.zeros((1, width), dtype=np.float32)})
        found = [(output.dtype.kind, output.size) for output in map(np.asarray, outputs)]
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise UserError(f"{path} does not fit its own contract ({first_line(error)}): train it again") from None
    if found != expected:
        raise UserError(f"{path} does not fit its own contract, which has {classes} classes: train it again")
