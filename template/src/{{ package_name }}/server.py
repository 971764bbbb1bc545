"""The prediction server.

    make serve PORT=8080

It becomes ready when the model file is loaded and has made a first prediction. The request schema, the example in
OpenAPI and every check come from the contract inside that file.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, cast

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response, Security, params
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse

from . import model as models
from . import schema
from .contract import label_text
from .errors import UserError
from .observe import Metrics, Observer, configure_logging
from .openapi import JSON, Health, Reason, describe
from .settings import ServeSettings, other_secrets

log = logging.getLogger("server")

CLIENT_CLOSED_REQUEST = 499  # as nginx logs it; nobody is there to read it
API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="Asked for when SERVE_API_KEY is set.")
Guard = Sequence[params.Depends]
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Reason}}
PLAIN: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}
PATHS = ("/", "/predict", "/model", "/livez", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json")


@dataclass(frozen=True)
class Predictor:
    """A loaded model with the validators of its contract."""

    model: models.Model
    row: TypeAdapter[schema.Row]
    rows: TypeAdapter[list[schema.Row]]

    def parse(self, body: bytes) -> list[schema.Row]:
        """The rows of a request body: one JSON object or a list of them.

        Raises:
            pydantic.ValidationError: the body is no JSON, or a row breaks the contract.
        """
        return self.rows.validate_json(body) if body.lstrip()[:1] == b"[" else [self.row.validate_json(body)]


class State:
    """What changes while the server runs: the predictor, or the reason why there is none yet."""

    def __init__(self) -> None:
        self.predictor: Predictor | None = None
        self.reason = "the model is loading"


def load_predictor(settings: ServeSettings) -> Predictor:
    """Load the model and make a first prediction with its own example.

    Raises:
        UserError: the model file cannot be served.
    """
    model = models.load(settings.model, settings.threads)
    predictor = Predictor(
        model, schema.row_adapter(model.contract), schema.rows_adapter(model.contract, settings.max_rows)
    )
    try:
        model.answers(predictor.parse(to_json(model.metadata["example"])))
    except (KeyError, IndexError, ValueError, OverflowError):  # ValidationError is a ValueError
        raise UserError(f"{settings.model} refuses its own example: train it again") from None
    return predictor


def create_app(settings: ServeSettings) -> FastAPI:
    """The ASGI application."""
    state, metrics = State(), Metrics()

    async def load() -> None:
        try:
            state.predictor = await asyncio.to_thread(load_predictor, settings)
        except UserError as error:
            state.reason = str(error)
            log.error(state.reason)
            return
        except Exception:  # whatever a damaged file may raise: the task would die without a word
            state.reason = "the model cannot be loaded; the log says why"
            log.exception(state.reason)
            return
        metrics.model.labels(state.predictor.model.version).set(1)
        app.openapi_schema = None
        gc.collect()
        gc.freeze()
        log.info("ready", extra={"fields": {"model_version": state.predictor.model.version}})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        yield
        await loading

    guard = [Depends(_guard(settings.api_key.get_secret_value()))] if settings.api_key else []
    app = FastAPIOffline(title=settings.title, description=settings.description, lifespan=lifespan)
    app.add_middleware(cast(Any, Observer), metrics=metrics, paths=PATHS)
    _add_predict(app, settings, state, metrics, guard)
    _add_model(app, state, guard)
    _add_health(app, state, metrics)
    _add_openapi(app, state, settings)
    return app


def _answer(content: Any, status: int = 200) -> Response:
    return Response(to_json(content), status, media_type=JSON)


def _add_health(app: FastAPI, state: State, metrics: Metrics) -> None:
    @app.get("/livez", tags=["health"], summary="Whether the process answers", response_model=Health)
    async def livez() -> Response:
        """It depends on nothing else."""
        return _answer({"status": "alive"})

    @app.get("/readyz", tags=["health"], summary="Whether a model is ready", response_model=Health, responses=NOT_READY)
    async def readyz() -> Response:
        """The model is loaded and has made a first prediction; otherwise the reason why not."""
        return _answer({"detail": state.reason}, 503) if state.predictor is None else _answer({"status": "ready"})

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=Response, responses=PLAIN)
    async def prometheus() -> Response:
        """In the Prometheus text exposition format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _guard(key: str) -> Callable[[str | None], None]:
    """Refuses requests without the key. It takes as long for a key that is nearly right as for any other."""

    def guard(given: Annotated[str | None, Security(API_KEY)]) -> None:
        if not secrets.compare_digest((given or "").encode(), key.encode()):
            raise HTTPException(401, "the header X-API-Key does not hold the key", {"WWW-Authenticate": "ApiKey"})

    return guard


