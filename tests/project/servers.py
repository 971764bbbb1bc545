"""A project's server as a process, for tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serving(project: Path) -> Iterator[str]:
    """The address of a ready server; it must end with code 0."""
    port = free_port()
    package = next(project.glob("src/*/__main__.py")).parent.name
    command = [str(project / ".venv/bin/python"), "-m", package, "serve", "--port", str(port)]
    with (project / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project, stdout=log, stderr=log, env=dict(os.environ))
        try:
            wait_until_ready(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            (project / "server.log").unlink()


def wait_until_ready(url: str, seconds: float = 30) -> None:
    """Ask `/readyz` until it answers 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
            return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise AssertionError(f"{url} was not ready within {seconds} s")


def get(url: str) -> Any:
    """The JSON document at an address."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def post(url: str, document: Any) -> Any:
    """The JSON answer to a JSON document."""
    request = urllib.request.Request(url, json.dumps(document).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
