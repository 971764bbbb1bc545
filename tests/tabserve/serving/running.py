"""A server that runs in a thread, and what is sent to it and answered."""

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from tabserve.serving import app, process
from tabserve.serving.service import Service
from tabserve.settings import ServeSettings

Headers = dict[str, str]
PREDICT = "/predict"


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    process: process.Process
    app: Any
    thread: threading.Thread

    @property
    def service(self) -> Service:
        """What predicts in it."""
        service: Service = self.app.state.service
        return service

    @property
    def batcher(self) -> Any:
        """The batcher of its model."""
        assert self.service.predictor
        return self.service.predictor.batcher

    @contextlib.contextmanager
    def slowly(self) -> Iterator[None]:
        """As long as a dependency is overridden, every prediction takes FastAPI's path."""
        self.app.dependency_overrides[object] = object
        try:
            yield
        finally:
            self.app.dependency_overrides.clear()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Headers | None = None
    ) -> tuple[int, Headers, bytes]:
        """One answer, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def both(self, body: bytes, headers: Headers | None = None) -> tuple[int, bytes]:
        """What both paths answer, after comparing them."""
        fast = self.ask("POST", PREDICT, body, headers)
        with self.slowly():
            slow = self.ask("POST", PREDICT, body, headers)
        for _, found, _ in (fast, slow):
            found.pop("date")
            assert len(found.pop("x-request-id")) > 0
        assert fast == slow, f"{fast} is not {slow}"
        return fast[0], fast[2]

    def connection(self) -> socket.socket:
        """An open connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, *parts: bytes, answers: int = 1, pause: float = 0.05) -> bytes:
        """So many answers on one connection, or what came before it was closed."""
        found = b""
        with self.connection() as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while len(statuses(found)) < answers or not whole(found):
                if not (data := connection.recv(65_536)):
                    break
                found += data
        return found

    def stop(self, at_once: bool = True) -> None:
        """Tell it to stop."""
        if self.process.loop:
            self.process.loop.call_soon_threadsafe(self.process.stop, at_once)

    def has_ended(self) -> bool:
        """Whether it ends within ten seconds."""
        self.thread.join(10)
        return not self.thread.is_alive()


@contextlib.contextmanager
def running(
    configured: ServeSettings, application: Callable[[ServeSettings], ASGIApp] = app.model_app, wait: bool = True
) -> Iterator[Served]:
    """A server until the context ends; it is ready, or at least answers unless `wait`."""
    made = application(configured)
    under_test = process.Process(made, configured, process.free_address("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(under_test.run()))
    thread.start()
    served = Served(under_test.address[1], under_test, made, thread)
    try:
        eventually(lambda: is_ready(served, "/readyz" if wait else "/livez"))
        yield served
    finally:
        if thread.is_alive():
            served.stop()
        thread.join(20)
        assert not thread.is_alive()


def is_ready(served: Served, path: str = "/readyz") -> bool:
    """Whether it answers, and has a model."""
    with contextlib.suppress(OSError):
        return served.ask("GET", path)[0] == 200
    return False


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def request(body: bytes, *headers: str, path: str = PREDICT) -> bytes:
    """A request to predict."""
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def statuses(answers: bytes) -> list[int]:
    """The status of each answer."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def whole(answers: bytes) -> bool:
    """Whether the last answer has all of its body."""
    head, _, body = answers.split(b"HTTP/1.1 ")[-1].partition(b"\r\n\r\n")
    sizes = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(sizes[0]) if sizes else True
