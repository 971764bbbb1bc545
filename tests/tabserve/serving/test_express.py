"""The short way answers what the long way answers. `/predict?` is the same path, but always goes the long way."""

import contextlib
import http.client
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import pytest
import uvicorn
from fastapi import FastAPI, Header, Request, Response
from fastapi.dependencies.utils import get_dependant
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tabserve.inference import model as models
from tabserve.serving import app, predictor, process
from tabserve.serving.express import digest, obstacle
from tabserve.settings import ServeSettings
from tests.tabserve.conftest import Trained
from tests.tabserve.serving.test_api import JSON, ONE_MODEL, rows

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG, SHORT = "/predict?", "/predict"
Headers = dict[str, str]


@dataclass(frozen=True)
class Served:
    """A server that runs in a thread."""

    port: int
    uvicorn: uvicorn.Server

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Headers | None = None
    ) -> tuple[int, Headers, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def both(self, body: bytes, headers: Headers | None = None) -> tuple[int, bytes]:
        """What both ways answer, after comparing them."""
        answers = [self.ask("POST", path, body, headers) for path in (SHORT, LONG)]
        for _, found, _ in answers:
            found.pop("date")
            assert len(found.pop("x-request-id")) > 0
        assert answers[0] == answers[1]
        return answers[0][0], answers[0][2]

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, *parts: bytes, pause: float = 0.05) -> bytes:
        """Everything that is answered on one connection, which is closed after the last part has been answered."""
        with self.connection() as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65_536), b""))


