"""The fast path answers what FastAPI's path answers, and steps aside where that may answer differently."""

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.dependencies.utils import get_parameterless_sub_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, APIRouter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.routing import Host

from tabserve.inference import model as models
from tabserve.serving.app import model_app
from tabserve.serving.fast_path import FastPath
from tabserve.settings import ServeSettings
from tests.tabserve.conftest import Trained
from tests.tabserve.serving.running import PREDICT, Headers, Served, eventually, request, running, statuses
from tests.tabserve.serving.test_api import JSON, ONE_MODEL, rows

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def served(trained: Trained) -> Iterator[Served]:
    with running(ServeSettings(model=trained.model, max_rows=50)) as served:
        yield served


@pytest.fixture
def example(trained: Trained) -> dict[str, Any]:
    row: dict[str, Any] = models.load(trained.model).metadata["example"]
    return row


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each request that takes the fast path."""
    found: list[int] = []
    original = FastPath._predict

    async def predict(self: FastPath, scope: Any, receive: Any, send: Any) -> None:
        found.append(1)
        await original(self, scope, receive, send)

    monkeypatch.setattr(FastPath, "_predict", predict)
    return found


def test_predictions_take_the_fast_path(served: Served, example: dict[str, Any], taken: list[int]) -> None:
    body = json.dumps(example).encode()
    assert served.ask("POST", PREDICT, body)[0] == 200
    assert len(taken) == 1
    with served.slowly():
        assert served.ask("POST", PREDICT, body)[0] == 200
    assert len(taken) == 1


def test_both_paths_answer_the_same(served: Served, example: dict[str, Any]) -> None:
    one = json.dumps(example).encode()
    many = json.dumps([example] * 3).encode()
    assert served.both(one)[0] == served.both(many)[0] == served.both(b" \n" + one)[0] == 200
    assert len(json.loads(served.both(many)[1])["predictions"]) == 3
    name, value = next(iter(example.items()))
    again = f"{{{json.dumps(name)} :\n{json.dumps(value)},".encode()
    escaped = f'{{"\\u{ord(name[0]):04x}{json.dumps(name[1:])[1:]}:{json.dumps(value)},'.encode()
    refused = [
        *(one.replace(b"{", twice, 1) for twice in (again, escaped)),
        many.replace(b", {", b", " + again, 1),
        b"",
        b"{",
        b"[]",
        b"null",
        b'"\xff"',
        json.dumps([example] * 51).encode(),
        one.replace(b"{", b'{"x":1,', 1),
        b'{"\\u00e4": 1}',
    ]
    assert [served.both(body)[0] for body in refused] == [422] * len(refused)
    found = [json.loads(served.both(body)[1])["detail"][0]["loc"] for body in refused[:3]]
    assert found == [["body", name], ["body", name], ["body", 1, name]]


@FUZZ
@given(data=st.data())
def test_both_paths_answer_the_same_to_any_row(served: Served, trained: Trained, data: st.DataObject) -> None:
    row = data.draw(rows(trained.contract))
    if data.draw(st.booleans()):
        row[data.draw(st.sampled_from(list(row)) | st.text())] = data.draw(JSON)
    assert served.both(json.dumps(row).encode("utf-8", "surrogatepass"))[0] in (200, 422)


def test_requests_are_counted_and_get_an_id(served: Served, example: dict[str, Any]) -> None:
    def count(status: int) -> float:
        text = served.ask("GET", "/metrics")[2].decode()
        lines = [line for line in text.splitlines() if f'path="/predict",status="{status}"' in line]
        return float(lines[0].split()[-1]) if lines else 0.0

    good, bad = count(200), count(422)
    body = json.dumps(example).encode()
    assert served.ask("POST", PREDICT, body, {"X-Request-ID": "abc-1"})[1]["x-request-id"] == "abc-1"
    ids = {served.ask("POST", PREDICT, body, {"X-Request-ID": 'a"b'})[1]["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
    assert {len(identity) for identity in ids} == {32}
    served.ask("POST", PREDICT, b"{")
    assert (count(200), count(422)) == (good + 6, bad + 1)


def test_requests_in_one_packet_are_answered_in_order(served: Served, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    answers = served.send(request(body) + LIVE + request(b"{") + request(body) + LIVE, answers=5)
    assert statuses(answers) == [200, 200, 422, 200, 200]
    assert [b"alive" in part for part in answers.split(b"HTTP/1.1 ")[1:]] == [False, True, False, False, True]


@FUZZ
@given(kinds=st.lists(st.sampled_from("gbhc"), min_size=1, max_size=8), cuts=st.lists(st.integers(1, 400), max_size=8))
def test_any_sequence_in_any_pieces(served: Served, example: dict[str, Any], kinds: list[str], cuts: list[int]) -> None:
    body = json.dumps(example).encode()
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    made = {"g": request(body), "b": request(b"{"), "h": LIVE, "c": chunked % (len(body), body)}
    content = b"".join(made[kind] for kind in kinds)
    places = [0, *sorted({min(cut * 7, len(content)) for cut in cuts}), len(content)]
    parts = [content[start:end] for start, end in itertools.pairwise(places)]
    answers = served.send(*parts, answers=len(kinds), pause=0.001)
    assert statuses(answers) == [422 if kind == "b" else 200 for kind in kinds]


def test_unusual_requests(served: Served, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    unusual = {
        "close": request(body, "Connection: close"),
        "upgrade": request(body, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        "old": request(body).replace(b"HTTP/1.1", b"HTTP/1.0"),
        "pieces": b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(body), body),
        "query": request(body, path="/predict?a=b"),
        "many": request(b"[" + b",".join([body] * 49) + b"]"),
    }
    for name, sent in unusual.items():
        with contextlib.ExitStack() as stack:
            for path in ("fast", "slow"):
                if path == "slow":
                    stack.enter_context(served.slowly())
                assert statuses(served.send(sent).replace(b"HTTP/1.0 ", b"HTTP/1.1 ")) == [200], (name, path)
    assert statuses(served.send(request(body, "Expect: 100-continue"), answers=2))[-1] == 200


@ONE_MODEL
def test_the_key_is_compared(trained: Trained, example: dict[str, Any], taken: list[int]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model, api_key=SecretStr("open-sesame"))) as served:
        for key, status in {"open-sesame": 200, "open-sesam": 401, "": 401, "\xf6": 401}.items():
            assert served.both(body, {"X-API-Key": key})[0] == status
        assert len(taken) == 1
        assert served.both(body)[0] == 401
        for keys, status in ((("wrong", "open-sesame"), 401), (("open-sesame", "wrong"), 200)):
            sent = request(body, *(f"X-API-Key: {key}" for key in keys))
            assert statuses(served.send(sent)) == [status]
            with served.slowly():
                assert statuses(served.send(sent)) == [status]


@ONE_MODEL
def test_a_failure_inside_is_answered_and_logged(
    trained: Trained, example: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(matrix: Any) -> Any:
        raise RuntimeError("no such luck")

    with running(ServeSettings(model=trained.model)) as served:
        served.batcher.predict = fail
        assert served.both(json.dumps(example).encode()) == (500, b'{"detail":"Internal Server Error"}')
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["a request failed"] * 2


@ONE_MODEL
def test_both_paths_are_logged(
    trained: Trained, example: dict[str, Any], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "access")
    bodies = [json.dumps(example).encode(), b"{", b" " * 300]
    with running(ServeSettings(model=trained.model, max_body_bytes=250 + len(bodies[0]))) as served:
        for body in bodies:
            served.both(body, {"X-Request-ID": "me"})
        metrics = served.ask("GET", "/metrics")[2].decode()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"access"' in line]
    seen = [{key: line[key] for key in ("path", "status", "request_id")} for line in lines if line["method"] == "POST"]
    assert seen == [
        {"path": PREDICT, "status": status, "request_id": "me"} for status in (200, 200, 422, 422, 422, 422)
    ]
    assert "rejected_requests_total 4.0" in metrics


@ONE_MODEL
def test_the_time_of_a_slow_body_is_logged(
    trained: Trained, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "access")
    with (
        running(ServeSettings(model=trained.model, read_timeout=0.3)) as served,
        socket.create_connection(("127.0.0.1", served.port)) as late,
    ):
        late.sendall(b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 50\r\n\r\n{")
        assert b" 408 " in late.recv(100)
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"status": 408' in line]
    assert line["milliseconds"] >= 250


# --- load


@ONE_MODEL
def test_a_busy_model_sheds_load(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model, longest_wait=0.5)) as served:
        batcher = served.batcher
        gate, predict = threading.Event(), batcher.predict
        batcher.cost, batcher.most_in_turn, batcher.most_in_queue = type(batcher.cost)(0.1, 0.1), 0, 5
        batcher.predict = lambda matrix: gate.wait(20) and predict(matrix)
        found: list[tuple[int, Headers, bytes]] = []
        askers = [threading.Thread(target=lambda: found.append(served.ask("POST", PREDICT, body))) for _ in range(16)]
        for asker in askers:
            asker.start()
        deadline = time.monotonic() + 20
        while len(found) < 10 and time.monotonic() < deadline:
            assert served.ask("GET", "/livez")[0] == served.ask("GET", "/readyz")[0] == 200
        assert [status for status, _, _ in found] == [503] * 10  # half a second is queued: five rows and the next
        assert {headers["retry-after"] for _, headers, _ in found} == {"1"}
        assert b"the server is busy" in found[0][2]
        with served.slowly():
            assert served.ask("POST", PREDICT, body)[::2] == found[0][::2]
        gate.set()
        for asker in askers:
            asker.join(20)
        assert sorted(status for status, _, _ in found) == [200] * 6 + [503] * 10


@ONE_MODEL
def test_a_rejected_client_waits_for_its_answer(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model)) as served:
        served.batcher.most_in_queue = -1
        for path in (contextlib.nullcontext, served.slowly):
            with path():
                began = time.monotonic()
                assert served.ask("POST", PREDICT, body)[0] == 503
                assert time.monotonic() - began > 0.09


@ONE_MODEL
def test_what_waits_is_predicted_together(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model)) as served, contextlib.ExitStack() as stack:
        batcher = served.batcher
        sizes, predict = [], batcher.predict

        def slow(matrix: Any) -> Any:
            sizes.append(len(matrix))
            time.sleep(0.2)  # others arrive
            return predict(matrix)

        batcher.predict = slow
        connections = [stack.enter_context(served.connection()) for _ in range(8)]
        for connection in connections:
            connection.sendall(request(body))
        assert [statuses(connection.recv(65_536)) for connection in connections] == [[200]] * 8
        assert sum(sizes) == 8
        assert len(sizes) < 5


# --- what it steps aside for


class Marking:
    """Middleware of somebody else."""

    def __init__(self, app: Any) -> None:
        self.app, self.state = app, getattr(app, "state", None)  # like some that pass for the application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-mark", b"1")]
            await send(message)

        await self.app(scope, receive, marked if scope["type"] == "http" else send)


async def marked(request: Request, error: Any = None) -> Response:
    return Response("own", headers={"x-mark": "1"})


def mark(response: Response) -> None:
    response.headers["x-mark"] = "1"


def refuse() -> None:
    raise HTTPException(418, headers={"x-mark": "1"})


def route_of(app: FastAPI) -> APIRoute:
    return next(route for route in app.routes if isinstance(route, APIRoute) and route.path == PREDICT)


def first(app: FastAPI, path: str, **options: Any) -> FastAPI:
    app.add_api_route(path, marked, **options)
    app.router.routes.insert(0, app.router.routes.pop())
    return app


def with_middleware(app: FastAPI) -> FastAPI:
    app.add_middleware(Marking)
    return app


def with_http_middleware(app: FastAPI) -> FastAPI:
    @app.middleware("http")
    async def mark(request: Request, following: Callable[[Request], Any]) -> Response:
        response: Response = await following(request)
        response.headers["x-mark"] = "1"
        return response

    return app


def with_dependency(app: FastAPI) -> FastAPI:
    route = route_of(app)
    route.dependant.dependencies.append(get_parameterless_sub_dependant(depends=Depends(refuse), path=PREDICT))
    return app


def with_override(app: FastAPI) -> FastAPI:
    (guard,) = [needed.call for needed in route_of(app).dependant.dependencies]
    assert guard
    app.dependency_overrides[guard] = refuse
    return app


def with_handler(kind: Any) -> Callable[[FastAPI], FastAPI]:
    def add(app: FastAPI) -> FastAPI:
        app.add_exception_handler(kind, marked)
        return app

    return add


def with_inner_middleware(app: FastAPI) -> FastAPI:
    app.user_middleware.append(Middleware(Marking))
    return app


def with_late_route(app: FastAPI) -> FastAPI:
    models_own = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        first(app, "/{anything}", methods=["POST"])
        async with models_own(app):
            yield

    app.router.lifespan_context = lifespan
    return app


def with_traced_stack(app: FastAPI) -> FastAPI:
    """As OpenTelemetry's instrumentation does."""
    build = app.build_middleware_stack
    vars(app)["build_middleware_stack"] = lambda: Marking(build())
    return app


