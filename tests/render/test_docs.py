"""The documents agree with what they describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.answers import questions
from tests.conftest import ROOT, Render
from tools import write_docs

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.filterwarnings("ignore::copier.errors.DirtyLocalWarning")
def test_quotations_are_current() -> None:
    for path, text in write_docs.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: make docs"


def test_the_threat_model_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", (ROOT / "docs/security.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")]
    assert missing == []


def test_options_name_every_question_and_choice() -> None:
    text = write_docs.options(yaml.safe_load((ROOT / "copier.yml").read_text()))
    for name, question in questions().items():
        assert f"## `{name}`" in text
        assert all(f"- `{value}`:" in text for value in question.get("choices", {}).values())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_picture_in_the_readme_shows_what_is_there(render: Render) -> None:
    picture = (ROOT / "README.md").read_text(encoding="utf-8").split("my-model/\n")[1].split("```")[0]
    made = {"contract.yaml", "model", "reports"}
    names = {match.rstrip("/").split("/")[0] for match in re.findall(r"^[├└]── (\S+)", picture, re.MULTILINE)}
    assert all((render() / name).exists() for name in names - made)
    rooms = set(re.findall(r"^│   [├└]── (\w+)/ ", picture, re.MULTILINE))
    assert rooms == {path.parent.name for path in (render() / "src/tabserve").glob("*/*.py")}
    own = set(re.findall(r"^│   [├└]── (\w+[.]py) ", picture, re.MULTILINE))
    assert own | {"__init__.py"} == {path.name for path in (render() / "src/loan_offers").glob("*.py")}
    assert re.findall(r"^[│├└](?!.* [YST](?:  |$)).*", picture, re.MULTILINE) == [], "a line says not whose it is"


def test_settings_in_the_docs_are_those_of_the_configuration(render: Render) -> None:
    config = (render() / "config.toml").read_text().split("\n[check]")[1]
    documented = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", (ROOT / "docs/use.md").read_text(), re.MULTILINE)
    written = re.findall(r'^(\w+) = ("[^"]*"|[\w.]+)', config, re.MULTILINE)
    settings = {name: value.strip('"') for name, value in written}
    assert dict(documented) == settings
