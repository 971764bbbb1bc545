import asyncio
import datetime as dt
import gc
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from tabserve.contract import schema
from tabserve.contract.model import MISSING, Column, Contract
from tabserve.serving.app import model_app
from tabserve.settings import ServeSettings
from tests.tabserve.conftest import Trained, example, wait_until_ready
from tests.tabserve.serving.running import eventually

ONE_MODEL = pytest.mark.parametrize("trained", ["bought"], indirect=True)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(client: TestClient, body: Any, status: int = 422) -> list[dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/predict", content=content)
    assert answer.status_code == status, answer.text
    problems: list[dict[str, Any]] = answer.json()["detail"]
    return problems


def test_the_example_of_openapi_works(client: TestClient, trained: Trained) -> None:
    row = example(client)
    one = client.post("/predict", json=row).json()
    many = client.post("/predict", json=[row, row]).json()
    assert one["model_version"] == many["model_version"] == trained.outcome.version
    assert many["predictions"] == one["predictions"] * 2
    if trained.contract.task == "regression":
        assert set(one["predictions"][0]) == {"value"}
    else:
        prediction = one["predictions"][0]
        assert prediction["label"] in trained.contract.classes
        assert math.isclose(sum(prediction["probabilities"].values()), 1, abs_tol=1e-5)
        assert prediction["label"] == max(prediction["probabilities"], key=prediction["probabilities"].get)


def test_openapi_shows_the_contract(client: TestClient, trained: Trained) -> None:
    document = client.get("/openapi.json").json()
    row = document["components"]["schemas"]["Row"]
    assert list(row["properties"]) == list(trained.contract.features)
    assert row["required"] == [name for name, column in trained.contract.features.items() if not column.missing]
    assert row["additionalProperties"] is False
    assert row["properties"]["rooms, total"]["type"] == "integer"
    assert row["properties"]["rooms, total"]["minimum"] == 0
    city = row["properties"]['city "name"']["anyOf"][0]
    assert set(city["enum"]) == {"Köln", "São Paulo", "北京", 'O"Hara', "a,b"}
    assert row["examples"] == [example(client)]


def test_title_and_description_are_settings(trained: Trained) -> None:
    settings = ServeSettings(model=trained.model, title="Größe", description="What it does.")
    with TestClient(model_app(settings)) as client:
        info = client.get("/openapi.json").json()["info"]
        assert (info["title"], info["description"]) == ("Größe", "What it does.")


def test_missing_values_may_be_null_or_absent(client: TestClient) -> None:
    row = example(client)
    absent = {name: value for name, value in row.items() if name != "Wohnfläche (m²)"}
    null = row | {"Wohnfläche (m²)": None}
    assert client.post("/predict", json=absent).json() == client.post("/predict", json=null).json()


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"rooms, total": 2.5}, "rooms, total", "valid integer"),
        ({"rooms, total": 1e-42}, "rooms, total", "valid integer"),
        ({"rooms, total": "3"}, "rooms, total", "valid number"),
        ({"rooms, total": True}, "rooms, total", "valid number"),
        ({"rooms, total": None}, "rooms, total", "valid number"),
        ({"rooms, total": -1}, "rooms, total", "greater than or equal to 0"),
        ({"rooms, total": 10**30}, "rooms, total", "less than or equal to"),
        ({"Wohnfläche (m²)": math.nan}, "Wohnfläche (m²)", "finite"),
        ({"Wohnfläche (m²)": math.inf}, "Wohnfläche (m²)", "finite"),
        ({"Wohnfläche (m²)": -math.inf}, "Wohnfläche (m²)", "finite"),
        ({"Wohnfläche (m²)": []}, "Wohnfläche (m²)", "valid number"),
        ({'city "name"': "Atlantis"}, 'city "name"', "Köln"),
        ({'city "name"': 3}, 'city "name"', "Köln"),
        ({"warm?": 1}, "warm?", "valid boolean"),
        ({"warm?": "yes"}, "warm?", "valid boolean"),
        ({"seit": "31.12.2020"}, "seit", "date"),
        ({"seit": "2020-02-31"}, "seit", "date"),
        ({"last.seen": "noon"}, "last.seen", "valid date and time"),
        ({"Uhrzeit": "25:00"}, "Uhrzeit", "valid time of day"),
        ({"Uhrzeit": 12}, "Uhrzeit", "valid time of day"),
        ({"remark": 1}, "remark", "valid string"),
        ({"remark": " n/a "}, "remark", "means that there is no value"),
        ({"remark": "x" * 20_001}, "remark", "at most 20000 characters"),
        ({"unknown": 1}, "unknown", "not permitted"),
    ],
)
def test_a_bad_field_is_named(client: TestClient, change: dict[str, Any], field: str, message: str) -> None:
    row = example(client) | change
    (problem,) = refused(client, row)
    assert problem["loc"] == ["body", field]
    assert message in problem["msg"]
    (second,) = refused(client, [example(client), row])
    assert second["loc"] == ["body", 1, field]


