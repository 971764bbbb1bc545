"""The application that answers over HTTP; `process.py` runs it.

It becomes ready when the model file is loaded and has made a first prediction. The request schema, the example in
OpenAPI and every check come from the contract inside that file.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, HTTPException, Request, Response, Security, params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import JSONResponse, RedirectResponse

from tabserve.contract import schema
from tabserve.inference.model import Model
from tabserve.serving import docs
from tabserve.serving.body import problem
from tabserve.serving.fast_path import ERROR, FastPath, is_key
from tabserve.serving.observability import ObserverMiddleware, request_id
from tabserve.serving.openapi import JSON, Health, Reason, describe
from tabserve.serving.scheduling import BusyError
from tabserve.serving.service import Service
from tabserve.settings import ServeSettings

API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="Required when SERVE_API_KEY is set.")
Guard = Sequence[params.Depends]
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Reason}}
PLAIN: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}


def model_app(settings: ServeSettings, dependencies: Guard = ()) -> FastAPI:
    """The API of the model in `settings.model`; `dependencies` are for what needs the key."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # One, because what it does holds the GIL: more would only take turns with each other and the event loop.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, "worker"))
        loading = asyncio.create_task(service.load())
        yield
        await loading
        service.observer.flush()

    guard = [Depends(_guard(settings.keys))] if settings.keys else []
    app = FastAPI(
        title=settings.title,
        description=settings.description,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A redirect would name the scheme and the host of this process, not those of an ingress.
        redirect_slashes=False,
        # FastAPI's own tracing looks for its providers at every request, also where there are none.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _crashed)
    route = _add_predict(app, service, [*guard, *dependencies])
    _add_model(app, service, [*guard, *dependencies])
    _add_health(app, service)
    _add_openapi(app, service, settings, is_public=not guard and not dependencies)
    docs.add(app)
    functions = [needed.dependency for needed in guard]
    app.add_middleware(cast(Any, ObserverMiddleware), observer=service.observer)
    app.add_middleware(
        cast(Any, FastPath),
        api=app,
        service=service,
        keys=settings.keys,
        route=route,
        handler=route.app,
        guard=functions,
    )
    app.state.service = service
    return app


async def _invalid(request: Request, error: Exception) -> Response:
    """Problems without the input: it may be secret or huge."""
    shown = [{name: each[name] for name in ("type", "loc", "msg")} for each in cast(Any, error).errors()]
    return JSONResponse({"detail": shown}, 422)


async def _crashed(request: Request, error: Exception) -> Response:
    """What is answered for an error that nothing handles; the server logs it."""
    return JSONResponse({"detail": "Internal Server Error"}, 500, {"x-request-id": request_id.get()})


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/livez", tags=["health"], summary="Whether the process answers", response_model=Health)
    async def livez() -> Response:
        """It depends on nothing else."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", tags=["health"], summary="Whether a model is ready", response_model=Health, responses=NOT_READY)
    async def readyz() -> Response:
        """The model is loaded and has made a first prediction; otherwise the reason why not."""
        ready = service.predictor is not None
        return JSONResponse({"status": "ready"}) if ready else JSONResponse({"detail": service.reason}, 503)

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=Response, responses=PLAIN)
    async def prometheus() -> Response:
        """In the Prometheus text exposition format."""
        service.observer.flush()
        return Response(generate_latest(service.observer.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _guard(keys: list[bytes]) -> Callable[[str | None], None]:
    """Refuses requests without a key, in the same time for any wrong one."""

    def guard(given: Annotated[str | None, Security(API_KEY)]) -> None:
        if not is_key(given, keys):
            raise HTTPException(401, "the header X-API-Key does not hold the key", {"WWW-Authenticate": "ApiKey"})

    return guard


def _add_model(app: FastAPI, service: Service, guard: Guard) -> None:
    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    @app.get(
        "/model", tags=["model"], dependencies=guard, summary="What is served", response_model=dict, responses=NOT_READY
    )
    async def model() -> Response:
        """Contract, version, scores on held-out rows, library versions, data hash and git commit."""
        if service.predictor is None:
            return JSONResponse({"detail": service.reason}, 503)
        return Response(to_json(service.predictor.model.shown), media_type=JSON)


def _add_predict(app: FastAPI, service: Service, guard: Guard) -> APIRoute:
    @app.post("/predict", tags=["model"], dependencies=guard, summary="Predict for one row, or for each row of a list")
    async def predict(request: Request) -> Response:
        """Each row is checked against the contract; if one violates it, the response lists the reasons."""
        # Most requests do not come here: fast_path.py answers them the same, and leaves its errors to this.
        try:
            if ERROR in request.scope:
                raise request.scope.pop(ERROR)  # a circle of error, frame and scope would keep the connection
            return Response(await service.predict(request.scope, request.receive), media_type=JSON)
        except ValidationError as error:
            raise RequestValidationError(schema.problems(error)) from None
        except OverflowError as error:
            raise RequestValidationError([problem("prediction_overflow", str(error))]) from None
        except BusyError as error:
            raise HTTPException(503, str(error), {"retry-after": str(math.ceil(error.seconds))}) from None

    return cast(APIRoute, app.routes[-1])


def _add_openapi(app: FastAPI, service: Service, settings: ServeSettings, is_public: bool) -> None:
    generic, made = app.openapi, dict[bool, tuple[Model | None, dict[str, Any]]]()

    def openapi(is_full: bool = True) -> dict[str, Any]:
        model = service.predictor.model if service.predictor else None
        if is_full not in made or made[is_full][0] is not model:
            app.openapi_schema = None
            made[is_full] = model, describe(generic(), model, settings.max_rows, is_full)
        return made[is_full][1]

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/openapi.json", include_in_schema=False)
    async def document(request: Request, given: Annotated[str | None, Security(API_KEY)]) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        servers = {"servers": [{"url": root}]} if root else {}
        return JSONResponse(openapi(is_public or is_key(given, settings.keys)) | servers)
