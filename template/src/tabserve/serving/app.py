"""The application that answers over HTTP; `process.py` runs it.

It becomes ready when the model file is loaded and has made a first prediction. The request schema, the example in
OpenAPI and every check come from the contract inside that file.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, HTTPException, Request, Response, Security, params
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline
from pydantic_core import to_json
from starlette.responses import RedirectResponse

from tabserve.errors import UserError
from tabserve.serving import predictor as predictors
from tabserve.serving.body import Bodies
from tabserve.serving.errors import JSON, NotReadyError, refusal
from tabserve.serving.express import Desk
from tabserve.serving.observability import Metrics, Observer, ObserverMiddleware, request_id
from tabserve.serving.openapi import Health, Reason, describe
from tabserve.serving.scheduling import BusyError, Returns
from tabserve.settings import ServeSettings

log = logging.getLogger("server")

API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="Asked for when SERVE_API_KEY is set.")
Guard = Sequence[params.Depends]
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Reason}}
PLAIN: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}
PREDICT = "/predict"


class State:
    """What changes while the server runs: the predictor, or the reason why there is none yet."""

    def __init__(self) -> None:
        self.predictor: predictors.Predictor | None = None
        self.reason = "the model is loading"


def model_app(settings: ServeSettings) -> FastAPI:
    """The API of the model in `settings.model`."""
    state, metrics = State(), Metrics()
    observer = Observer(metrics)

    async def load() -> None:
        try:
            state.predictor = await asyncio.to_thread(predictors.load, settings, observer, asyncio.get_running_loop())
        except UserError as error:
            state.reason = str(error)
            log.error(state.reason)
        except Exception:  # whatever a damaged file may raise: the task would die without a word
            state.reason = "the model cannot be loaded; the log says why"
            log.exception(state.reason)
        else:
            metrics.model.labels(state.predictor.model.version).set(1)
            app.openapi_schema = None
            log.info("ready", extra={"fields": {"model_version": state.predictor.model.version}})
        gc.freeze()
        gc.enable()  # cli.py has disabled it: what is imported and loaded stays, and looking through it takes long

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # One, because what it does holds Python's lock: more would only take turns with each other and the event loop.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, "worker"))
        loading = asyncio.create_task(load())
        yield
        await loading
        observer.flush()

    key = settings.api_key.get_secret_value() if settings.api_key else None
    guard = _guard(key) if key else None
    bodies, asks = Bodies(settings.max_body_bytes), [Depends(guard)] if guard else []
    desk = Desk(PREDICT, lambda: state.predictor, observer, bodies, Returns(), guard, (key or "").encode())
    about = {"title": settings.title, "description": settings.description}
    # FastAPI's own tracing asks for its providers at every request, also where there are none.
    app = FastAPIOffline(**about, lifespan=lifespan, telemetry={"tracing": False, "metrics": False, "logs": False})
    app.add_middleware(cast(Any, ObserverMiddleware), observer=observer)
    app.add_exception_handler(Exception, _crashed)
    _add_predict(app, state, desk, asks)
    _add_model(app, state, asks)
    _add_health(app, state, observer)
    _add_openapi(app, state, settings)
    app.state.desk = desk
    return app


def _answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers, JSON)


async def _crashed(request: Request, error: Exception) -> Response:
    """What is answered for an error that nothing handles; uvicorn logs it."""
    return _answer({"detail": "Internal Server Error"}, 500, {"x-request-id": request_id.get()})


def _add_health(app: FastAPI, state: State, observer: Observer) -> None:
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
        observer.flush()
        return Response(observer.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _guard(key: str) -> Callable[[str | None], None]:
    """Refuses requests without the key. It takes as long for a key that is nearly right as for any other."""

    def guard(given: Annotated[str | None, Security(API_KEY)]) -> None:
        if not secrets.compare_digest((given or "").encode(), key.encode()):
            raise HTTPException(401, "the header X-API-Key does not hold the key", {"WWW-Authenticate": "ApiKey"})

    return guard


def _add_model(app: FastAPI, state: State, asks: Guard) -> None:
    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    @app.get(
        "/model",
        tags=["model"],
        dependencies=asks,
        summary="What is served",
        response_model=dict[str, Any],
        responses=NOT_READY,
    )
    async def model() -> Response:
        """Contract, version, scores on held-out rows, library versions, data hash and git commit."""
        if state.predictor is None:
            return _answer({"detail": state.reason}, 503)
        return _answer(dict(state.predictor.model.metadata))


def _add_predict(app: FastAPI, state: State, desk: Desk, asks: Guard) -> None:
    @app.post(PREDICT, tags=["model"], dependencies=asks, summary="Predict for one row, or for each row of a list")
    async def predict(request: Request) -> Response:
        """Each row is checked against the contract; one that breaks it refuses the request, with the reasons."""
        # Most requests do not come here: express.py answers them the same. `[serve] express = false` ends that.
        try:
            async with desk.bodies.read(request) as body:
                if state.predictor is None:
                    raise NotReadyError(state.reason)
                return Response(await state.predictor.predict(body), media_type=JSON)
        except BusyError as error:
            busy = refusal(error)
        except Exception as error:
            return refusal(error)
        await asyncio.sleep(desk.returns.next(time.monotonic()))  # not above: the error holds what was read of the body
        return busy


def _add_openapi(app: FastAPI, state: State, settings: ServeSettings) -> None:
    generic = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            describe(generic(), state.predictor.model if state.predictor else None, settings.max_rows)
        return cast(dict[str, Any], app.openapi_schema)

    app.openapi = openapi  # type: ignore[method-assign]