def test_a_missing_field_is_named(client: TestClient) -> None:
    row = example(client)
    del row["rooms, total"]
    assert refused(client, row) == [{"type": "missing", "loc": ["body", "rooms, total"], "msg": "Field required"}]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 422, "json_invalid"),
        (b"[]", 422, "too_short"),
        (b"{", 422, "json_invalid"),
        (b"age=3", 422, "json_invalid"),
        (b"null", 422, "dict_type"),
        (b"[1]", 422, "dict_type"),
        (b'"\xff\xfe"', 422, "json_invalid"),
        ("{}".encode("utf-16"), 422, "json_invalid"),
        (b"[" * 50_000, 422, "json_invalid"),
        (b'{"a":' * 15_000, 422, "json_invalid"),
        (b"[" + b"{}," * 60 + b"{}]", 422, "missing"),
        (b'{"rooms, total": ' + b"9" * 5_000 + b"}", 422, "json_invalid"),
        (b'{"\\ud800": 1}', 422, "json_invalid"),
        (b" " * 100_001, 413, "body_too_large"),
    ],
)
def test_a_bad_body_is_refused(client: TestClient, body: bytes, status: int, kind: str) -> None:
    problems = refused(client, body, status)
    assert problems[0]["type"] == kind
    assert len(problems) <= 100


def test_too_many_rows(client: TestClient) -> None:
    (problem,) = refused(client, [example(client)] * 51)
    assert (problem["type"], problem["loc"]) == ("too_long", ["body"])
    assert "at most 50 items" in problem["msg"]


def test_a_long_bad_list_costs_no_more_than_its_first_row(trained: Trained) -> None:
    with TestClient(model_app(ServeSettings(model=trained.model, max_body_bytes=2**22))) as client:
        wait_until_ready(client)
        problems = refused(client, b"[" + b"{}," * 1_000_000 + b"{}]")
    assert {problem["loc"][1] for problem in problems} == {0}


MANY = 40_000
HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unknown keys": lambda row: row | {f"u{number}": 0 for number in range(MANY)},
    "unknown keys before others": lambda row: {f"u{number}": 0 for number in range(MANY)} | row,
    "unknown keys in a later row": lambda row: [row, row | {f"u{number}": 0 for number in range(MANY)}, row],
    "a list for a number": lambda row: row | {"rooms, total": [1] * MANY},
    "an object for a date": lambda row: [row, {"seit": {str(number): 1 for number in range(MANY)}}],
    "a list for a row": lambda row: [row, [1] * MANY],
    "lists for rows": lambda row: [[]] * MANY,
    "numbers for rows": lambda row: [1] * MANY,
    "empty rows": lambda row: [{}] * MANY,
    "good rows, but too many": lambda row: [row] * 2_000,
    "bad rows behind too many": lambda row: [row] * 1_000 + [{}] * MANY,
    "objects in a list for a number": lambda row: row | {"rooms, total": [{}] * MANY},
    "objects in an object for an unknown key": lambda row: row | {"u": {str(number): {} for number in range(MANY)}},
    "lists in lists for a date": lambda row: [row, row | {"seit": [[[]], {"": [0]}] * MANY}],
    "objects in a list for a row": lambda row: [[{}] * MANY],
}


@pytest.fixture(scope="module")
def usual(trained: Trained) -> Iterator[TestClient]:
    """With the limits that a server has by default."""
    with TestClient(model_app(ServeSettings(model=trained.model))) as client:
        wait_until_ready(client)
        yield client


@ONE_MODEL
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_very_many_problems_cost_no_more_than_those_that_are_listed(
    usual: TestClient, trained: Trained, hostile: Callable[[dict[str, Any]], Any]
) -> None:
    body = json.dumps(hostile(example(usual))).encode()
    found = refused(usual, body)
    adapter = schema.rows_adapter(trained.contract, 1_000) if body[:1] == b"[" else schema.row_adapter(trained.contract)
    with pytest.raises(ValidationError) as error:
        adapter.validate_json(body)
    assert found == schema.problems(error.value)
    with pytest.raises(ValidationError) as error:
        adapter.validate_json(schema.trimmed(body, trained.contract, 1_000))
    assert error.value.error_count() <= 200