def _add_model(app: FastAPI, state: State, guard: Guard) -> None:
    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    @app.get(
        "/model",
        tags=["model"],
        dependencies=guard,
        summary="What is served",
        response_model=dict[str, Any],
        responses=NOT_READY,
    )
    async def model() -> Response:
        """Contract, version, scores on held-out rows, library versions, data hash and git commit."""
        if state.predictor is None:
            return _answer({"detail": state.reason}, 503)
        return _answer(dict(state.predictor.model.metadata))


def _add_predict(app: FastAPI, settings: ServeSettings, state: State, metrics: Metrics, guard: Guard) -> None:
    def refused(problems: list[dict[str, Any]], status: int = 422) -> Response:
        metrics.rejected.inc()
        return _answer({"detail": problems}, status)

    @app.post("/predict", tags=["model"], dependencies=guard, summary="Predict for one row, or for each row of a list")
    async def predict(request: Request) -> Response:
        """Each row is checked against the contract; one that breaks it refuses the request, with the reasons."""
        if state.predictor is None:
            return _answer({"detail": state.reason}, 503)
        try:
            body = await _body(request, settings.max_body_bytes)
        except ClientDisconnect:
            return _answer({"detail": "the client went away before its request was complete"}, CLIENT_CLOSED_REQUEST)
        if body is None:
            limit = f"the body is larger than {settings.max_body_bytes:,} bytes"
            return refused([_problem("body_too_large", limit)], 413)
        try:
            rows = state.predictor.parse(body)
        except ValidationError as error:
            return refused(schema.problems(error))
        try:
            answers = state.predictor.model.answers(rows)
        except OverflowError as error:
            return refused([_problem("prediction_overflow", str(error))])
        metrics.count_labels([label_text(answer.get("label", "value")) for answer in answers])
        return _answer({"predictions": answers, "model_version": state.predictor.model.version})


def _problem(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["body"], "msg": message}


async def _body(request: Request, limit: int) -> bytes | None:
    """The request's body, or None as soon as it is known to be longer than the limit."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        return None
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _add_openapi(app: FastAPI, state: State, settings: ServeSettings) -> None:
    generic = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            describe(generic(), state.predictor.model if state.predictor else None, settings.max_rows)
        return cast(dict[str, Any], app.openapi_schema)

    app.openapi = openapi  # type: ignore[method-assign]


# --- the process


def serve(settings: ServeSettings, warning: str | None = None) -> None:
    """Run until SIGTERM or SIGINT; requests in flight are finished first, and the exit code is 0.

    Args:
        warning: something to log before the start.

    Raises:
        UserError: the address cannot be listened on.
    """
    configure_logging(settings.log_level)
    listener = _listen(settings.host, settings.port)
    for text in filter(None, (warning, other_secrets() if settings.api_key is None else None)):
        log.warning(text)
    url = f"http://{settings.host}:{listener.getsockname()[1]}"
    fields = {"url": url, "docs": f"{url}/docs", "api_key": "asked for" if settings.api_key else "none"}
    log.info("serving", extra={"fields": fields})
    config = uvicorn.Config(
        create_app(settings),
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.grace_seconds,
    )
    # Until uvicorn has handlers of its own; and after a graceful shutdown it raises the signal again, for these.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, TypeError, UnicodeError) as error:  # the last two: what can be no name of a host
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else error
        raise UserError(
            f"cannot listen on {host}:{port}: {reason}; choose another with PORT= (--port), or "
            "[serve] host and port in config.toml"
        ) from None
