import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
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
from tabserve.settings import ModelSettings, ServeSettings
from tests.tabserve.conftest import SOURCE, Trained
from tests.tabserve.serving.test_api import ONE_MODEL


def changed(model: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The model file with other metadata."""
    graph = onnx.load_from_string(model)
    metadata = {prop.key: json.loads(prop.value) for prop in graph.metadata_props}
    change(metadata)
    helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    return written(graph)


def written(graph: Any) -> bytes:
    """The file of a graph with a right digest in the place of its old one."""
    for position, prop in reversed(list(enumerate(graph.metadata_props))):
        if prop.key == "digest":
            del graph.metadata_props[position]
    content = bytes(graph.SerializeToString())
    return content + models.seal(content)


def foreign() -> bytes:
    """An ONNX model that this project did not make, with a digest."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [value], [out])
    opset = helper.make_opsetid("", 21)
    return written(helper.make_model(graph, opset_imports=[opset], ir_version=10))


def endless(model: bytes) -> bytes:
    """The model file with a loop that never ends before its last output."""
    made = onnx.load_from_string(model)
    graph, name = made.graph, made.graph.output[-1].name
    node = next(node for node in graph.node if name in node.output)
    node.output[list(node.output).index(name)] = "inside"
    scalar = [helper.make_tensor_value_info("go", TensorProto.BOOL, []), helper.make_tensor_value_info("v", 1, None)]
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    ends = [helper.make_tensor_value_info("go2", TensorProto.BOOL, []), helper.make_tensor_value_info("v2", 1, None)]
    same = [helper.make_node("Identity", [one.name], [one.name + "2"]) for one in scalar]
    body = helper.make_graph(same, "body", [step, *scalar], ends)
    graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    graph.node.append(helper.make_node("Loop", ["", "true", "inside"], [name], body=body))
    return written(made)


def with_external_data(model: bytes, folder: Path) -> bytes:
    """The model file with a weight that lies in a file of the folder."""
    made = onnx.load_from_string(model)
    weight = np.zeros(1_000, np.float32)
    (folder / "weights.bin").write_bytes(weight.tobytes())
    tensor = helper.make_tensor("weight", TensorProto.FLOAT, [1_000], weight.tobytes(), raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "4000")):
        tensor.external_data.add(key=key, value=value)
    made.graph.initializer.append(tensor)
    last = made.graph.output[-1].name
    node = next(node for node in made.graph.node if last in node.output)
    node.output[list(node.output).index(last)] = "inside"
    made.graph.node.append(helper.make_node("ReduceSum", ["weight"], ["sum"], keepdims=0))
    made.graph.node.append(helper.make_node("Add", ["inside", "sum"], [last]))
    return written(made)


def other_target() -> dict[str, Any]:
    """The columns of a contract whose target has more classes than any of the models."""
    columns: dict[str, Any] = {
        name: {"role": "feature", "type": "number", "missing": True} for name in map(str, range(13))
    }
    columns["y"] = {"role": "target", "type": "category", "categories": list(range(9))}
    return {"task": "classification", "columns": columns}


CHANGED = "was changed after it was trained, or is damaged"
BROKEN: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "missing": (lambda model: None, "there is no model at"),
    "empty": (lambda model: b"", CHANGED),
    "truncated": (lambda model: model[: len(model) // 2], CHANGED),
    "no graph": (lambda model: b"text" + models.seal(b"text"), "not a valid ONNX model"),
    "text": (lambda model: b"version https://git-lfs.github.com/spec/v1\n", CHANGED),
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
    "no text": (
        lambda model: (
            (content := model[: -models.SEAL_BYTES].replace(b'"reason', b'"\xffeason')) + models.seal(content)
        ),
        "has damaged metadata",
    ),
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


def damaged(model: bytes) -> Iterator[bytes]:
    """The file with one bit flipped, 400 times, and with other changes."""
    chance = random.Random(0)
    for _ in range(400):
        flipped = bytearray(model)
        flipped[chance.randrange(len(model))] ^= 1 << chance.randrange(8)
        yield bytes(flipped)
    for end in (1, models.SEAL_BYTES - 1, models.SEAL_BYTES, models.SEAL_BYTES + 1, 1_000, len(model) - 1):
        yield model[:-end]
    yield from (model + b"\0", model + model[-models.SEAL_BYTES :], b"\0" + model, b"", b"\0" * 200, model + model)
    yield model + models.seal(model)[:-1] + b"'"


@ONE_MODEL
def test_every_change_is_noticed_before_the_file_is_parsed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_session", lambda *arguments: pytest.fail("it was parsed"))
    path = tmp_path / "model.onnx"
    for content in damaged(trained.outcome.model):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"^{path} {CHANGED} or of an older version: train it again with `.*`$"):
            models.load(path)


@ONE_MODEL
def test_a_model_is_still_one_for_onnx(trained: Trained, tmp_path: Path) -> None:
    graph = onnx.load_from_string(trained.outcome.model)
    onnx.checker.check_model(graph)
    last = graph.metadata_props[-1]
    assert (last.key, len(json.loads(last.value))) == ("digest", 64)
    onnx.save(graph, tmp_path / "model.onnx")
    assert models.load(tmp_path / "model.onnx").metadata["digest"] == json.loads(last.value)
    graph.doc_string = "mine"
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(UserError, match=CHANGED):
        models.load(tmp_path / "model.onnx")


@ONE_MODEL
def test_weights_are_never_read_from_another_file(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.onnx"
    path.write_bytes(with_external_data(trained.outcome.model, tmp_path))
    with pytest.raises(UserError, match=r"is not a valid ONNX model \(.*External data") as error:
        models.load(path)
    assert "\n" not in str(error.value)


@ONE_MODEL
def test_a_file_that_is_replaced_while_it_is_loaded_is_loaded_whole(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, session = tmp_path / "model.onnx", models._session
    path.write_bytes(trained.outcome.model)

    def replaced(*arguments: Any) -> Any:
        path.write_bytes(b"another")
        return session(*arguments)

    monkeypatch.setattr(models, "_session", replaced)
    assert models.load(path).version == trained.outcome.version


@ONE_MODEL
def test_a_model_of_another_project_is_rejected(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(changed(trained.outcome.model, lambda metadata: metadata.update(project="churn")))
    assert models.load(path, project="churn").metadata["project"] == "churn"
    assert models.load(path).metadata["project"] == "churn"
    with pytest.raises(UserError, match=r"is a model of the project 'churn', and this is 'loans' \(\[serve\] project"):
        models.configured(ModelSettings(model=path, project="loans"))


def test_every_task_and_the_server_load_the_model_that_the_settings_name() -> None:
    """`load` itself does not know the project's name."""
    sources = (path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
    callers = {name for name in sources if re.search(r"\bmodels?\.load\(", (SOURCE / name).read_text())}
    assert callers == {"tabserve/__init__.py"}


@ONE_MODEL
def test_a_graph_that_never_ends_is_given_up(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "FIRST", 0.5)
    path = tmp_path / "model.onnx"
    path.write_bytes(endless(trained.outcome.model))
    before = threading.active_count()
    with pytest.raises(UserError, match=r"makes no prediction within 0.5 s: train it again$"):
        models.load(path)
    assert threading.active_count() == before, "it goes on in the background"


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model at"):
        models.load(tmp_path)
