"""Request bodies: how large they may be, how many are held, and for how long."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tabserve.inference import model as models
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
    bodies.room = free = 3 * len(body)
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