def with_middleware_that_reads_the_route(app: FastAPI) -> FastAPI:
    @app.middleware("http")
    async def mark(request: Request, following: Callable[[Request], Any]) -> Response:
        response: Response = await following(request)
        response.headers["x-mark"] = str(int(request.url.path != PREDICT or request.scope["route"].path == PREDICT))
        return response

    return app


def with_built_stack(app: FastAPI) -> FastAPI:
    app.middleware_stack = Marking(app.build_middleware_stack())
    return app


def with_wrapped_router(app: FastAPI) -> FastAPI:
    app.router.middleware_stack = Marking(app.router.middleware_stack)
    return app


def with_router_of_another_class(app: FastAPI) -> FastAPI:
    class Router(APIRouter):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await Marking(super().__call__)(scope, receive, send)

    app.router.__class__ = Router
    return app


def with_wrapped_route(app: FastAPI) -> FastAPI:
    route_of(app).app = Marking(route_of(app).app)
    return app


def with_other_handle(app: FastAPI) -> FastAPI:
    vars(route_of(app))["handle"] = Marking(route_of(app).handle)
    return app


def first_of_host(app: FastAPI) -> FastAPI:
    other = FastAPI()
    other.add_api_route(PREDICT, marked, methods=["POST"])
    app.router.routes.insert(0, Host("api.test", other))
    return app


