"""For serving.py, in the project's environment: what a constant reply costs, on the project's own server or on uvicorn.

    python limits.py asgi|fastapi|uvicorn PORT

It is the project's answer to the same request, so that as many bytes are sent. The bare function reads the body, as
every application must that answers it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

REPLY = (Path(os.environ["SERVED_FOLDER"]) / "reply.json").read_bytes()
CONTENT: dict[str, Any] = json.loads(REPLY)
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode())],
}
BODY = {"type": "http.response.body", "body": REPLY}
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def bare(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    """An ASGI application without any framework."""
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)


def with_fastapi() -> Any:
    """The same with FastAPI, which makes JSON of a dictionary."""
    app = import_module("fastapi").FastAPI()

    @app.post("/predict")  # type: ignore[untyped-decorator]
    async def predict() -> dict[str, Any]:
        return CONTENT

    return app


def main() -> None:
    """Serve, on Granian with the settings of the project's server."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "uvicorn":
        options = {"http": "httptools", "lifespan": "off", "log_level": "warning", "access_log": False}
        import_module("uvicorn").run(bare, host="127.0.0.1", port=port, server_header=False, **options)
        return
    constants, server = import_module("granian.constants"), import_module("granian.server.embed").Server
    options = {"interface": constants.Interfaces.ASGINL, "http": constants.HTTPModes.http1, "websockets": False}
    made = server(bare if kind == "asgi" else with_fastapi(), "127.0.0.1", port, log_enabled=False, **options)
    asyncio.run(made.serve())


if __name__ == "__main__":
    main()