@ONE_MODEL
@pytest.mark.parametrize("names", [150, 2_000, 50_000])
@pytest.mark.parametrize("before", ["{", "[{"])
def test_many_unknown_names_leave_few_errors_behind(usual: TestClient, before: str, names: int) -> None:
    """Each error holds a kilobyte, and a circle of error, frame and future would hold it for long."""
    body = before + ",".join(f'"{name}":0' for name in range(names)) + "}" + "]" * (len(before) - 1)
    predictor = cast(Any, usual.app).state.service.predictor
    with pytest.raises(ValidationError) as error:
        predictor.read(body.encode())
    assert error.value.error_count() <= 200
    del error
    gc.collect()
    gc.disable()
    try:
        refused(usual, body.encode())
        eventually(lambda: not any(map(holds_errors, gc.get_objects())))  # a thread may be about to let go
    finally:
        gc.enable()


def holds_errors(held: object) -> bool:
    ended = isinstance(held, asyncio.Future) and held.done() and not held.cancelled()
    return ended and isinstance(cast(Any, held).exception(), ValidationError)


@ONE_MODEL
def test_what_is_good_is_not_trimmed(trained: Trained, client: TestClient) -> None:
    row = example(client)
    for content in (row, [row] * 50, row | {"remark": "," * 30_000}, [row, 1, None, {"x": 1e400}], "text", 0):
        body = json.dumps(content).encode()
        assert json.loads(schema.trimmed(body, trained.contract, 1_000)) == content


@ONE_MODEL
@pytest.mark.parametrize("body", ["{", "[1, ", "[{},", '{"a" 1}', "[" * 300, "", "nul", '{"x": "\\ud800"}'])
def test_what_is_not_json_has_the_same_error_where_it_is_long(usual: TestClient, body: str) -> None:
    predictor = cast(Any, usual.app).state.service.predictor
    for read in (predictor.row.validate_json, lambda body: schema.trimmed(body, predictor.model.contract, 1_000)):
        with pytest.raises(ValidationError) as error:
            read(body.encode())
        found = schema.problems(error.value)
        assert found == refused(usual, body.encode())


@ONE_MODEL
def test_a_crash_is_answered_and_routes_of_ones_own_are_counted(trained: Trained) -> None:
    app = model_app(ServeSettings(model=trained.model))

    @app.get("/own/{number}")
    async def own(number: int) -> int:
        return 1 // number

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/own/1").json() == 1
        answer = client.get("/own/0", headers={"X-Request-ID": "mine"})
        assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
        assert answer.headers["x-request-id"] == "mine"
        assert client.get("/nowhere").status_code == 404
        lines = client.get("/metrics").text.splitlines()
    for path, status in (("/own/{number}", 200), ("/own/{number}", 500), ("other", 404)):
        (line,) = (line for line in lines if f'path="{path}",status="{status}"' in line)
        assert line.endswith(" 1.0")


def test_a_client_that_goes_away_is_no_server_error(client: TestClient) -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def ignore(message: Any) -> None:
        pass

    headers = [(b"content-length", b"10")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}
    asyncio.run(cast(Any, client.app)(scope, gone, ignore))
    text = client.get("/metrics").text
    assert 'path="/predict",status="400"' in text
    assert 'status="500"' not in text


def test_a_body_without_announced_length_is_limited(client: TestClient) -> None:
    answer = client.post("/predict", content=(b" " * 10_000 for _ in range(50)))
    assert answer.status_code == 413


def test_health_model_metrics_and_docs(client: TestClient, trained: Trained) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    model = client.get("/model").json()
    assert model["version"] == trained.outcome.version
    assert model["metrics"] == trained.outcome.scores
    assert model["contract"]["columns"]["Wohnfläche (m²)"]["type"] == "number"
    client.post("/predict", json=example(client))
    text = client.get("/metrics").text
    assert re.search(r'http_requests_total\{method="POST",path="/predict",status="200"\} [1-9]', text)
    assert 'http_request_duration_seconds_bucket{le="0.0005",path="/predict"}' in text
    assert re.search(r"predictions_total\{label=", text)
    assert "model_info{version=" + json.dumps(trained.outcome.version) + "} 1.0" in text


def test_docs_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    for source in sources:
        assert not source.startswith(("/", "http"))
        assert client.get(f"/{source}").status_code == 200


def test_request_ids(client: TestClient) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "abc-123"}).headers["x-request-id"] == "abc-123"
    for bad in ("a b", "x" * 200, 'a"b', ""):
        assert re.fullmatch(
            r"[0-9a-f]{32}", client.get("/livez", headers={"X-Request-ID": bad}).headers["x-request-id"]
        )


