"""The model file: an ONNX graph from the encoded matrix to predictions, with metadata.

Metadata (JSON in ONNX `metadata_props`): `contract`, `version`, `project`, `metrics`, `versions`, `data_sha256`,
`git_commit`, `example` (a made row, or null), `baselines` (the training distribution of each feature) and, at
the very end of the file, `digest`, the SHA-256 of all bytes before it.
Only onnxruntime, numpy and pydantic are needed to read it.
"""

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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
from tabserve.settings import ModelSettings

DIGITS = 7  # what float32 carries
NUMBER = f"%.{DIGITS}g"
TINY, HUGE = 1e-60, 1e60  # beyond every float32
# The answer for a row: its label as text, `value` for a regression; and JSON, None if a number is not finite.
Answer = tuple[str, str | None]
OVERFLOW = "a value is so large that the prediction is not a finite number"
# The last field of the file, in the encoding of Protocol Buffers: one more entry of `metadata_props`, with a JSON text.
SEAL = b'r\x4c\n\x06digest\x12\x42"%s"'
SEAL_BYTES = 78
FIRST, ABORT = 60.0, 5.0  # seconds that loading and a first prediction may take, and the end of one that is aborted

T = TypeVar("T")


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

    @property
    def example(self) -> Row:
        """A row that the API accepts, typical where training could make one."""
        values = {name: schema.any_value(column) for name, column in self.contract.features.items()}
        return dict(self.metadata["example"] or schema.json_row(self.contract, values))

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The metadata, without what tells of private columns: ranges, categories, distributions, an example."""
        private = [name for name, column in self.contract.columns.items() if column.private]
        columns = self.metadata["contract"]["columns"]
        kept = {
            name: {key: columns[name][key] for key in ("role", "type", "missing") if key in columns[name]}
            for name in private
        }
        example = None if private else self.metadata["example"]
        baselines = {name: each for name, each in self.metadata["baselines"].items() if name not in private}
        contract = self.metadata["contract"] | {"columns": columns | kept}
        return {**self.metadata, "contract": contract, "baselines": baselines, "example": example}

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


def configured(settings: ModelSettings) -> Model:
    """The model that the settings name; see `load`."""
    return load(settings.model, settings.threads, settings.project)


def load(path: Path, threads: int = 1, project: str = "") -> Model:
    """Read and check a model file, of this `project` where one is given.

    Raises `UserError` if it is missing, not as it was trained, of another project or a newer contract version, or makes
    no prediction.
    """
    if not path.is_file():
        raise UserError(f"there is no model at {path}: train one with `make train`")
    try:
        content = path.read_bytes()  # once: another file may take its place meanwhile
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    if content[-SEAL_BYTES:] != seal(memoryview(content)[:-SEAL_BYTES]):
        age = "was changed after it was trained, or is damaged or of an older version"
        raise UserError(f"{path} {age}: train it again with `make train FORCE=1`")
    try:
        return _within(FIRST, lambda options: _loaded(content, path, threads, project, options))
    except TimeoutError:
        raise UserError(f"{path} makes no prediction within {FIRST:g} s: train it again") from None


def seal(content: bytes | memoryview) -> bytes:
    """What ends the model file that begins with `content`: the digest of all that is before it."""
    return SEAL % hashlib.sha256(content).hexdigest().encode()


def _within(seconds: float, work: Callable[[onnxruntime.RunOptions], T]) -> T:
    """What `work` returns; `TimeoutError` if that takes longer. A graph may have a loop that never ends."""
    options, outcome = onnxruntime.RunOptions(), Future[T]()

    def run() -> None:
        try:
            outcome.set_result(work(options))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        options.terminate = True  # or it would take a core, and abort the process at its end
        thread.join(ABORT)
        raise


def _loaded(content: bytes, path: Path, threads: int, project: str, options: onnxruntime.RunOptions) -> Model:
    try:
        session = _session(content, path, threads)
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise UserError(f"{path} is not a valid ONNX model ({first_line(error)}): train it again") from None
    try:
        texts = session.get_modelmeta().custom_metadata_map
        metadata = {key: json.loads(text) for key, text in texts.items()}
    except ValueError:  # also bytes that are not UTF-8
        raise UserError(f"{path} has damaged metadata: train it again") from None
    if "contract" not in metadata or "version" not in metadata:
        raise UserError(f"{path} is an ONNX model of another origin: its metadata holds no contract")
    if project and (name := metadata.get("project", "")) != project:
        here = f"this is {project!r} ([serve] project in config.toml)"
        fix = "train it here with `make train FORCE=1`, or correct the name"
        raise UserError(f"{path} is a model of the project {name!r}, and {here}: {fix}")
    model = Model(session, _contract(metadata["contract"], path), metadata)
    _check(model, path, options)
    return model


def _session(content: bytes, path: Path, threads: int) -> onnxruntime.InferenceSession:
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
    # Weights are never read from other files: without a folder, they would be from the current one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path / "none"))
    # Without fallback: it would print to standard output and try the same again.
    session = onnxruntime.InferenceSession(content, options, providers=providers, enable_fallback=0)
    session._model_bytes = None  # kept only for a fallback
    return session


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


def _check(model: Model, path: Path, options: onnxruntime.RunOptions) -> None:
    """Check that a prediction for zeros has the types and shapes that the contract promises."""
    width, classes = len(layout(model.contract).names), len(model.contract.classes)
    expected = [("i", 1), ("f", classes)] if classes else [("f", 1)]
    try:
        (graph_input,) = model.session.get_inputs()
        outputs = model.session.run(None, {graph_input.name: np.zeros((1, width), dtype=np.float32)}, options)
        found = [(output.dtype.kind, output.size) for output in map(np.asarray, outputs)]
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise UserError(f"{path} does not fit its own contract ({first_line(error)}): train it again") from None
    if found != expected:
        raise UserError(f"{path} does not fit its own contract, which has {classes} classes: train it again")
