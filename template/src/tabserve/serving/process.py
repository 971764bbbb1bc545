"""The server's process: address, signals, and Granian with the application."""

import asyncio
import atexit
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import FrameType

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tabserve.errors import UserError
from tabserve.serving import limits
from tabserve.serving.fast_path import front
from tabserve.serving.observability import configure_logging
from tabserve.settings import ServeSettings, other_secrets

log = logging.getLogger("server")

NOISE = ("Embedded server is experimental", "Unexpected exit from worker")
LEAST_GRACE = 0.5  # seconds that an idle server needs
BUFFER = 16_384  # bytes of a connection that are read before the application takes them: a head at most

Address = tuple[str, int]
Header = tuple[bytes, bytes]
HEADERS: list[Header] = [(b"x-content-type-options", b"nosniff")]  # of every answer
CLOSE: list[Header] = [(b"connection", b"close")]


def serve(application: Callable[[ServeSettings], ASGIApp], settings: ServeSettings, warning: str | None = None) -> None:
    """Run until SIGTERM or SIGINT; requests are finished first, and the exit code is 0."""
    limits.unblock_output()
    atexit.register(limits.finish_output)
    configure_logging(settings.log_level)
    address = free_address(settings.host, settings.port)
    for text in filter(None, (warning, None if settings.keys else other_secrets())):
        log.warning(text)
    process = Process(application(settings), settings, address)
    url = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{address[1]}"
    key = "required" if settings.keys or settings.require_api_key else "none"
    fields = {"url": url, "docs": f"{url}/docs", "api_key": key, "connections": process.connections}
    log.info("serving", extra={"fields": fields})
    process.quit = limits.end
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, process.handle)
    asyncio.run(process.run())
    for number in (signal.SIGTERM, signal.SIGINT):  # Python's own end would put back that they kill
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


class Outermost:
    """The outermost middleware: it logs and answers what nothing handled, and drains."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.draining = False  # whether each client is asked to close its connection after the answer
        self.last = -math.inf  # when a request last began or ended, on the clock of `time.monotonic`

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.last = time.monotonic()
        send = partial(_send, send, HEADERS + CLOSE if self.draining else HEADERS)
        try:
            await self.app(scope, receive, send)
        except Exception:
            log.exception("a request failed")
            with suppress(Exception):  # as it has been answered, most often
                await JSONResponse({"detail": "Internal Server Error"}, 500)(scope, receive, send)
        finally:
            self.last = time.monotonic()


def _send(send: Send, headers: list[Header], message: Message) -> Awaitable[None]:
    """Every answer passes here; a coroutine less than if this were one itself."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), *headers]
    return send(message)


class Process:
    """An application that runs in Granian until it is stopped."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, address: Address) -> None:
        self.app = Outermost(front(app))
        self.settings = settings
        self.address = address
        self.connections = limits.connections()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.quit: Callable[[], object] = lambda: None  # what ends requests that are not finished in time

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of a signal: SIGTERM drains, Ctrl-C does not."""
        if self.loop is None:
            limits.end()  # nothing is served yet, and what is being imported may swallow SystemExit
        self.loop.call_soon_threadsafe(self.stop, number == signal.SIGINT)

    def stop(self, at_once: bool = False) -> None:
        """Let clients close their connections, unless `at_once`, then end; a second call ends now."""
        if self.stopping.is_set():
            self.cut.set()
        if at_once or self.stopping.is_set():
            self.hurried.set()
        self.stopping.set()

    async def run(self) -> None:
        """Serve until `stop`; `UserError` where the application does not start."""
        self.stopping = asyncio.Event()
        self.hurried = asyncio.Event()
        self.cut = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        server = self._server()
        serving = asyncio.create_task(server.serve())
        draining = asyncio.create_task(self._drain())
        watching = asyncio.create_task(limits.watch(self.connections))
        await asyncio.wait({serving, draining}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            draining.cancel()
            raise UserError("the application does not start: the log says why") from serving.exception()
        server.stop()  # type: ignore[no-untyped-call]
        cut = asyncio.create_task(self.cut.wait())
        grace = max(self.settings.grace_seconds, LEAST_GRACE)
        await asyncio.wait({serving, cut}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            log.warning("stopped before everything had ended")
            self.quit()
        cut.cancel()
        watching.cancel()
        self.loop = None

    def _server(self) -> Server:
        # Granian logs why the application's start or end fails; everything else it logs is noise.
        logging.getLogger("_granian").addFilter(lambda record: not record.getMessage().startswith(NOISE))
        return Server(
            self.app,
            *self.address,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            backlog=limits.CONNECTIONS,
            backpressure=self.connections,
            http1_settings=HTTP1Settings(round(self.settings.read_timeout * 1e3), max_buffer_size=BUFFER),
            log_level=LogLevels.warning,
            log_dictconfig={"loggers": {}, "handlers": {}, "formatters": {}},  # as configure_logging says
        )

    async def _drain(self) -> None:
        await self.stopping.wait()
        log.info("stopping")
        self.app.draining = True
        # A connection on which nothing came for longer has been closed: there is none that is kept.
        if time.monotonic() - self.app.last < self.settings.read_timeout:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.hurried.wait(), self.settings.drain_seconds)


def free_address(host: str, port: int) -> Address:
    """The address, with a number for port 0; `UserError` where nothing can listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as listener:
            found: Address = listener.getsockname()[:2]
            return found
    except (OSError, TypeError, UnicodeError) as error:  # the last two: what can be no name of a host
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else error
        raise UserError(
            f"cannot listen on {host}:{port}: {reason}; choose another with PORT= (--port), or "
            "[serve] host and port in config.toml"
        ) from None
