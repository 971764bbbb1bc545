import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tabserve.serving import health

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


def test_healthy_when_ready(port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SERVE_PORT", str(port))
    for status, code in ((200, 0), (503, 1)):
        monkeypatch.setitem(STATUS, "/readyz", status)
        assert health.main() == code
        assert capsys.readouterr().out == "an answer\n"


def test_unhealthy_when_nobody_answers(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_PORT", "1")
    assert health.main() == 1
