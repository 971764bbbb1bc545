"""`POST /predict` before FastAPI's routing: a plain ASGI function that gives the same answers in a third of the time.

It is the innermost middleware, so that every other one sees each request first; where there is no other, it is `front`
of the whole application as well. It steps aside where FastAPI's path may answer differently: see `obstacle`.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, cast

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from tabserve.serving.errors import FAILED, JSON, STATUSES, as_http
from tabserve.serving.observability import ObserverMiddleware, request_id
from tabserve.serving.service import Service

log = logging.getLogger("server")

TYPE = (b"content-type", JSON.encode())
Headers = list[tuple[bytes, bytes]]


class Setup(NamedTuple):
    """What a fast path belongs to.

    Attributes:
        api: the application.
        service: what predicts.
        key: what the header X-API-Key must hold, empty without a key.
        route: what answers predictions otherwise.
        guard: the functions that the route depends on: at most the one that compares the key.
        handlers: of exceptions, as `model_app` made them.
    """

    api: FastAPI
    service: Service
    key: bytes
    route: APIRoute
    guard: list[Callable[..., Any] | None]
    handlers: Mapping[Any, Any]


class FastPath:
    """Answers `POST /predict`, and hands everything else on to `app`."""

    def __init__(self, app: ASGIApp, setup: Setup) -> None:
        self.app, self.setup, self.service, self.path = app, setup, setup.service, setup.route.path
        # An application makes its middleware when it starts. From then on, neither handlers nor routes can change.
        if reason := obstacle(setup):
            log.info("predictions take FastAPI's path", extra={"fields": {"reason": reason}})
        self.is_open = reason is None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection; a coroutine less than if it were one itself."""
        if (
            self.is_open
            and scope["type"] == "http"
            and scope["path"] == self.path
            and scope["method"] == "POST"
            and not self.setup.api.dependency_overrides
            and (not self.setup.key or _holds(scope, self.setup.key))
        ):
            return self._predict(scope, receive, send)
        return self.app(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        observer = self.service.observer
        observed, status = observer.begin("POST", self.path, scope["headers"]), 500
        request_id.set(observed.identity)
        try:
            try:
                content = await self.service.predict(scope, receive)
                headers: Headers = []
                status = 200
            except Exception as error:
                status, headers, content = failure(error)
            headers += (TYPE, (b"content-length", b"%d" % len(content)), (b"x-request-id", observed.identity.encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": content})
        finally:
            observer.end(observed, status, self.path)


def failure(error: Exception) -> tuple[int, Headers, bytes]:
    """The answer to a request that ended with this, as FastAPI gives it."""
    match as_http(error):
        case RequestValidationError() as known:
            return 422, [], to_json({"detail": known.errors()})
        case HTTPException() as known:
            fields = [(name.encode(), value.encode()) for name, value in (known.headers or {}).items()]
            return known.status_code, fields, to_json({"detail": known.detail})
        case _:
            log.error("a request failed", exc_info=error)
            return 500, [], to_json(FAILED)


def front(app: ASGIApp) -> ASGIApp:
    """The application behind the fast path, where no other middleware is to see predictions first."""
    setup: Setup | None = getattr(getattr(app, "state", None), "fast_path", None)
    if setup is None or app is not setup.api or obstacle(setup):
        return app
    usual = {FastPath, ObserverMiddleware}
    return FastPath(app, setup) if {cast(Any, layer.cls) for layer in setup.api.user_middleware} == usual else app


def obstacle(setup: Setup) -> str | None:
    """Why FastAPI's path may answer a prediction differently."""
    api, route = setup.api, setup.route
    scope = {"type": "http", "method": "POST", "path": route.path, "root_path": "", "headers": []}
    if next((each for each in api.router.routes if each.matches(scope)[0] is Match.FULL), None) is not route:
        return f"another route answers POST {route.path}"
    if [needed.call for needed in route.dependant.dependencies] != setup.guard:
        return f"the route {route.path} has other dependencies"
    if any(_bears(kind) for kind, handler in api.exception_handlers.items() if setup.handlers.get(kind) != handler):
        return "another exception handler may answer"
    return None


def _bears(kind: Any) -> bool:
    """Whether a handler of this kind of error may get one of a prediction request."""
    if isinstance(kind, int):
        return kind in STATUSES
    return any(issubclass(raised, kind) for raised in (HTTPException, RequestValidationError, Exception))


def _holds(scope: Scope, key: bytes) -> bool:
    """Whether the first X-API-Key is the key; the comparison always takes the same time."""
    given: bytes = next((value for name, value in scope["headers"] if name == b"x-api-key"), b"")
    return secrets.compare_digest(given, key)
