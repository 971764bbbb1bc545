"""What the server says about itself: JSON logs with a request id, and Prometheus metrics."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
QUIET = frozenset(("/livez", "/readyz", "/metrics"))
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

request_id: ContextVar[str] = ContextVar("request_id", default="")
log = logging.getLogger("access")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the request id inside a request, and extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(level: str) -> None:
    """Send every log line, uvicorn's too, to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Metrics:
    """The counters and histograms of one application."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests",
            "Requests by method, path and status.",
            ["method", "path", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "http_request_duration_seconds",
            "Time from the request's head to the answer's end.",
            ["path"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.predictions = Counter("predictions", "Predicted rows, by label.", ["label"], registry=self.registry)
        self.rejected = Counter("rejected_requests", "Refused prediction requests.", registry=self.registry)
        self.model = Gauge("model_info", "1 for the model that is served.", ["version"], registry=self.registry)

    def text(self) -> bytes:
        """The exposition format, for `/metrics`."""
        return generate_latest(self.registry)

    def count_labels(self, labels: Sequence[str]) -> None:
        """Count predicted rows by label."""
        for label in set(labels):
            self.predictions.labels(label).inc(labels.count(label))


class Observer:
    """ASGI middleware: gives each request an id, times it, counts it and logs it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Sequence[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identity, started, status = _request_id(scope), time.perf_counter(), 500
        request_id.set(identity)

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", identity.encode())]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self.paths else "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(method, path, str(status)).inc()
        self.metrics.latency.labels(path).observe(seconds)
        level = logging.DEBUG if path in QUIET and status < 400 else logging.INFO
        fields = {"method": method, "path": scope["path"], "status": status, "milliseconds": round(seconds * 1e3, 3)}
        log.log(level, "request", extra={"fields": fields})


def _request_id(scope: Scope) -> str:
    """The caller's `X-Request-ID` where it is harmless, else a new one."""
    headers: dict[bytes, Any] = dict(scope["headers"])
    given: str = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