def test_the_root_leads_to_the_docs(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.url.path == "/docs"
    assert answer.status_code == 200


def test_an_api_key_is_asked_for_where_one_is_set(trained: Trained) -> None:
    settings = ServeSettings(model=trained.model, api_key=SecretStr("open-sesame"))
    assert "sesame" not in repr(settings)
    with TestClient(model_app(settings)) as client:
        wait_until_ready(client)
        row = example(client)
        wrong: list[list[tuple[bytes, bytes]]] = [[], [(b"X-API-Key", b"open")], [(b"X-API-Key", b"\xf6pen-sesame")]]
        for headers in wrong:
            answer = client.post("/predict", json=row, headers=headers)
            assert answer.status_code == 401
            assert answer.json() == {"detail": "the header X-API-Key does not hold the key"}
            assert client.get("/model", headers=headers).status_code == 401
        assert client.post("/predict", json=row, headers={"X-API-Key": "open-sesame"}).status_code == 200
        assert client.get("/livez").status_code == 200
        document = client.get("/openapi.json").json()
        assert document["paths"]["/predict"]["post"]["security"] == [{"APIKeyHeader": []}]


def test_labels_keep_their_types() -> None:
    kinds: dict[str, tuple[bool | int | str, ...]] = {"k": (1, 2), "b": (False, True), "m": ("a", 1)}
    columns = {name: Column(role="feature", type="category", categories=labels) for name, labels in kinds.items()}
    columns |= {"o": Column(role="feature", type="category", categories=(1, 2), other=True)}
    contract = Contract(
        version=1, data="x", task="regression", columns=columns | {"y": Column(role="target", type="number")}
    )
    adapter = schema.row_adapter(contract)
    good: dict[str, Any] = {"k": 1, "b": True, "m": "a", "o": 5}
    accepted: list[dict[str, Any]] = [{}, {"k": 1.0}, {"o": 2.0}, {"m": 1}]
    for change in accepted:
        row = adapter.validate_json(json.dumps(good | change))
        assert [type(value) for value in row.values()] == [int, bool, type((good | change)["m"]), int]
    refused: list[dict[str, Any]] = [{"k": True}, {"k": "1"}, {"k": 1.5}, {"b": 1}, {"m": True}, {"o": 1.5}]
    for change in refused:
        with pytest.raises(ValidationError):
            adapter.validate_json(json.dumps(good | change))


def test_unknown_paths_and_methods(client: TestClient) -> None:
    assert client.get("/nothing").status_code == 404
    assert client.get("/predict").status_code == 405
    assert 'path="other"' in client.get("/metrics").text


# --- properties


# RFC 3339 knows whole minutes only.
FIRST, LAST = dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)  # in UTC too
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
MOMENTS = st.datetimes(FIRST, LAST, timezones=st.one_of(st.none(), ZONES))


def values(column: Column) -> st.SearchStrategy[Any]:
    """What the contract allows."""
    lowest, highest = column.range or (-1e6, 1e6)
    kinds: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "integer": lambda: st.integers(math.ceil(lowest), math.floor(highest)),
        "number": lambda: st.floats(lowest, highest, allow_nan=False),
        "boolean": st.booleans,
        "category": lambda: st.sampled_from(column.categories),
        "date": lambda: st.dates().map(lambda day: day.isoformat()),
        "datetime": lambda: MOMENTS.map(lambda time: time.isoformat()),
        "time": lambda: st.times().map(lambda time: time.isoformat()),
        "text": lambda: st.text(max_size=300).filter(lambda text: text.strip() not in MISSING),
    }
    allowed = kinds[column.type or ""]()
    return allowed | st.none() if column.missing else allowed


def rows(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: values(column) for name, column in contract.features.items()})


@FUZZ
@given(data=st.data())
def test_every_row_of_the_contract_is_answered(client: TestClient, trained: Trained, data: st.DataObject) -> None:
    row = data.draw(rows(trained.contract))
    answer = client.post("/predict", content=json.dumps(row).encode())
    assert answer.status_code == 200, answer.text
    assert all(math.isfinite(number) for number in numbers(answer.json()["predictions"][0]))


def numbers(prediction: dict[str, Any]) -> list[float]:
    return [prediction["value"]] if "value" in prediction else list(prediction["probabilities"].values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@FUZZ
@given(data=st.data())
def test_a_row_with_anything_in_one_field_is_answered_or_refused(
    client: TestClient, trained: Trained, data: st.DataObject
) -> None:
    row = data.draw(rows(trained.contract))
    row[data.draw(st.sampled_from(list(row)) | st.text())] = data.draw(JSON)
    answer = client.post("/predict", content=json.dumps(row).encode("utf-8", "surrogatepass"))
    assert answer.status_code in (200, 422), answer.text


@FUZZ
@given(body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=500))
def test_any_body_is_answered_or_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/predict", content=body)
    assert answer.status_code in (200, 422), answer.text
    answer.json()
