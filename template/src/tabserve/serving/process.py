"""The server's process: its socket, its signals, and uvicorn with the application.

make serve PORT=8080
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from tabserve.errors import UserError
from tabserve.serving.express import Express, obstacle
from tabserve.serving.observability import configure_logging
from tabserve.settings import ServeSettings, other_secrets

log = logging.getLogger("server")

Application = Callable[[ServeSettings], FastAPI]


def serve(application: Application, settings: ServeSettings, warning: str | None = None) -> None:
    """Run until SIGTERM or SIGINT; requests in flight are finished first, and the exit code is 0.

    Args:
        application: makes what is run.
        warning: something to log before the start.

    Raises:
        UserError: the address cannot be listened on.
    """
    configure_logging(settings.log_level)
    listener = listen(settings.host, settings.port)
    for text in filter(None, (warning, other_secrets() if settings.api_key is None else None)):
        log.warning(text)
    url = f"http://{settings.host}:{listener.getsockname()[1]}"
    fields = {"url": url, "docs": f"{url}/docs", "api_key": "asked for" if settings.api_key else "none"}
    log.info("serving", extra={"fields": fields})
    server = uvicorn.Server(configured(application, settings))
    # Until uvicorn has handlers of its own; and after a graceful shutdown it raises the signal again, for these.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server.run(sockets=[listener])


def configured(application: Application, settings: ServeSettings) -> uvicorn.Config:
    """The application in uvicorn, with the short way where nothing stands against it."""
    app = application(settings)
    against = obstacle(app) if settings.express else "[serve] express is false"
    if against:
        log.info("every prediction goes through FastAPI's routing", extra={"fields": {"reason": against}})
    return uvicorn.Config(
        app,
        http="httptools" if against else cast(Any, partial(Express, app.state.desk)),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=settings.grace_seconds,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, TypeError, UnicodeError) as error:  # the last two: what can be no name of a host
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else error
        raise UserError(
            f"cannot listen on {host}:{port}: {reason}; choose another with PORT= (--port), or "
            "[serve] host and port in config.toml"
        ) from None
    # asyncio sets it on the sockets that it makes itself. Without it an answer in two writes can take 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
