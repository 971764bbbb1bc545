"""Pages of reports."""

import re
from pathlib import Path
from typing import Any

from tabserve import page
from tests.tabserve.serving.test_docs import browsed


def drawn(axes: Any) -> None:
    axes.plot([0, 1], [1, 0])
    axes.set_title("a figure")


def test_a_page_has_a_policy_that_runs_no_script() -> None:
    made = page.document("<script>", "a note", [])
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', made)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert made.index("Content-Security-Policy") < made.index("<style>")
    assert "<script" not in made


def test_a_browser_shows_a_page_and_complains_only_of_scripts(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.document("A page", "a note", [page.figure(drawn)]), encoding="utf-8")
    shown, console = browsed(path.as_uri(), tmp_path / "browser")
    assert "a figure" in shown
    assert console == []
    path.write_text(page.document("A page", "a note", ["<script>document.title = 'run'</script>"]), encoding="utf-8")
    shown, console = browsed(path.as_uri(), tmp_path / "browser")
    assert "<title>A page</title>" in shown
    assert "Content Security Policy" in "".join(console)