def with_other_endpoint(app: FastAPI) -> FastAPI:
    app.router.routes.remove(route_of(app))
    app.add_api_route(PREDICT, marked, methods=["POST"])
    return app


SEEN: dict[str, tuple[Callable[[FastAPI], Any], bytes | None]] = {
    "a middleware": (with_middleware, None),
    "a middleware as a function": (with_http_middleware, None),
    "a wrapper": (Marking, None),
    "a middleware after the model's": (with_inner_middleware, None),
    "a middleware that reads the route": (with_middleware_that_reads_the_route, None),
    "a route of a lifespan": (with_late_route, None),
    "a stack that is traced": (with_traced_stack, None),
    "a stack that is built": (with_built_stack, None),
    "a wrapper of the router": (with_wrapped_router, None),
    "a router of another class": (with_router_of_another_class, None),
    "a wrapper of the route": (with_wrapped_route, None),
    "a wrapper of what handles the route": (with_other_handle, None),
    "a dependency": (with_dependency, None),
    "a dependency of model_app": (lambda app: app, None),
    "an override": (with_override, None),
    "an earlier route": (lambda app: first(app, "/{anything}", methods=["POST"]), None),
    "an earlier route of a host": (first_of_host, None),
    "another route": (with_other_endpoint, None),
    "a handler of bad rows": (with_handler(RequestValidationError), b"{"),
    "a handler of HTTP errors": (with_handler(StarletteHTTPException), b" " * 2_000),
    "a handler of a status": (with_handler(413), b" " * 2_000),
}


