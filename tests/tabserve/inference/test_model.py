import json
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper

from tabserve.errors import UserError
from tabserve.inference import model as models
from tabserve.serving.app import model_app
from tabserve.settings import ServeSettings
from tests.tabserve.conftest import Trained


def changed(model: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The model file with other metadata."""
    graph = onnx.load_from_string(model)
    metadata = {prop.key: json.loads(prop.value) for prop in graph.metadata_props}
    change(metadata)
    helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    return bytes(graph.SerializeToString())


def foreign() -> bytes:
    """An ONNX model that this project did not make."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [value], [out])
    opset = helper.make_opsetid("", 21)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString())


def other_target() -> dict[str, Any]:
    """The columns of a contract whose target has more classes than any of the models."""
    columns: dict[str, Any] = {
        name: {"role": "feature", "type": "number", "missing": True} for name in map(str, range(13))
    }
    columns["y"] = {"role": "target", "type": "category", "categories": list(range(9))}
    return {"task": "classification", "columns": columns}


BROKEN: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "missing": (lambda model: None, "there is no model at"),
    "empty": (lambda model: b"", "not a valid ONNX model"),
    "truncated": (lambda model: model[: len(model) // 2], "not a valid ONNX model"),
    "text": (lambda model: b"version https://git-lfs.github.com/spec/v1\n", "not a valid ONNX model"),
    "foreign": (lambda model: foreign(), "an ONNX model of another origin"),
    "newer": (
        lambda model: changed(model, lambda metadata: metadata["contract"].update(version=2)),
        "has contract version 2, but this server reads up to 1",
    ),
    "unknown contract": (
        lambda model: changed(model, lambda metadata: metadata["contract"].update(task="clustering")),
        "holds a contract that this version cannot read",
    ),
    "other columns": (
        lambda model: changed(model, lambda metadata: metadata["contract"]["columns"].pop("warm?")),
        "does not fit its own contract",
    ),
    "other classes": (
        lambda model: changed(model, lambda metadata: metadata["contract"].update(other_target())),
        " its own ",
    ),
    "no text": (lambda model: model.replace(b'"reason', b'"\xffeason'), "has damaged metadata"),
    "no example": (lambda model: changed(model, lambda metadata: metadata.pop("example")), "rejects its own example"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_never_becomes_ready(
    name: str, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, message = BROKEN[name]
    path = tmp_path / "model.onnx"
    content = make(trained.outcome.model)
    if content is not None:
        path.write_bytes(content)
    with caplog.at_level(logging.ERROR), TestClient(model_app(ServeSettings(model=path))) as client:
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert message in answer.json()["detail"]
        assert client.get("/livez").status_code == 200
        for refused in (client.post("/predict", json={}), client.get("/model")):
            assert refused.status_code == 503
            assert message in refused.json()["detail"]
        assert client.get("/openapi.json").status_code == 200
    (record,) = caplog.records
    assert message in record.getMessage()
    assert "\n" not in record.getMessage()


def test_loaded_model_agrees_with_the_pipeline(trained: Trained) -> None:
    model = models.load(trained.model)
    matrix = trained.outcome.held_out.matrix
    prediction = model.run(matrix)
    if prediction.labels is None:
        expected = trained.outcome.pipeline.predict(matrix)
        assert np.allclose(prediction.numbers[:, 0], expected, rtol=1e-4)
    else:
        assert np.abs(prediction.numbers - trained.outcome.pipeline.predict_proba(matrix)).max() <= 1e-4
        assert (prediction.labels == trained.outcome.pipeline.predict(matrix)).all()


def test_numbers_read_as_float32_means_them() -> None:
    raw = np.array([[0.1, 1 / 3, 0.0, 123456.78, -1e-20, 1e30]], dtype=np.float32)
    assert models.significant(raw).tolist() == [[0.1, 0.3333333, 0.0, 123456.8, -1e-20, 1e30]]


def test_damaged_bytes_get_one_line(trained: Trained, tmp_path: Path) -> None:
    chance = random.Random(0)
    path = tmp_path / "model.onnx"
    for _ in range(300):
        damaged = bytearray(trained.outcome.model)
        for _ in range(chance.randint(1, 20)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            models.load(path)
        except UserError as error:
            assert "\n" not in str(error)


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model at"):
        models.load(tmp_path)
