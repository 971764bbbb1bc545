"""The short way to `POST /predict`: small requests are answered as soon as uvicorn has read them.

The long way, with a task for each request, the application's layers, its routing and a write of its own for the body,
takes three times as long as the prediction. What is answered is the same; tests compare. Whatever is not plainly a
small request with the right key goes the long way, and everything does when `obstacle` finds a reason.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .batching import BusyError
from .model import Prediction
from .observe import Observed, Observer, request_id
from .predictor import SMALL, Predictor
from .refusals import CLIENT_CLOSED_REQUEST, refusal

PAUSE = 0.1  # seconds for which a client is not listened to when the server is busy
HEAD = b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %s\r\n"


@dataclass(frozen=True)
class Desk:
    """Where the requests of the short way are dealt with.

    Attributes:
        path: the path whose POST requests these are.
        predictor: the model, or None while there is none.
        observer: counts and logs, as for the long way.
        key: what the header X-API-Key must hold, if anything.
    """

    path: str
    predictor: Callable[[], Predictor | None]
    observer: Observer
    key: bytes | None


def obstacle(app: FastAPI) -> str | None:
    """Why the short way would not do what the application does."""
    desk: Desk = app.state.desk
    if len(app.user_middleware) > 1:
        return "the application has more middleware"
    if app.exception_handlers.keys() != FastAPI().exception_handlers.keys():
        return "the application has exception handlers of its own"
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path == desk.path]
    if not routes:
        return f"there is no route {desk.path}"
    if len(routes[0].dependant.dependencies) > (desk.key is not None):
        return f"the route {desk.path} depends on more than the API key"
    return None


class Visit:
    """A request on the short way; uvicorn deals with it as with one of its own that is not answered yet."""

    __slots__ = ("body", "disconnected", "keep_alive", "observed", "predictor", "response_complete")
    message_event = asyncio.Event()  # uvicorn sets it when the client is gone; nobody waits for it

    def __init__(self, observed: Observed, predictor: Predictor) -> None:
        self.observed, self.predictor, self.body = observed, predictor, b""
        self.keep_alive, self.disconnected, self.response_complete = True, False, False


class Express(HttpToolsProtocol):
    """One connection."""

    def __init__(self, desk: Desk, **options: Any) -> None:
        super().__init__(**options)
        self.desk, self.target = desk, desk.path.encode()
        self.visit: Visit | None = None
        self.answered = 0.0  # when the last visit was, on the clock of the event loop
        self.idle_timer: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        """The parser has read the head of a request."""
        predictor = self.desk.predictor()
        if predictor and self._is_plain():
            self.visit = Visit(self.desk.observer.begin("POST", self.desk.path, self.headers), predictor)
            self.cycle = cast(Any, self.visit)
        else:
            self._stop_idle_timer()  # uvicorn has one of its own
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser has read a part of the body."""
        if self.visit:
            self.visit.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser has read a whole request."""
        if self.visit:
            visit, self.visit = self.visit, None
            self._predict(visit)
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away, perhaps amid a body."""
        super().connection_lost(exc)
        self._stop_idle_timer()
        if self.visit:
            self.desk.observer.end(self.visit.observed, CLIENT_CLOSED_REQUEST)
            self.visit = None

    def _is_plain(self) -> bool:
        if self.url != self.target or self.parser.get_method() != b"POST":
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # its answer comes first
        length, key = b"", None
        for name, value in self.headers:
            if name == b"content-length":
                length = value
            elif name == b"x-api-key" and key is None:
                key = value
        if not length.isdigit() or int(length) > SMALL or self.expect_100_continue or self.flow.write_paused:
            return False
        if (
            self.parser.get_http_version() != "1.1"
            or not self.parser.should_keep_alive()
            or self.parser.should_upgrade()
        ):
            return False
        return self.desk.key is None or secrets.compare_digest(key or b"", self.desk.key)

    def _predict(self, visit: Visit) -> None:
        try:
            matrix = visit.predictor.read(visit.body)
            visit.predictor.batcher.submit(matrix, partial(self._finish, visit), alone=len(self.connections) == 1)
        except Exception as error:
            self._refuse(visit, error)

    def _finish(self, visit: Visit, outcome: Prediction | Exception) -> None:
        try:
            if isinstance(outcome, Exception):
                raise outcome
            content = visit.predictor.content(visit.predictor.model.answer(outcome))
        except Exception as error:
            self._refuse(visit, error)
        else:
            self._answer(visit, 200, HEAD % (len(content), visit.observed.identity.encode()), content)

    def _refuse(self, visit: Visit, error: Exception) -> None:
        token = request_id.set(visit.observed.identity)  # for what is logged
        response = refusal(error)
        request_id.reset(token)
        headers = [*response.raw_headers, (b"x-request-id", visit.observed.identity.encode())]
        head = b"".join([b"%s: %s\r\n" % header for header in headers])
        self._answer(visit, response.status_code, head, bytes(response.body))
        if isinstance(error, BusyError):  # who asks again at once would take the time of all others
            self.flow.pause_reading()
            self.loop.call_later(PAUSE, self.flow.resume_reading)

    def _answer(self, visit: Visit, status: int, head: bytes, body: bytes) -> None:
        if not visit.disconnected:
            defaults = [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
            close = b"" if visit.keep_alive else b"connection: close\r\n"
            self.transport.write(b"".join((STATUS_LINE[status], *defaults, head, close, b"\r\n", body)))
        visit.response_complete = True
        self.desk.observer.end(visit.observed, status)
        if not visit.keep_alive:
            self.transport.close()
        if self.pipeline or visit.disconnected or not visit.keep_alive:
            self.on_response_complete()
        else:
            self._rest()

    def _rest(self) -> None:
        """Wait for the next request as uvicorn would, but with one timer for many requests."""
        self.server_state.total_requests += 1
        self.answered = self.loop.time()
        if self.idle_timer is None:
            self.idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_idle)

    def _stop_idle_timer(self) -> None:
        if self.idle_timer:
            self.idle_timer.cancel()
            self.idle_timer = None

    def _close_idle(self) -> None:
        self.idle_timer = None
        left = self.answered + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.idle_timer = self.loop.call_later(left, self._close_idle)
        elif self.cycle.response_complete:
            self.timeout_keep_alive_handler()