@contextlib.contextmanager
def running(
    configured: ServeSettings, application: process.Application = app.model_app, **options: Any
) -> Iterator[Served]:
    listener = process.listen("127.0.0.1", 0)
    config = process.configured(application, configured)
    for name, value in options.items():
        setattr(config, name, value)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    served = Served(listener.getsockname()[1], running)
    try:
        deadline = time.monotonic() + 20
        while served.ask("GET", "/readyz")[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        yield served
    finally:
        running.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def served(trained: Trained) -> Iterator[Served]:
    with running(ServeSettings(model=trained.model, max_rows=50)) as served:
        yield served


@pytest.fixture
def example(trained: Trained) -> dict[str, Any]:
    row: dict[str, Any] = models.load(trained.model).metadata["example"]
    return row


def request(body: bytes, path: str = SHORT, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def anonymous(answers: bytes) -> bytes:
    """Without what differs from one answer to the next."""
    return re.sub(rb"(x-request-id|date): [^\r]*\r\n", b"", answers)


def statuses(answers: bytes) -> list[int]:
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture
def short_way(trained: Trained) -> None:
    """Tests of the short way are pointless where the application has been edited so that there is none."""
    if why := obstacle(app.model_app(ServeSettings(model=trained.model))):
        pytest.skip(f"every prediction goes through FastAPI's routing: {why}")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def no_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: predictor.Predictor, body: bytes) -> bytes:
        raise AssertionError("the long way")

    monkeypatch.setattr(predictor.Predictor, "predict", fail)


@pytest.mark.usefixtures("short_way")
def test_small_requests_go_the_short_way(
    served: Served, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(example).encode()
    no_long_way(monkeypatch)
    assert served.ask("POST", SHORT, body)[0] == 200
    assert served.ask("POST", LONG, body)[0] == 500


def test_both_ways_answer_the_same(served: Served, example: dict[str, Any]) -> None:
    one = json.dumps(example).encode()
    many = json.dumps([example] * 3).encode()
    assert served.both(one)[0] == served.both(many)[0] == served.both(b" \n" + one)[0] == 200
    assert len(json.loads(served.both(many)[1])["predictions"]) == 3
    refused = [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"\xff"',
        json.dumps([example] * 51).encode(),
        one.replace(b"{", b'{"x":1,', 1),
    ]
    assert [served.both(body)[0] for body in refused] == [422] * len(refused)


@FUZZ
@given(data=st.data())
def test_both_ways_answer_the_same_to_any_row(served: Served, trained: Trained, data: st.DataObject) -> None:
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
    assert served.ask("POST", SHORT, body, {"X-Request-ID": "abc-1"})[1]["x-request-id"] == "abc-1"
    ids = {served.ask("POST", SHORT, body, {"X-Request-ID": 'a"b'})[1]["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
    assert {len(identity) for identity in ids} == {32}
    served.ask("POST", SHORT, b"{")
    assert (count(200), count(422)) == (good + 6, bad + 1)


def test_requests_in_one_packet_are_answered_in_order(served: Served, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    live = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = served.send(request(body) + live + request(b"{") + request(body, LONG) + request(body) + live)
    assert statuses(answers) == [200, 200, 422, 200, 200, 200]
    assert [b"alive" in part for part in answers.split(b"HTTP/1.1 ")[1:]] == [False, True, False, False, False, True]


@FUZZ
@given(kinds=st.lists(st.sampled_from("gblhc"), min_size=1, max_size=8), cuts=st.lists(st.integers(1, 400), max_size=8))
def test_any_sequence_in_any_pieces(served: Served, example: dict[str, Any], kinds: list[str], cuts: list[int]) -> None:
    body = json.dumps(example).encode()
    chunked = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"

    def sent(path: str) -> bytes:
        made = {"g": request(body, path), "b": request(b"{", path), "l": request(body, LONG)}
        made |= {"h": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "c": chunked % (path.encode(), len(body), body)}
        return b"".join(made[kind] for kind in kinds)

    def answered(content: bytes) -> list[int]:
        places = [0, *sorted({min(cut * 7, len(content)) for cut in cuts}), len(content)]
        answers = b""
        with served.connection() as connection:
            for start, end in itertools.pairwise(places):
                connection.sendall(content[start:end])
                time.sleep(0.001)
            while len(statuses(answers)) < len(kinds):
                answers += connection.recv(65_536) or b"HTTP/1.1 000 " * 10
        return statuses(answers)

    assert answered(sent(SHORT)) == answered(sent(LONG)) == [422 if kind == "b" else 200 for kind in kinds]


def test_a_body_may_come_in_parts_or_late(served: Served, example: dict[str, Any]) -> None:
    whole = request(json.dumps(example).encode())
    assert statuses(served.send(whole[:20], whole[20:-30], whole[-30:] + whole)) == [200, 200]


def test_unusual_requests_go_the_long_way(served: Served, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    for headers in (["Connection: close"], ["Expect: 100-continue"]):
        found = [anonymous(served.send(request(body, path, *headers))) for path in (SHORT, LONG)]
        assert found[0] == found[1]
        assert statuses(found[0])[-1] == 200
    upgrade = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    assert statuses(served.send(request(body, SHORT, *upgrade))) == statuses(served.send(request(body, LONG, *upgrade)))
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    assert statuses(served.send(chunked % (len(body), body))) == [200]
    for kept in ([], ["Connection: keep-alive"]):
        old = [request(body, path, *kept).replace(b"HTTP/1.1", b"HTTP/1.0") for path in (SHORT, LONG)]
        found = [anonymous(served.send(each)) for each in old]
        assert found[0] == found[1]
        assert statuses(found[0]) == [200]
    assert statuses(served.send(request(b"[" + b",".join([body] * 49) + b"]"))) == [200]


def test_a_client_that_goes_away_amid_its_body(served: Served, example: dict[str, Any]) -> None:
    with served.connection() as connection:
        connection.sendall(request(json.dumps(example).encode())[:-10])
        time.sleep(0.05)
    eventually(lambda: b'path="/predict",status="499"' in served.ask("GET", "/metrics")[2])
    assert served.ask("POST", SHORT, json.dumps(example).encode())[0] == 200


@ONE_MODEL
@pytest.mark.usefixtures("short_way")
def test_the_key_is_asked_for(trained: Trained, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model, api_key=SecretStr("open-sesame"))) as served:
        assert [served.both(body, {"X-API-Key": key})[0] for key in ("open-sesame", "open-sesam", "", "\xf6")] == [
            200,
            401,
            401,
            401,
        ]
        assert served.both(body)[0] == 401
        keys = ["X-API-Key: wrong", "X-API-Key: open-sesame"]
        for sent in (keys, keys[::-1]):
            found = [statuses(served.send(request(body, path, *sent))) for path in (SHORT, LONG)]
            assert found[0] == found[1]
        no_long_way(monkeypatch)
        assert served.ask("POST", SHORT, body, {"X-API-Key": "open-sesame"})[0] == 200


@ONE_MODEL
def test_a_failure_inside_is_answered_and_logged(
    trained: Trained, example: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with running(ServeSettings(model=trained.model)) as served:
        desk = served.uvicorn.config.app.state.desk  # type: ignore[union-attr]
        batcher = desk.predictor().batcher

        def fail(matrix: Any) -> Any:
            raise RuntimeError("no such luck")

        batcher.predict = fail
        assert served.both(json.dumps(example).encode()) == (500, b'{"detail":"Internal Server Error"}')
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["a prediction failed"] * 2


@ONE_MODEL
def test_a_busy_model_sheds_load(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model, longest_wait=0.5)) as served:
        batcher = served.uvicorn.config.app.state.desk.predictor().batcher  # type: ignore[union-attr]
        gate, predict = threading.Event(), batcher.predict
        batcher.cost, batcher.most_in_turn, batcher.most_in_queue = type(batcher.cost)(0.1, 0.1), 0, 5
        batcher.predict = lambda matrix: gate.wait(20) and predict(matrix)
        found: list[tuple[int, Headers, bytes]] = []
        askers = [
            threading.Thread(target=lambda path=path: found.append(served.ask("POST", path, body)))
            for path in [SHORT, LONG] * 8
        ]
        for asker in askers:
            asker.start()
        deadline = time.monotonic() + 20
        while len(found) < 10 and time.monotonic() < deadline:
            assert served.ask("GET", "/livez")[0] == served.ask("GET", "/readyz")[0] == 200
        assert [status for status, _, _ in found] == [503] * 10  # half a second is queued: five rows and the next
        assert {headers["retry-after"] for _, headers, _ in found} == {"1"}
        assert b"the server is busy" in found[0][2]
        gate.set()
        for asker in askers:
            asker.join(20)
        assert sorted(status for status, _, _ in found) == [200] * 6 + [503] * 10


@ONE_MODEL
@pytest.mark.usefixtures("short_way")
def test_a_client_that_asks_again_at_once_waits(trained: Trained, example: dict[str, Any]) -> None:
    whole = request(json.dumps(example).encode())
    with running(ServeSettings(model=trained.model)) as served, served.connection() as connection:
        batcher = served.uvicorn.config.app.state.desk.predictor().batcher  # type: ignore[union-attr]
        usual = batcher.most_in_queue
        batcher.most_in_queue = -1
        connection.sendall(whole)
        assert statuses(connection.recv(65_536)) == [503]
        batcher.most_in_queue, began = usual, time.monotonic()
        connection.sendall(whole)
        assert statuses(connection.recv(65_536)) == [200]
        assert time.monotonic() - began > 0.08


@ONE_MODEL
def test_an_idle_connection_is_not_closed_while_a_request_arrives(trained: Trained, example: dict[str, Any]) -> None:
    whole = request(json.dumps(example).encode())
    with running(ServeSettings(model=trained.model), timeout_keep_alive=1) as served, served.connection() as connection:
        connection.sendall(whole)
        assert statuses(connection.recv(65_536)) == [200]
        time.sleep(0.8)
        connection.sendall(whole[:20])
        time.sleep(0.6)
        connection.sendall(whole[20:])
        assert statuses(connection.recv(65_536)) == [200]


@ONE_MODEL
def test_both_ways_know_the_largest_body(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model, max_body_bytes=len(body))) as served:
        assert served.both(body)[0] == 200
        assert served.both(body + b" ")[0] == 413


@ONE_MODEL
@pytest.mark.parametrize("path", [SHORT, LONG])
def test_a_client_that_closes_sees_that_its_body_is_too_large(trained: Trained, path: str) -> None:
    with running(ServeSettings(model=trained.model, max_body_bytes=1_000)) as served:
        assert served.ask("POST", path, b" " * 2**23, {"Connection": "close"})[0] == 413


@ONE_MODEL
def test_bodies_that_are_incomplete_have_little_room(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model)) as served, contextlib.ExitStack() as stack:
        bodies = served.uvicorn.config.app.state.desk.bodies  # type: ignore[union-attr]
        bodies.room = free = 3 * len(body)
        late = [stack.enter_context(served.connection()) for _ in range(4)]
        for connection, path in zip(late, [SHORT, LONG] * 2, strict=True):
            connection.sendall(request(body, path)[: -len(body)])  # who only announces a body takes no room
        assert served.both(body)[0] == 200
        for connection in late[:3]:
            connection.sendall(body[:-10])
        eventually(lambda: bodies.room == 30)
        assert served.both(body)[0] == 503
        late[3].sendall(body)
        assert statuses(late[3].recv(65_536)) == [503]
        for connection in late[:3]:
            connection.sendall(body[-10:])
            assert statuses(connection.recv(65_536)) == [200]
        eventually(lambda: bodies.room == free)
        assert served.both(body)[0] == 200


@ONE_MODEL
@pytest.mark.usefixtures("short_way")
def test_a_small_body_that_finds_no_room_is_refused_amid_it(trained: Trained, example: dict[str, Any]) -> None:
    whole = request(json.dumps(example).encode())
    with running(ServeSettings(model=trained.model)) as served, served.connection() as connection:
        bodies = served.uvicorn.config.app.state.desk.bodies  # type: ignore[union-attr]
        free, head = bodies.room, whole.index(b"{")
        connection.sendall(whole[: head + 5])
        eventually(lambda: bodies.room == free - 5)
        bodies.room = 1
        connection.sendall(whole[head + 5 : -10])
        assert statuses(connection.recv(65_536)) == [503]
        eventually(lambda: bodies.room == 6)
        bodies.room = free
        connection.sendall(whole[-10:] + whole)
        assert statuses(connection.recv(65_536)) == [200]


@ONE_MODEL
@pytest.mark.parametrize("path", [SHORT, LONG])
def test_a_body_that_does_not_come_is_given_up(trained: Trained, example: dict[str, Any], path: str) -> None:
    whole = request(json.dumps(example).encode(), path)
    with running(ServeSettings(model=trained.model), timeout_keep_alive=1) as served, served.connection() as connection:
        bodies = served.uvicorn.config.app.state.desk.bodies  # type: ignore[union-attr]
        free, bodies.patience = bodies.room, 0.3
        connection.sendall(whole[:-10])
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert statuses(answer) == [408]
        assert b"the body did not come within 0.3 s" in answer
        eventually(lambda: bodies.room == free)


@ONE_MODEL
def test_what_waits_is_predicted_together(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model)) as served, contextlib.ExitStack() as stack:
        batcher = served.uvicorn.config.app.state.desk.predictor().batcher  # type: ignore[union-attr]
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


@ONE_MODEL
def test_both_ways_are_logged(
    trained: Trained, example: dict[str, Any], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "access")
    bodies = [json.dumps(example).encode(), b"{", b" " * 300]
    with running(ServeSettings(model=trained.model, max_body_bytes=250 + len(bodies[0]))) as served:
        for body in bodies:
            for path in (SHORT, LONG):
                served.ask("POST", path, body, {"X-Request-ID": "me"})
        metrics = served.ask("GET", "/metrics")[2].decode()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"access"' in line]
    seen = [{key: line[key] for key in ("path", "status", "request_id")} for line in lines if line["method"] == "POST"]
    expected = [{"path": SHORT, "status": status, "request_id": "me"} for status in (200, 200, 422, 422, 422, 422)]
    assert seen == expected
    assert "rejected_requests_total 4.0" in metrics


@ONE_MODEL
def test_shutdown_finishes_a_request_whose_body_is_late(trained: Trained, example: dict[str, Any]) -> None:
    whole = request(json.dumps(example).encode())
    with running(ServeSettings(model=trained.model)) as served, served.connection() as connection:
        connection.sendall(whole[:-10])
        time.sleep(0.1)
        served.uvicorn.should_exit = True
        time.sleep(0.3)
        connection.sendall(whole[-10:])
        connection.settimeout(4)  # less than an idle connection may take
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert statuses(answer) == [200]
    assert b"connection: close\r\n" in answer


@ONE_MODEL
@pytest.mark.usefixtures("short_way")
def test_an_idle_connection_is_closed_and_one_in_use_is_not(trained: Trained, example: dict[str, Any]) -> None:
    whole = request(json.dumps(example).encode())
    with running(ServeSettings(model=trained.model), timeout_keep_alive=1) as served, served.connection() as connection:
        for _ in range(4):
            connection.sendall(whole)
            assert statuses(connection.recv(65_536)) == [200]
            time.sleep(0.4)
        assert connection.recv(65_536) == b""


@ONE_MODEL
def test_an_answer_of_the_long_way_keeps_a_connection_too(trained: Trained, example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    with running(ServeSettings(model=trained.model), timeout_keep_alive=1) as served, served.connection() as connection:
        for path, pause in ((SHORT, 0.7), (LONG, 0.7), (LONG, 0)):
            connection.sendall(request(body, path))
            answer = b""
            while b"model_version" not in answer:
                part = connection.recv(65_536)
                assert part, "the connection is closed"
                answer += part
            time.sleep(pause)


def test_answers_leave_at_once() -> None:
    with process.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


class Marking:
    """Middleware of somebody else."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-mark", b"1")]
            await send(message)

        await self.app(scope, receive, marked)


@ONE_MODEL
def test_added_middleware_sees_every_request(trained: Trained, example: dict[str, Any]) -> None:
    def application(configured: ServeSettings) -> FastAPI:
        made = app.model_app(configured)
        made.add_middleware(Marking)
        return made

    with running(ServeSettings(model=trained.model), application) as served:
        assert served.ask("POST", SHORT, json.dumps(example).encode())[1]["x-mark"] == "1"


async def other_route(request: Request) -> Response:
    return Response()


async def with_header(request: Request, token: Annotated[str, Header()]) -> Response:
    return Response()


def other_guard() -> None:
    """In the place of the key's."""


def route_of(app: FastAPI) -> APIRoute:
    return next(route for route in app.routes if isinstance(route, APIRoute) and route.path == SHORT)


def replace_guard(app: FastAPI) -> None:
    route_of(app).dependant.dependencies[0].call = other_guard


def first(app: FastAPI, path: str, **options: Any) -> None:
    app.add_api_route(path, other_route, **options)
    app.router.routes.insert(0, app.router.routes.pop())


EDITS: dict[str, tuple[Any, str | None]] = {
    "none": (lambda app: None, None),
    "another layer": (lambda app: app.add_middleware(Marking), "other middleware"),
    "a layer in the place of the observer": (
        lambda app: (app.user_middleware.clear(), app.add_middleware(Marking)),
        "other middleware",
    ),
    "no route": (lambda app: app.router.routes.clear(), "has been edited"),
    "a route before it": (lambda app: first(app, "/{anything}", methods=["POST"]), "has been edited"),
    "a GET route before it": (lambda app: first(app, SHORT, methods=["GET"]), None),
    "another function": (lambda app: setattr(route_of(app), "endpoint", other_route), "has been edited"),
    "an object in its place": (lambda app: setattr(route_of(app), "endpoint", partial(other_route)), "has been edited"),
    "a lambda in its place": (lambda app: setattr(route_of(app), "endpoint", lambda: None), "has been edited"),
    "another dependency": (
        lambda app: route_of(app).dependant.dependencies.append(get_dependant(path="", call=other_guard)),
        "depends on more",
    ),
    "a dependency in the place of the key's": (replace_guard, "depends on more"),
    "a parameter": (
        lambda app: setattr(route_of(app), "dependant", get_dependant(path=SHORT, call=with_header)),
        "depends on more",
    ),
}


@ONE_MODEL
@pytest.mark.usefixtures("short_way")
@pytest.mark.parametrize(("edit", "why"), EDITS.values(), ids=EDITS)
def test_what_the_short_way_would_pass_by(trained: Trained, edit: Any, why: str | None) -> None:
    made = app.model_app(ServeSettings(model=trained.model, api_key=SecretStr("open-sesame")))
    edit(made)
    assert (why or "None") in str(obstacle(made))


@ONE_MODEL
@pytest.mark.usefixtures("short_way")
def test_a_parameter_without_a_key(trained: Trained) -> None:
    made = app.model_app(ServeSettings(model=trained.model))
    route_of(made).dependant.header_params.extend(get_dependant(path=SHORT, call=with_header).header_params)
    assert obstacle(made) == "the route /predict has parameters"


def test_what_a_function_does_and_not_how_it_looks() -> None:
    def original(a: int) -> int:
        return a + 1

    def rewritten() -> Any:
        def original(
            a: int,
        ) -> int:
            """With a docstring."""
            return a + 1  # and a comment

        return original

    def edited() -> Any:
        def original(a: int) -> int:
            return a + 2

        return original

    assert digest(original) == digest(rewritten()) != digest(edited())
    assert digest(len) == digest(partial(original, 1)) == digest(lambda a: a + 1) == ""


@ONE_MODEL
def test_the_short_way_can_be_switched_off(
    trained: Trained, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_long_way(monkeypatch)
    with running(ServeSettings(model=trained.model, express=False)) as served:
        assert served.ask("POST", SHORT, json.dumps(example).encode())[0] == 500
