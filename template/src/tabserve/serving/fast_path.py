"""`POST /predict` before FastAPI's routing: a plain ASGI function that gives the same answers in a third of the time.

It is the innermost middleware, so that every other one sees each request first; where there is no other, it is `front`
of the whole application as well. It steps aside where FastAPI's path may answer differently, see `fallback_reason`, and
what goes wrong is raised there: FastAPI's route answers all errors.
"""

import logging
import secrets
from collections.abc import Awaitable
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter
from starlette.applications import Starlette
from starlette.routing import Match, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tabserve.serving.observability import BEGUN, ObserverMiddleware
from tabserve.serving.service import Service

log = logging.getLogger("server")

TYPE = (b"content-type", b"application/json")
ERROR = "tabserve.error"  # in a scope: what the route is to raise


class FastPath:
    """Answers `POST /predict` as `route` does, and hands all else on to `app`.

    `guard` has what compares the `keys`, if there are any.
    """

    def __init__(
        self,
        app: ASGIApp,
        api: FastAPI,
        service: Service,
        keys: list[bytes],
        route: APIRoute,
        handler: ASGIApp,
        guard: list[Any],
    ) -> None:
        self.app = app
        self.api = api
        self.service = service
        self.keys = keys
        self.route, self.handler = route, handler
        self.path = route.path
        self.guard = guard
        self.is_open: bool | None = None  # not known at first: a lifespan may add routes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection; a coroutine less than if it were one itself."""
        if scope["type"] == "http" and self.is_open is None:
            self._look()
        if (
            self.is_open
            and scope["type"] == "http"
            and scope["path"] == self.path
            and scope["method"] == "POST"
            and ERROR not in scope
            and not self.api.dependency_overrides
            and (not self.keys or _holds(scope, self.keys))
        ):
            return self._predict(scope, receive, send)
        return self.app(scope, receive, send)

    def _look(self) -> None:
        reason = self.fallback_reason()
        if reason and not isinstance(self.app, FastAPI):  # once, and not for the one in front
            log.info("predictions take FastAPI's path", extra={"fields": {"reason": reason}})
        self.is_open = reason is None

    def fallback_reason(self) -> str | None:
        """Why FastAPI's path may answer a prediction differently."""
        router = self.api.router
        if type(router) is not APIRouter or router.middleware_stack != router.app:
            return "the router was wrapped"
        if self.route.app is not self.handler or "handle" in vars(self.route):
            return f"the route {self.path} was wrapped"
        scope = {"type": "http", "method": "POST", "path": self.path, "root_path": "", "headers": []}
        # Other kinds of routes may look at more than the path.
        known = (APIRoute, Route, Mount, WebSocketRoute)
        routes = self.api.router.routes
        found = (each for each in routes if type(each) not in known or each.matches(scope)[0] is Match.FULL)
        if next(found, None) is not self.route:
            return f"another route answers POST {self.path}"
        if [needed.call for needed in self.route.dependant.dependencies] != self.guard:
            return f"the route {self.path} has other dependencies"
        if [cast(Any, layer.cls) for layer in self.api.user_middleware[-2:]] != [FastPath, ObserverMiddleware]:
            return "a middleware was put after those of the model"
        return None

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        observer = self.service.observer
        identity, started = observer.begin(scope["headers"])
        try:
            content = await self.service.predict(scope, receive)
        except Exception as error:
            scope[ERROR] = error
        if ERROR in scope:  # outside of `except`: what it holds would keep the request's connection
            scope[BEGUN] = identity, started
            await self.app(scope, receive, send)
            return
        scope["route"], scope["endpoint"] = self.route, self.route.endpoint  # as FastAPI does
        headers = [TYPE, (b"content-length", b"%d" % len(content)), (b"x-request-id", identity.encode())]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})
        finally:
            observer.end(identity, started, scope, 200, self.path)


def front(app: ASGIApp) -> ASGIApp:
    """The application behind the fast path, where nothing else is to see predictions first.

    That may be a middleware, or what traces requests: such tools put functions of theirs in the place of FastAPI's.
    """
    if type(app) is not FastAPI or app.max_body_size is not None:
        return app
    layers = {cast(Any, layer.cls): cast(Any, layer.kwargs) for layer in app.user_middleware}
    methods: list[Any] = [Starlette.__call__, FastAPI.__call__, FastAPI.build_middleware_stack]
    own = all(method.__code__.co_filename.endswith("applications.py") for method in methods)
    untouched = app.middleware_stack is None and "build_middleware_stack" not in vars(app)
    usual = untouched and layers.keys() == {FastPath, ObserverMiddleware}
    return FastPath(app, **layers[FastPath]) if own and usual else app


def _holds(scope: Scope, keys: list[bytes]) -> bool:
    """Whether the first X-API-Key is one of the keys, always in the same time."""
    given: bytes = next((value for name, value in scope["headers"] if name == b"x-api-key"), b"")
    return is_key(given.decode("latin-1"), keys)


def is_key(given: str | None, keys: list[bytes]) -> bool:
    """Whether this is one of the keys, always in the same time."""
    return sum(secrets.compare_digest((given or "").encode(), key) for key in keys) > 0
