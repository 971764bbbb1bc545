"""The server's process: how it stops, what it closes, and what it says of failures."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from tabserve.errors import UserError
from tabserve.inference import model as models
from tabserve.serving.app import model_app
from tabserve.serving.process import Process, free_address
from tabserve.settings import ServeSettings
from tests.tabserve.conftest import Trained
from tests.tabserve.serving.running import PREDICT, request, running, statuses
from tests.tabserve.serving.test_api import ONE_MODEL

pytestmark = ONE_MODEL
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def body(trained: Trained) -> bytes:
    return json.dumps(models.load(trained.model).metadata["example"]).encode()


def test_an_idle_connection_is_closed_and_one_in_use_is_not(trained: Trained, body: bytes) -> None:
    with running(ServeSettings(model=trained.model, read_timeout=1)) as served, served.connection() as connection:
        for sent in (request(body), LIVE) * 2:
            connection.sendall(sent)
            assert statuses(connection.recv(65_536)) == [200]
            time.sleep(0.4)
        assert connection.recv(65_536) == b""


def test_a_head_that_does_not_come_is_given_up(trained: Trained, body: bytes) -> None:
    with running(ServeSettings(model=trained.model, read_timeout=1)) as served, served.connection() as connection:
        connection.sendall(request(body)[:20])
        time.sleep(0.6)
        connection.sendall(request(body)[20:])
        assert statuses(connection.recv(65_536)) == [200]
        connection.sendall(request(body)[:20])
        began = time.monotonic()
        assert statuses(connection.recv(65_536)) in ([], [408])
        assert time.monotonic() - began < 3


def test_answers_leave_at_once(trained: Trained, body: bytes) -> None:
    """Without TCP_NODELAY, each second answer on a connection would take 40 ms."""
    with running(ServeSettings(model=trained.model)) as served, served.connection() as connection:
        took = []
        for _ in range(20):
            began = time.monotonic()
            connection.sendall(request(body))
            assert statuses(connection.recv(65_536)) == [200]
            took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.03


# --- stopping


def test_a_stop_asks_clients_to_close_and_answers_meanwhile(trained: Trained, body: bytes) -> None:
    with running(ServeSettings(model=trained.model, drain_seconds=1)) as served:
        kept = [served.connection() for _ in range(2)]
        for connection in kept:
            connection.sendall(request(body))
            assert b"connection: close" not in connection.recv(65_536)
        served.stop(at_once=False)
        time.sleep(0.2)
        for connection, sent in zip(kept, (request(body), LIVE), strict=True):
            connection.sendall(sent)
            assert b"connection: close\r\n" in connection.recv(65_536)
            assert connection.recv(65_536) == b""
            connection.close()
        assert served.ask("POST", PREDICT, body)[0] == 200  # on a connection that is new


@pytest.mark.parametrize("stops", [1, 2])
def test_a_stop_is_quick_where_nobody_waits(trained: Trained, stops: int) -> None:
    """At once, or as soon as it is said twice."""
    with running(ServeSettings(model=trained.model, drain_seconds=30)) as served:
        began = time.monotonic()
        for _ in range(stops):
            served.stop(at_once=stops == 1)
        assert served.has_ended()
    assert time.monotonic() - began < 5


def test_a_stop_is_quick_where_no_connection_can_be_open(trained: Trained) -> None:
    with running(ServeSettings(model=trained.model, drain_seconds=30, read_timeout=0.3)) as served:
        time.sleep(0.4)
        began = time.monotonic()
        served.stop(at_once=False)
        assert served.has_ended()
    assert time.monotonic() - began < 5


def test_a_stop_finishes_a_request_whose_body_is_late(trained: Trained, body: bytes) -> None:
    sent = request(body)
    with running(ServeSettings(model=trained.model)) as served, served.connection() as connection:
        connection.sendall(sent[:-10])
        time.sleep(0.1)
        served.stop()
        time.sleep(0.3)
        connection.sendall(sent[-10:])
        connection.settimeout(4)  # less than an idle connection may take
        assert statuses(connection.recv(65_536)) == [200]
        assert connection.recv(65_536) == b""


def test_a_stop_waits_no_longer_than_grace_seconds(
    trained: Trained, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with running(ServeSettings(model=trained.model, grace_seconds=1)) as served, served.connection() as connection:
        connection.sendall(request(body)[:-10])
        time.sleep(0.1)
        began = time.monotonic()
        served.stop()
        connection.recv(1)
    assert 0.9 < time.monotonic() - began < 5
    assert "stopped before everything had ended" in [record.getMessage() for record in caplog.records]


# --- failures


def test_an_application_that_does_not_start(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no such database"})
        raise RuntimeError("no such database")

    process = Process(broken, ServeSettings(model=trained.model), free_address("127.0.0.1", 0))
    with pytest.raises(UserError, match=r"^the application does not start: the log says why$"):
        asyncio.run(process.run())
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == ["no such database", "ASGI lifespan startup failed"]
    assert "no such database" in str(errors[1].exc_info)


@pytest.mark.parametrize("fails", [False, True])
def test_a_lifespan_around_the_models(trained: Trained, fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def application(configured: ServeSettings) -> FastAPI:
        app = model_app(configured)
        models_own = app.router.lifespan_context

        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async with models_own(app):
                seen.append("start")
                yield
                seen.append("end")
                if fails:
                    raise RuntimeError("the end fails")

        app.router.lifespan_context = lifespan
        return app

    with running(ServeSettings(model=trained.model), application):
        assert seen == ["start"]
    assert seen == ["start", "end"]
    assert any("the end fails" in record.getMessage() for record in caplog.records) is fails


def test_a_websocket(trained: Trained) -> None:
    def application(configured: ServeSettings) -> FastAPI:
        app = model_app(configured)

        @app.websocket("/greeting")
        async def greeting(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text("hello")

        return app

    head = b"GET /greeting HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with running(ServeSettings(model=trained.model), application) as served, served.connection() as connection:
        connection.sendall(head + key)
        found = b""
        while b"hello" not in found and (data := connection.recv(65_536)):
            found += data
    assert found.startswith(b"HTTP/1.1 101 ")
    assert found.partition(b"\r\n\r\n")[2].startswith(b"\x81\x05hello")  # RFC 6455: a text of five bytes


class Failing:
    """A wrapper that fails before the application, or after its answer."""

    def __init__(self, app: Any) -> None:
        self.app, self.state = app, app.state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/before":
            raise RuntimeError("before")
        await self.app(scope, receive, send)
        if scope.get("path") == "/livez":
            raise RuntimeError("after")


def test_a_failure_around_the_application_is_answered_and_logged(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    with running(ServeSettings(model=trained.model), lambda made: Failing(model_app(made))) as served:
        assert served.ask("GET", "/before")[::2] == (500, b'{"detail":"Internal Server Error"}')
        assert served.ask("GET", "/livez")[::2] == (200, b'{"status":"alive"}')
        assert served.ask("GET", "/livez")[0] == 200
    logged = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert logged == ["before", "after", "after"]


def test_an_application_without_a_lifespan_says_so(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    class Pathless:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            assert scope["path"]
            await self.app(scope, receive, send)

    process = Process(Pathless(None), ServeSettings(model=trained.model), free_address("127.0.0.1", 0))

    async def stopped_soon() -> None:
        asyncio.get_running_loop().call_later(1, process.stop, True)
        await process.run()

    asyncio.run(stopped_soon())
    assert any("Lifespan" in record.getMessage() for record in caplog.records)


def test_an_address_that_is_taken(trained: Trained) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"^cannot listen on 127.0.0.1:{port}: Address already in use; choose"):
            free_address("127.0.0.1", port)


def test_a_name_and_a_new_port(trained: Trained) -> None:
    host, port = free_address("localhost", 0)
    assert (host, port > 0) == ("127.0.0.1", True)


def test_many_connections_are_served(trained: Trained) -> None:
    """More than Granian's own default."""
    with running(ServeSettings(model=trained.model)) as served:
        kept = [served.connection() for _ in range(600)]
        assert served.ask("GET", "/livez")[0] == 200
        for connection in kept:
            connection.close()


def test_threads_end_with_it(trained: Trained) -> None:
    before = threading.active_count()
    with running(ServeSettings(model=trained.model)) as served:
        served.ask("GET", "/livez")
    assert threading.active_count() <= before + 1
