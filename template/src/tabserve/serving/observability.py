"""What the server says about itself: JSON logs and Prometheus metrics."""

import asyncio
import datetime as dt
import json
import logging
import re
import secrets
import sys
import time
from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, lru_cache, partial
from itertools import accumulate, count
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tabserve.errors import without_credentials
from tabserve.serving.limits import FULL, LOST

REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
QUIET = frozenset(("/livez", "/readyz", "/metrics"))
LONGEST = 256  # characters of a path or a method that are logged
INTERVAL = 0.01  # seconds for which requests are collected, to be counted and logged together
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BEGUN = "tabserve.begun"  # in a scope: what `Observer.begin` returned
PROCESS, REQUESTS = secrets.token_hex(8), count(1)

request_id: ContextVar[str] = ContextVar("request_id", default="")
log = logging.getLogger("access")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id, and more fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record."""
        line = {
            "time": _timestamp(int(record.created * 1e3)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # JSON escapes what is not ASCII, so no control reaches a terminal.
        return json.dumps({key: _hidden(value) for key, value in line.items()}, default=str)


def _hidden(value: object) -> object:
    return without_credentials(value) if isinstance(value, str) else value


def configure_logging(level: str) -> None:
    """Send every log line, Granian's too, to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Latency(Collector):
    """Latencies for each path; the library's histogram takes a microsecond a request."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}  # of each bucket by its upper bound, the last one without
        self.sums: dict[str, float] = defaultdict(float)

    def observe(self, path: str, seconds: Sequence[float]) -> None:
        """Count requests that were answered alike."""
        counts = self.counts.setdefault(path, [0] * (len(LATENCY_BUCKETS) + 1))
        for each in seconds:
            counts[bisect_left(LATENCY_BUCKETS, each)] += 1
        self.sums[path] += sum(seconds)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for."""
        text = "Time from the request headers to the end of the response."
        family = HistogramMetricFamily("http_request_duration_seconds", text, labels=["path"])
        bounds = [*map(str, LATENCY_BUCKETS), "+Inf"]
        for path, counts in self.counts.items():
            family.add_metric([path], list(zip(bounds, accumulate(counts), strict=True)), self.sums[path])
        yield family


class Entry(NamedTuple):
    """A request that has been answered."""

    identity: str
    time: float  # seconds since the epoch
    method: str
    path: str
    route: str
    status: int
    seconds: float


class Observer:
    """Gives each request of an application an id, times it, counts it and logs it.

    Requests are collected for a few milliseconds, then counted and logged together, in a fraction of the time.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.labels: list[str] = []
        self.latency = Latency()
        self.registry = CollectorRegistry()
        for collector in (self.latency, LOST, FULL):
            self.registry.register(collector)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        counter = partial(Counter, registry=self.registry)
        requests = counter("http_requests", "Requests by method, path and status.", ["method", "path", "status"])
        predictions = counter("predictions", "Predicted rows, by label.", ["label"])
        self.rejected = counter("rejected_requests", "Prediction requests that were answered 413 or 422.")
        # Looking up a child by its labels takes longer than counting with it. What can be a label is limited.
        self._of_request = cache(requests.labels)
        self._of_label = cache(predictions.labels)
        self.model = Gauge("model_info", "1 for the model that is served.", ["version"], registry=self.registry)

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, float]:
        """The id of a request, and the time on the clock of `time.perf_counter`.

        It is the caller's where that is harmless, else random for the process and counted.
        """
        for name, value in headers:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                identity = value.decode()
                break
        else:
            identity = f"{PROCESS}{next(REQUESTS):016x}"
        request_id.set(identity)
        return identity, time.perf_counter()

    def end(self, identity: str, started: float, scope: Scope, status: int, route: str) -> None:
        """It was answered, or left; it is counted by `route`: there must not be many."""
        seconds = time.perf_counter() - started
        if not self.entries:
            asyncio.get_running_loop().call_later(INTERVAL, self.flush)
        self.entries.append(Entry(identity, time.time(), scope["method"], scope["path"], route, status, seconds))

    def flush(self) -> None:
        """Count and log what has been answered since the last time."""
        entries, self.entries = self.entries, []
        labels, self.labels = self.labels, []
        for label, rows in Counts(labels).items():
            self._of_label(label).inc(rows)
        alike: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        for entry in entries:
            alike[entry.method, entry.route, entry.status].append(entry.seconds)
        for (method, path, status), seconds in alike.items():
            self._of_request(method if method in METHODS else "other", path, status).inc(len(seconds))
            self.latency.observe(path, seconds)
            if path == "/predict" and status in (413, 422):
                self.rejected.inc(len(seconds))
        lowest = log.getEffectiveLevel()
        with suppress(OSError, ValueError):  # whoever read the log is gone
            sys.stdout.write("".join([access_line(entry) for entry in entries if _level(entry) >= lowest]))
            sys.stdout.flush()


def _level(entry: Entry) -> int:
    if entry.path in QUIET and (entry.status < 400 or entry.status == 503):  # why it is not ready is logged once
        return logging.DEBUG
    return logging.WARNING if entry.status >= 500 else logging.INFO


def access_line(entry: Entry) -> str:
    """The line of `JsonFormatter` for a request; `logging` takes ten times as long."""
    what = _described(_level(entry), entry.method[:LONGEST], entry.path.partition("?")[0][:LONGEST], entry.status)
    time = _timestamp(int(entry.time * 1e3))
    request = f'"request_id": "{entry.identity}"'
    return "{" + f'"time": "{time}", {request}, {what}, "milliseconds": {entry.seconds * 1e3:.3f}' + "}\n"


@lru_cache(maxsize=1_000)
def _described(level: int, method: str, path: str, status: int) -> str:
    fields = {"level": logging.getLevelName(level).lower(), "logger": log.name, "message": "request"}
    text = json.dumps({**fields, "method": method, "path": path, "status": status})
    return text.removeprefix("{").removesuffix("}")


class ObserverMiddleware:
    """ASGI middleware: observes what the application answers."""

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self.app, self.observer = app, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        identity, started = scope.pop(BEGUN, None) or self.observer.begin(scope["headers"])

        async def send_with_request_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", identity.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_request_id)
        finally:
            self.observer.end(identity, started, scope, status, getattr(scope.get("route"), "path", "other"))


@lru_cache(maxsize=1_000)
def _timestamp(milliseconds: int) -> str:
    """A time since the epoch in ISO 8601."""
    return dt.datetime.fromtimestamp(milliseconds / 1e3, dt.UTC).isoformat(timespec="milliseconds")
