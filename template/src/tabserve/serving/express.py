"""The short way to `POST /predict`: small requests are answered as soon as uvicorn has read them.

The long way, with a task for each request, the application's layers, its routing and a write of its own for the body,
takes three times as long as the prediction. What is answered is the same; tests compare. Whatever is not plainly a
small request with the right key goes the long way, and everything does when `obstacle` finds a reason.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import inspect
import secrets
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tabserve.inference.model import Prediction
from tabserve.serving.body import Bodies, LateError
from tabserve.serving.errors import CLIENT_CLOSED_REQUEST, refusal
from tabserve.serving.observability import Observed, Observer, ObserverMiddleware, request_id
from tabserve.serving.predictor import SMALL, Predictor
from tabserve.serving.scheduling import BusyError, Returns

# Digests of what is done here instead: `predict` and `guard` in server.py.
ROUTE, GUARD = "4e363738f22d", "9c089e378ecc"
HEAD = b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %s\r\n"


@dataclass(frozen=True)
class Desk:
    """Where the requests of the short way are dealt with.

    Attributes:
        path: the path whose POST requests these are.
        predictor: the model, or None while there is none.
        observer: counts and logs, as for the long way.
        bodies: the room for bodies.
        returns: when to listen again to clients for whom the server was too busy.
        guard: the dependency that asks for the key, if there is a key.
        key: what the header X-API-Key must hold then.
    """

    path: str
    predictor: Callable[[], Predictor | None]
    observer: Observer
    bodies: Bodies
    returns: Returns
    guard: Callable[..., None] | None
    key: bytes


def obstacle(app: FastAPI) -> str | None:
    """Why the short way would not do what the application does."""
    desk: Desk = app.state.desk
    if [cast(Any, layer.cls) for layer in app.user_middleware] != [ObserverMiddleware]:
        return "the application has other middleware"
    route = _first_route(app, desk.path)
    if type(route) is not APIRoute or digest(route.endpoint) != ROUTE:
        return f"the route {desk.path} has been edited"
    needs = route.dependant
    if [needed.call for needed in needs.dependencies] != ([desk.guard] if desk.guard else []):
        return f"the route {desk.path} depends on more than the API key"
    if needs.path_params or needs.query_params or needs.header_params or needs.cookie_params or needs.body_params:
        return f"the route {desk.path} has parameters"
    if desk.guard and digest(desk.guard) != GUARD:
        return "how the API key is asked for has been edited"
    return None


def _first_route(app: FastAPI, path: str) -> BaseRoute | None:
    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": []}
    return next((route for route in app.router.routes if route.matches(scope)[0] is Match.FULL), None)


def digest(function: Callable[..., Any]) -> str:
    """Stands for what a function does: its layout, comments and docstring do not count. Empty where that is unknown."""
    try:
        found = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError):  # no source, an object that is called, a part of an expression
        return ""
    if not isinstance(found, ast.AsyncFunctionDef | ast.FunctionDef):
        return ""
    found.body = found.body[bool(ast.get_docstring(found)) :]
    found.decorator_list = found.decorator_list[1:]  # the first is the route's own
    return hashlib.sha256(ast.unparse(found).encode()).hexdigest()[:12]


class Visit:
    """A request on the short way; uvicorn deals with it as with one of its own that is not answered yet."""

    __slots__ = ("body", "disconnected", "keep_alive", "late", "observed", "predictor", "response_complete", "size")
    message_event = asyncio.Event()  # uvicorn sets it when the client is gone; nobody waits for it

    def __init__(self, observed: Observed, predictor: Predictor, size: int) -> None:
        self.observed, self.predictor, self.body, self.size = observed, predictor, b"", size
        self.keep_alive, self.disconnected, self.response_complete = True, False, False
        self.late: asyncio.TimerHandle | None = None  # runs while the body has come in part


class Express(HttpToolsProtocol):
    """One connection."""

    def __init__(self, desk: Desk, **options: Any) -> None:
        super().__init__(**options)
        self.desk, self.target, self.bodies = desk, desk.path.encode(), desk.bodies
        self.largest = min(SMALL, desk.bodies.largest)
        self.visit: Visit | None = None
        self.answered = 0.0  # when the last visit was, on the clock of the event loop
        self.head: object = None  # of the last visit; uvicorn makes a new one when the first byte of a request comes
        self.idle_timer: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        """The parser has read the head of a request."""
        predictor, size = self.desk.predictor(), self._plain_size()
        if predictor and size is not None and size <= self.bodies.room:
            self.visit = Visit(self.desk.observer.begin("POST", self.desk.path, self.headers), predictor, size)
            self.cycle = cast(Any, self.visit)
        else:
            self._stop_idle_timer()  # uvicorn has one of its own
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser has read a part of the body."""
        if not self.visit:
            super().on_body(body)
        elif len(body) > self.bodies.room:
            visit, self.visit = self.visit, None  # what still comes of the body is dropped, as it has been answered
            self._refuse(visit, BusyError(1))
        else:
            self.bodies.room -= len(body)
            self.visit.body += body
            if len(body) < self.visit.size and not self.visit.late:
                self.visit.late = self.loop.call_later(self.bodies.patience, self._give_up, self.visit)

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
            self._end(self.visit, CLIENT_CLOSED_REQUEST)
            self.visit = None

    def _plain_size(self) -> int | None:
        """The bytes of the body of a request that goes the short way."""
        if self.url != self.target or self.parser.get_method() != b"POST":
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None  # its answer comes first
        length, key = b"", None
        for name, value in self.headers:
            if name == b"content-length":
                length = value
            elif name == b"x-api-key" and key is None:
                key = value
        if not length.isdigit() or (size := int(length)) > self.largest:
            return None
        if self.expect_100_continue or self.flow.write_paused or self.parser.should_upgrade():
            return None
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return None
        return size if self.desk.guard is None or secrets.compare_digest(key or b"", self.desk.key) else None

    def _predict(self, visit: Visit) -> None:
        try:
            visit.predictor.submit(visit.body, partial(self._finish, visit), alone=len(self.connections) == 1)
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
        if isinstance(error, BusyError):
            self.flow.pause_reading()
            self.loop.call_later(self.desk.returns.next(self.loop.time()), self.flow.resume_reading)

    def _answer(self, visit: Visit, status: int, head: bytes, body: bytes) -> None:
        if not visit.disconnected:
            defaults = [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
            close = b"" if visit.keep_alive else b"connection: close\r\n"
            self.transport.write(b"".join((STATUS_LINE[status], *defaults, head, close, b"\r\n", body)))
        visit.response_complete = True
        self._end(visit, status)
        if not visit.keep_alive:
            self.transport.close()
        if self.pipeline or visit.disconnected or not visit.keep_alive:
            self.on_response_complete()
        else:
            self._rest()

    def _end(self, visit: Visit, status: int) -> None:
        self.bodies.room += len(visit.body)
        self.desk.observer.end(visit.observed, status, self.desk.path)
        if visit.late:
            visit.late.cancel()

    def _give_up(self, visit: Visit) -> None:
        if self.visit is visit:
            self.visit, visit.keep_alive = None, False
            self._refuse(visit, LateError(self.bodies.patience))

    def _rest(self) -> None:
        """Wait for the next request as uvicorn would, but with one timer for many requests."""
        self.server_state.total_requests += 1
        self.answered, self.head = self.loop.time(), self.headers
        if self.idle_timer is None:
            self.idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_idle)

    def _stop_idle_timer(self) -> None:
        if self.idle_timer:
            self.idle_timer.cancel()
            self.idle_timer = None

    def _close_idle(self) -> None:
        self.idle_timer = None
        if self.headers is not self.head:
            return  # a request is on its way
        left = self.answered + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.idle_timer = self.loop.call_later(left, self._close_idle)
        else:
            self.timeout_keep_alive_handler()
