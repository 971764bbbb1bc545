"""The API answers what the contract allows, as the model predicts it, and refuses everything else."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tabserve.contract.model import Column
from tabserve.inference.model import Model
from tabserve.settings import ServeSettings

from .conftest import serving

FEATURES = 50  # of wide tables, the first ones are tried
UNREADABLE = {"boolean": "maybe", "integer": "many", "number": "many", "text": 1}  # "?!" for every other type


def allowed(column: Column) -> Iterator[Any]:
    """Values that the contract allows."""
    if column.missing:
        yield None
    if column.type == "boolean":
        yield from (True, False)
    yield from (column.categories[0], column.categories[-1]) if column.categories else ()
    yield from map(int if column.type == "integer" else float, column.range or ())


def refused(column: Column) -> Iterator[Any]:
    """Values that it does not."""
    yield from (value for value in wrong(column) if value is None or value not in (column.na_values or ()))


def wrong(column: Column) -> Iterator[Any]:
    """Values that are out of its range, or not of its type."""
    if not column.missing:
        yield None
    if not column.other:
        yield UNREADABLE.get(str(column.type), "?!")
    if column.range:
        yield column.range[0] - abs(column.range[0]) - 1


def rows(model: Model, row: dict[str, Any], values: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The row with one value changed, and the name of its column."""
    for name, column in list(model.contract.features.items())[:FEATURES]:
        for value in values(column):
            yield name, row | {name: value}


def test_rows_are_answered_as_the_model_predicts(client: TestClient, model: Model, row: dict[str, Any]) -> None:
    for name, changed in [("", row), *rows(model, row, allowed)]:
        answer = client.post("/predict", json=changed)
        assert answer.status_code == 200, (name, changed[name], answer.text)
        assert answer.json() == {"predictions": model.predict(changed), "model_version": model.version}


def test_a_list_is_answered_in_its_order(client: TestClient, model: Model, row: dict[str, Any]) -> None:
    many = [row, *(changed for _, changed in rows(model, row, allowed))][:50]
    assert client.post("/predict", json=many).json()["predictions"] == model.predict(many)


def test_what_breaks_the_contract_is_refused_by_name(client: TestClient, model: Model, row: dict[str, Any]) -> None:
    unknown = "no such column"
    for name, changed in [(unknown, row | {unknown: 1}), *rows(model, row, refused)]:
        answer = client.post("/predict", json=changed)
        assert answer.status_code == 422, (name, changed[name], answer.text)
        assert {problem["loc"][1] for problem in answer.json()["detail"]} == {name}


def test_openapi_shows_the_features(client: TestClient, model: Model) -> None:
    document = client.get("/openapi.json").json()
    assert list(document["components"]["schemas"]["Row"]["properties"]) == list(model.contract.features)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/model", "/docs"])
def test_the_other_paths_answer(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_an_api_key_is_required_where_one_is_set(settings: ServeSettings, row: dict[str, Any]) -> None:
    with serving(settings.model_copy(update={"api_key": SecretStr("a-long-secret")})) as client:
        assert client.post("/predict", json=row).status_code == 401
        assert client.post("/predict", json=row, headers={"X-API-Key": "a-long-secret"}).status_code == 200
