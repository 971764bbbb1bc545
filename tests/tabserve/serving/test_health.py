"""The image's HEALTHCHECK: its command runs here as Docker hands it over, with the Python of the tests."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

DOCKERFILE = Path(__file__).parents[3] / "template/Dockerfile.jinja"
STATUS = {"/readyz": 200}


class Readiness(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(STATUS.get(self.path, 404))
        self.end_headers()
        self.wfile.write(b"an answer")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Readiness) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def check(port: int) -> tuple[int, str, str]:
    """The exit code of the command, and what it prints; Docker joins lines that end with a backslash."""
    found = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])$", DOCKERFILE.read_text().replace("\\\n", ""), re.MULTILINE)
    assert found
    program, *arguments = json.loads(found[1])
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"SERVE_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_healthy_when_ready(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for status, code in ((200, 0), (503, 1)):
        monkeypatch.setitem(STATUS, "/readyz", status)
        assert check(port) == (code, "an answer\n", "")


def test_unhealthy_when_nobody_answers() -> None:
    code, _, error = check(1)
    assert code == 1
    assert "ConnectionRefusedError" in error


def test_unhealthy_when_the_answer_does_not_come() -> None:
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, _, error = check(silent.getsockname()[1])
    assert code == 1
    assert "TimeoutError" in error
    assert time.monotonic() - started < 10
