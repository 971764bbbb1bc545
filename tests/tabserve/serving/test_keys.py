"""Keys: who has one, what it opens, and what nobody learns without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, HTTPException
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tabserve import settings
from tabserve.errors import UserError
from tabserve.inference import model as models
from tabserve.serving.app import model_app
from tabserve.settings import ServeSettings
from tests.tabserve.conftest import Trained, wait_until_ready
from tests.tabserve.inference.test_model import changed
from tests.tabserve.serving.running import PREDICT, eventually, running
from tests.tabserve.serving.test_api import ONE_MODEL

KEY, OLD = "open-sesame", "the-key-before"
WITH_KEY = {"X-API-Key": KEY}
TELLING = ("enum", "const", "minimum", "maximum", "example", "examples", "description", "exclusiveMinimum", "maxLength")

pytestmark = ONE_MODEL


def secured(trained: Trained, **others: Any) -> ServeSettings:
    return ServeSettings(model=trained.model, api_key=SecretStr(KEY), **others)


def keys_in(shape: Any) -> set[str]:
    """All keywords of a JSON schema; the names of properties are none."""
    if isinstance(shape, list):
        return set().union(*map(keys_in, shape))
    if not isinstance(shape, dict):
        return set()
    parts = [*shape.get("properties", {}).values(), *(part for key, part in shape.items() if key != "properties")]
    return shape.keys() | set().union(*map(keys_in, parts))


def test_without_the_key_openapi_has_names_and_types_only(trained: Trained) -> None:
    with TestClient(model_app(secured(trained))) as client:
        wait_until_ready(client)
        closed = client.get("/openapi.json").json()
        wrong = client.get("/openapi.json", headers={"X-API-Key": "open-sesam"}).json()
        full = client.get("/openapi.json", headers=WITH_KEY).json()
    assert closed == wrong
    row, open_row = (document["components"]["schemas"]["Row"] for document in (closed, full))
    assert keys_in(row) & {*TELLING} == set()
    assert keys_in(open_row) >= {"enum", "minimum", "examples"}
    assert list(row["properties"]) == list(open_row["properties"]) == list(trained.contract.features)
    assert row["properties"]["rooms, total"]["type"] == "integer"
    assert row["required"] == open_row["required"]
    text = json.dumps(closed, ensure_ascii=False)
    labels = [label for column in trained.contract.columns.values() for label in column.categories]
    assert [label for label in labels if isinstance(label, str) and f'"{label}"' in text] == []
    assert closed["paths"][PREDICT]["post"]["security"] == [{"APIKeyHeader": []}]


def test_a_dependency_that_guards_the_model_closes_the_document_too(trained: Trained) -> None:
    def refuse() -> None:
        raise HTTPException(403)

    with TestClient(model_app(ServeSettings(model=trained.model), [Depends(refuse)])) as client:
        wait_until_ready(client)
        assert keys_in(client.get("/openapi.json").json()["components"]["schemas"]["Row"]) & {*TELLING} == set()


def test_two_keys_are_valid_during_a_rotation(trained: Trained) -> None:
    body = json.dumps(models.load(trained.model).example).encode()
    with running(secured(trained, api_key_previous=SecretStr(OLD))) as served:
        for key, status in ((KEY, 200), (OLD, 200), ("open-sesam", 401), (f"{KEY},{OLD}", 401), ("", 401)):
            headers = {"X-API-Key": key}
            assert served.ask("POST", PREDICT, body, headers)[0] == status
            assert served.ask("GET", "/model", b"", headers)[0] == status
        assert served.ask("POST", PREDICT, body)[0] == 401


@pytest.mark.parametrize("part", ["trailer", "query", "cookie", "body"])
def test_a_key_counts_only_as_a_header(trained: Trained, part: str) -> None:
    row = models.load(trained.model).example
    body = json.dumps(row | ({"X-API-Key": KEY} if part == "body" else {})).encode()
    path = PREDICT + (f"?X-API-Key={KEY}" if part == "query" else "")
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    lines += [f"Cookie: X-API-Key={KEY}"] if part == "cookie" else []
    end = f"0\r\nX-API-Key: {KEY}\r\n\r\n" if part == "trailer" else "0\r\n\r\n"
    lines += ["Trailer: X-API-Key"] if part == "trailer" else []
    request = "\r\n".join([*lines, "", ""]).encode() + b"%x\r\n" % len(body) + body + b"\r\n" + end.encode()
    with running(secured(trained)) as served, served.connection() as connection:
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")


UNUSABLE = {"missing": None, "empty": "", "blank": "  \n", "short": "abc", "with a blank": "open sesame"}


@pytest.mark.parametrize("key", UNUSABLE.values(), ids=UNUSABLE)
def test_a_server_that_needs_a_key_is_never_ready_without(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.setenv("SERVE_REQUIRE_API_KEY", "true")
    if key is not None:
        monkeypatch.setenv("SERVE_API_KEY", key)
    configured = settings.load(ServeSettings).model_copy(update={"model": trained.model})
    body = json.dumps(models.load(trained.model).example).encode()
    with running(configured, wait=False) as served:
        eventually(lambda: b"API key" in served.ask("GET", "/readyz")[2])
        assert served.ask("GET", "/readyz")[0] == 503
        assert served.ask("GET", "/livez")[0] == 200
        status, headers, text = served.ask("POST", PREDICT, body, {"X-API-Key": key.strip() if key else ""})
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"SERVE_API_KEY" in text
        assert served.ask("GET", "/model")[0] == 503


def test_a_server_that_needs_a_key_works_with_it(trained: Trained) -> None:
    body = json.dumps(models.load(trained.model).example).encode()
    with running(secured(trained, require_api_key=True)) as served:
        assert served.ask("POST", PREDICT, body, WITH_KEY)[0] == 200
        assert served.ask("POST", PREDICT, body)[0] == 401


def test_an_unusable_key_that_nothing_requires_stops_the_start(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SERVE_API_KEY", "SERVE_API_KEY_PREVIOUS"):
        for key in ("", "short"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, key)
                with pytest.raises(UserError, match="should have 8 or more printable") as error:
                    settings.load(ServeSettings)
            assert not key or key not in str(error.value)


def test_a_private_column_tells_nothing_of_its_values(trained: Trained, tmp_path: Path) -> None:
    hidden = ("rooms, total", 'city "name"')
    columns = trained.contract.columns
    private = {name: columns[name].model_copy(update={"private": True}) for name in hidden}
    contract = trained.contract.model_copy(update={"columns": columns | private})

    def change(metadata: dict[str, Any]) -> None:
        metadata["contract"] = contract.model_dump(mode="json", exclude_defaults=True) | {"version": 1}

    (tmp_path / "model.onnx").write_bytes(changed(trained.outcome.model, change))
    loaded = models.load(tmp_path / "model.onnx")
    with TestClient(model_app(ServeSettings(model=tmp_path / "model.onnx"))) as client:
        wait_until_ready(client)
        row = client.get("/openapi.json").json()["components"]["schemas"]["Row"]
        for name in hidden:
            assert keys_in(row["properties"][name]) & {*TELLING} == set()
        assert "minimum" in keys_in(row["properties"]["Wohnfläche (m²)"])
        assert client.post(PREDICT, json=loaded.example).status_code == 200
        for name, value in zip(hidden, (10**6, "Rom"), strict=True):
            (problem,) = client.post(PREDICT, json=loaded.example | {name: value}).json()["detail"]
            assert problem["loc"] == ["body", name]
            assert problem["msg"] == "Input is not a value that the contract allows"
        shown = client.get("/model").json()
    assert shown["example"] is None
    assert "examples" not in row
    for name in hidden:
        assert shown["contract"]["columns"][name].keys() <= {"role", "type", "missing"}
        assert name not in shown["baselines"]
    assert loaded.metadata["baselines"].keys() >= set(hidden)
