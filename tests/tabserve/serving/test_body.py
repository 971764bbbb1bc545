"""Request bodies: how large they may be, how many are held, and for how long."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tabserve.inference import model as models
from tabserve.serving import body as bodies_module
from tabserve.settings import ServeSettings
from tests.tabserve.conftest import Trained
from tests.tabserve.serving.running import PREDICT, Served, eventually, request, running, statuses
from tests.tabserve.serving.test_api import ONE_MODEL

pytestmark = ONE_MODEL
PATHS: list[Callable[[Served], contextlib.AbstractContextManager[None]]] = [
    lambda served: contextlib.nullcontext(),
    Served.slowly,
]
BOTH = pytest.mark.parametrize("path", PATHS, ids=["fast", "slow"])


@pytest.fixture
def body(trained: Trained) -> bytes:
    return json.dumps(models.load(trained.model).metadata["example"]).encode()


@pytest.fixture
def served(trained: Trained) -> Iterator[Served]:
    with running(ServeSettings(model=trained.model, read_timeout=1, max_body_bytes=100_000)) as served:
        yield served


def test_the_largest_body(trained: Trained, body: bytes) -> None:
    with running(ServeSettings(model=trained.model, max_body_bytes=len(body))) as served:
        assert served.both(body)[0] == 200
        assert served.both(body + b" ")[0] == 413


@BOTH
@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}])
def test_who_sends_too_much_sees_the_answer(served: Served, path: Any, headers: dict[str, str]) -> None:
    with path(served):
        assert served.ask("POST", PREDICT, b" " * 2**23, headers)[0] == 413


@BOTH
def test_who_asks_before_sending_too_much_is_told_at_once(served: Served, path: Any) -> None:
    with path(served):
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\nExpect: 100-continue\r\n\r\n"
        assert statuses(served.send(head)) == [413]


@BOTH
def test_pieces_that_are_too_much_together(served: Served, path: Any) -> None:
    with path(served):
        chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
        sent = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"0\r\n\r\n"
        assert statuses(served.send(sent)) == [413]


@BOTH
def test_incomplete_bodies_have_little_room(served: Served, body: bytes, path: Any) -> None:
    bodies = served.service.bodies
    bodies.deadlines.seconds = 20
    bodies.room, bodies.reserve = 3 * len(body), 0
    free = bodies.room
    with path(served), contextlib.ExitStack() as stack:
        late = [stack.enter_context(served.connection()) for _ in range(4)]
        for connection in late:
            connection.sendall(request(body)[: -len(body)])  # who only announces a body takes no room
        assert served.ask("POST", PREDICT, body)[0] == 200
        for connection in late[:3]:
            connection.sendall(body[:-10])
        eventually(lambda: bodies.room == 30)
        assert served.ask("POST", PREDICT, body)[0] == 503
        late[3].sendall(body)
        assert statuses(late[3].recv(65_536)) == [503]
        for connection in late[:3]:
            connection.sendall(body[-10:])
            assert statuses(connection.recv(65_536)) == [200]
        eventually(lambda: bodies.room == free)
        assert served.ask("POST", PREDICT, body)[0] == 200


@BOTH
@pytest.mark.parametrize("chunked", [False, True])
def test_the_oldest_incomplete_body_makes_room(
    served: Served, body: bytes, path: Any, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies_module, "PATIENCE", 0.2)
    bodies = served.service.bodies
    bodies.deadlines.seconds = 20
    bodies.room, bodies.reserve = 3 * len(body), 0
    free = bodies.room
    with path(served), contextlib.ExitStack() as stack:
        late = [stack.enter_context(served.connection()) for _ in range(3)]
        for count, connection in enumerate(late, 1):
            connection.sendall(in_a_chunk(body)[:-7] if chunked else request(body)[:-10])
            eventually(lambda count=count: bodies.room == free - count * (len(body) - 10 * (not chunked)))  # type: ignore[misc]
        time.sleep(0.3)
        assert served.ask("POST", PREDICT, body)[0] == 200
        assert statuses(late[0].recv(65_536)) == [408]
        for connection in late[1:]:
            connection.sendall(in_a_chunk(body)[-7:] if chunked else body[-10:])
            assert statuses(connection.recv(65_536)) == [200]
        eventually(lambda: bodies.room == free)


def in_a_chunk(body: bytes) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


def test_a_body_that_has_not_had_its_time_is_not_given_up(served: Served, body: bytes) -> None:
    bodies = served.service.bodies
    bodies.room, bodies.reserve = 2 * len(body), 0
    with served.connection() as first, served.connection() as second:
        for connection in (first, second):
            connection.sendall(request(body)[:-10])
        eventually(lambda: bodies.room == 20)
        assert served.ask("POST", PREDICT, body)[0] == 503
        for connection in (first, second):
            connection.sendall(body[-10:])
            assert statuses(connection.recv(65_536)) == [200]


@BOTH
def test_incomplete_bodies_cannot_take_what_small_and_whole_ones_need(served: Served, body: bytes, path: Any) -> None:
    bodies = served.service.bodies
    bodies.deadlines.seconds = 20
    free, bodies.room = bodies.room, bodies.reserve + len(body)
    with path(served), served.connection() as one, served.connection() as other:
        one.sendall(request(body)[:-1])
        eventually(lambda: bodies.room == bodies.reserve + 1)
        other.sendall(request(body)[:-1])
        assert statuses(other.recv(65_536)) == [503]
        for _ in range(5):
            assert served.ask("POST", PREDICT, body)[0] == 200
        one.sendall(body[-1:])
        assert statuses(one.recv(65_536)) == [200]
    bodies.room = free


def test_large_bodies_leave_room_for_small_ones(served: Served, body: bytes) -> None:
    bodies = served.service.bodies
    free, bodies.room = bodies.room, bodies.reserve + 50_000
    assert served.ask("POST", PREDICT, body + b" " * 60_000)[0] == 503
    assert served.ask("POST", PREDICT, body + b" " * 40_000)[0] == 200
    bodies.room = 2 * len(body)
    assert served.ask("POST", PREDICT, body)[0] == 200
    bodies.room = free


@BOTH
def test_a_body_that_does_not_come_is_given_up(served: Served, body: bytes, path: Any) -> None:
    free = served.service.bodies.room
    with path(served), served.connection() as connection:
        connection.sendall(request(body)[:-10])
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert statuses(answer) == [408]
    assert b"the body did not come within 1 s" in answer
    assert served.service.bodies.room == free


@BOTH
def test_a_client_that_goes_away_amid_its_body(served: Served, body: bytes, path: Any) -> None:
    free = served.service.bodies.room
    with path(served):
        with served.connection() as connection:
            connection.sendall(request(body)[:-10])
            time.sleep(0.05)
        eventually(lambda: b'path="/predict",status="400"' in served.ask("GET", "/metrics")[2])
    assert served.service.bodies.room == free
    assert served.ask("POST", PREDICT, body)[0] == 200


def test_a_body_may_come_in_parts_or_late(served: Served, body: bytes) -> None:
    sent = request(body)
    assert statuses(served.send(sent[:20], sent[20:-30], sent[-30:] + sent, answers=2)) == [200, 200]
