"""What pages may load and run, and where an answer may lead to."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.responses import HTMLResponse, Response
from pydantic import SecretStr

from tabserve.serving import docs
from tabserve.serving.app import model_app
from tabserve.settings import ServeSettings
from tests.conftest import missing
from tests.tabserve.conftest import SOURCE, Trained
from tests.tabserve.serving.running import PREDICT, Served, running
from tests.tabserve.serving.test_api import ONE_MODEL

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PLACES = ["/", "/docs", "/docs/", "/docs.js", "/openapi.json", "/livez", "/livez/", "/readyz", "/metrics", "/model"]
PLACES += ["/model/", "/redoc", "//evil.example", "//evil.example/..", "/%2f%2fevil.example", "/static-offline-docs"]
PLACES += ["/static-offline-docs/", "/static-offline-docs/favicon.png", "/static-offline-docs/..%2f", "/nothing"]


@pytest.fixture
def served(trained: Trained) -> Iterator[Served]:
    def application(settings: ServeSettings) -> object:
        app = model_app(settings)

        @app.get("/fails")
        async def fails() -> None:
            raise RuntimeError

        return app

    configured = ServeSettings(model=trained.model, title='<script>alert("x")</script> & "more"', max_body_bytes=1_000)
    with running(configured, application) as served:  # type: ignore[arg-type]
        yield served


@ONE_MODEL
def test_every_answer_says_that_its_type_is_its_type(served: Served) -> None:
    asked = [("GET", path, b"") for path in [*PLACES, PREDICT, "/fails"]]
    asked += [("POST", path, body) for path in (PREDICT, "/predict/", "/livez") for body in (b"{}", b" " * 2_000, b"")]
    for method, path, body in asked:
        status, headers, _ = served.ask(method, path, body)
        assert headers.get("x-content-type-options") == "nosniff", (method, path, status)
        assert headers.get("location", "docs") == "docs", (method, path, status)


@ONE_MODEL
def test_the_page_runs_only_scripts_of_this_server(served: Served) -> None:
    _, headers, page = served.ask("GET", "/docs")
    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert "script-src" not in policy
    assert b"&lt;script&gt;alert(" in page
    assert [found for found in re.findall(rb"<script[^>]*>(.*?)</script>", page) if found] == []
    assert re.findall(rb" on\w+=", page) == []
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.decode()):
        assert not name.startswith(("/", "http")), "an address that a prefix of a proxy breaks"
        assert served.ask("GET", f"/{name}")[0] == 200


def test_pages_are_made_in_one_place() -> None:
    makers = {"HTMLResponse": {"docs.py"}, "RedirectResponse": {"app.py"}, "text/html": set[str]()}
    for name, expected in makers.items():
        files = (SOURCE / "tabserve/serving").glob("*.py")
        assert {path.name for path in files if name in path.read_text(encoding="utf-8")} == expected


def browsed(address: str, folder: Path) -> tuple[str, list[str]]:
    """A page as a browser shows it, and the lines on its console."""
    if not BROWSER:
        missing("chromium", "there is no chromium on the PATH")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder}", "--virtual-time-budget=20000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@ONE_MODEL
def test_a_browser_shows_the_page_and_complains_of_nothing(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, console = browsed(f"http://127.0.0.1:{served.port}/docs", tmp_path)
    assert console == []
    assert "/predict" in shown
    assert "opblock" in shown
    monkeypatch.setattr(docs, "PAGE", docs.PAGE.replace("<body>", "<body><script>document.title = 1</script>"))
    _, console = browsed(f"http://127.0.0.1:{served.port}/docs", tmp_path)
    assert "Content Security Policy" in "".join(console), "a script in the page"


AUTHORIZES = """
const value = {name: "APIKeyHeader", schema: {type: "apiKey", in: "header", name: "X-API-Key"}, value: "open-sesame"};
setTimeout(() => ui.authActions.authorize({APIKeyHeader: value}), 3000);
"""


@ONE_MODEL
@pytest.mark.parametrize("script", ["", AUTHORIZES], ids=["without the key", "with the key"])
def test_the_page_shows_the_example_to_who_has_the_key(trained: Trained, tmp_path: Path, script: str) -> None:
    def application(settings: ServeSettings) -> object:
        app = model_app(settings)

        @app.get("/authorizing")
        async def authorizing() -> Response:
            return HTMLResponse(docs.PAGE.replace("</body>", f"<script>{script}</script></body>"))

        return app

    configured = ServeSettings(model=trained.model, api_key=SecretStr("open-sesame"))
    with running(configured, application) as served:  # type: ignore[arg-type]
        shown, _ = browsed(f"http://127.0.0.1:{served.port}/authorizing#/model/predict_predict_post", tmp_path)
    assert "Predict for one row" in shown
    assert ("A list of rows" in shown) == bool(script)