@ONE_MODEL
@pytest.mark.parametrize("kind", SEEN)
def test_what_app_py_adds_sees_predictions(trained: Trained, example: dict[str, Any], kind: str) -> None:
    change, body = SEEN[kind]
    dependencies = [Depends(refuse)] if kind == "a dependency of model_app" else []
    configured = ServeSettings(model=trained.model, api_key=SecretStr("open-sesame"), max_body_bytes=1_500)
    with running(configured, lambda settings: change(model_app(settings, dependencies))) as served:
        key = {"X-API-Key": "open-sesame", "Host": "api.test"}
        assert served.ask("POST", PREDICT, body or json.dumps(example).encode(), key)[1].get("x-mark") == "1"


@ONE_MODEL
@pytest.mark.parametrize("kind", [Exception, 500, RuntimeError])
def test_a_handler_of_what_should_not_happen_sees_it(trained: Trained, example: dict[str, Any], kind: Any) -> None:
    def fail(matrix: Any) -> Any:
        raise RuntimeError("no such luck")

    with running(ServeSettings(model=trained.model), lambda made: with_handler(kind)(model_app(made))) as served:
        served.batcher.predict = fail
        assert served.ask("POST", PREDICT, json.dumps(example).encode())[1].get("x-mark") == "1"


@ONE_MODEL
def test_a_tool_that_traces_all_applications_sees_predictions(
    trained: Trained, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Sentry does."""
    seen, original = [], Starlette.__call__

    async def traced(self: Starlette, scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get("path"))
        await original(self, scope, receive, send)

    monkeypatch.setattr(Starlette, "__call__", traced)
    with running(ServeSettings(model=trained.model)) as served:
        assert served.ask("POST", PREDICT, json.dumps(example).encode())[0] == 200
    assert PREDICT in seen


UNSEEN: dict[str, Callable[[FastAPI], FastAPI]] = {
    "nothing": lambda app: app,
    "a middleware": with_middleware,
    "a GET route before it": lambda app: first(app, PREDICT, methods=["GET"]),
    "another path before it": lambda app: first(app, "/predict/more", methods=["POST"]),
    "a handler of another status": with_handler(404),
    "a handler of an error": with_handler(KeyError),
    "a handler of HTTP errors": with_handler(StarletteHTTPException),
}


@ONE_MODEL
@pytest.mark.parametrize("change", UNSEEN.values(), ids=UNSEEN)
def test_what_does_not_bear_on_predictions_leaves_the_fast_path(
    trained: Trained, example: dict[str, Any], change: Callable[[FastAPI], FastAPI], taken: list[int]
) -> None:
    with running(ServeSettings(model=trained.model), lambda settings: change(model_app(settings))) as served:
        assert served.ask("POST", PREDICT, json.dumps(example).encode())[0] == 200
    assert len(taken) == 1


@ONE_MODEL
def test_why_it_steps_aside_is_logged(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "server")
    with running(ServeSettings(model=trained.model), lambda made: with_other_endpoint(model_app(made))):
        pass
    fields = [getattr(record, "fields", {}) for record in caplog.records]
    reasons = [field["reason"] for field in fields if "reason" in field]
    assert reasons == ["another route answers POST /predict"]


@ONE_MODEL
def test_any_asgi_server_runs_the_application(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model)) as served, socket.create_server(("127.0.0.1", 0)) as listener:
        application = model_app(ServeSettings(model=trained.model))
        other = uvicorn.Server(uvicorn.Config(application, log_config=None))
        thread = threading.Thread(target=other.run, kwargs={"sockets": [listener]})
        thread.start()
        elsewhere = Served(listener.getsockname()[1], served.process, application, thread)
        try:
            eventually(lambda: elsewhere.ask("GET", "/readyz")[0] == 200)
            for sent in (body, b"{"):
                assert elsewhere.both(sent) == served.both(sent)
        finally:
            other.should_exit = True
            thread.join(20)
