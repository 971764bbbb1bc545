"""What starts an update: versions, addresses, and what cannot be updated, each in one line that says what to do."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabserve.errors import UserError
from tabserve.tasks.options import parse
from tabserve.updating import start
from tests.conftest import copy, run
from tests.questions.test_terminal import plain
from tests.update.changes import edit
from tests.update.conftest import FIRST, SECOND, commit, in_terminal, release, release_second

RUN, RENDERED = "1.1.0 of the template does not run here: ", "1.1.0 of the template cannot be rendered: "
NOWHERE = "https://somebody:a-secret@127.0.0.1:9/template.git"


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The edited project as working directory."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("UV", str(Path(sys.executable).with_name("uv")))
    return project


def refused(*words: str, task: str = "update") -> str:
    with pytest.raises(UserError) as error:
        started(task, *words)
    assert "\n" not in str(error.value)
    return str(error.value)


def started(task: str, *words: str) -> int:
    call: Callable[[argparse.Namespace], int] = {
        "update": start.update,
        "update-check": start.check,
        "update-diff": start.differences,
    }[task]
    return call(parse("mine", [task, *words]))


def test_what_the_repository_must_be_like(here: Path) -> None:
    assert "there is such a branch" in refused("--branch", "main")
    assert "git does not accept" in refused("--branch", "a b")
    edit(here / "Makefile", "help: ## show", "help: ## really show")
    assert refused().startswith("commit or stash your changes first (M Makefile)")
    assert started("update", "--dry-run") == 0
    run("git", "checkout", "-q", "Makefile", cwd=here)
    run("git", "update-ref", "MERGE_HEAD", "HEAD", cwd=here)
    assert refused().startswith("a merge is in progress")
    run("git", "merge", "--abort", cwd=here)
    shutil.rmtree(here / ".git")
    run("git", "init", "-q", cwd=here)
    assert refused() == "commit your work first: the project is not in git yet"
    (here / "other").write_text("")
    run("git", "add", "other", cwd=here)
    run("git", "commit", "-q", "-m", "Other", cwd=here)
    assert refused() == "commit your work first: the project is not in git yet"
    shutil.rmtree(here / ".git")
    assert "git cannot read this repository: fatal: not a git repository" in refused()
    (here / ".copier-answers.yml").unlink()
    assert refused() == "there is no .copier-answers.yml: run this in the project's folder"


def test_where_the_template_is(template: Path, here: Path, tmp_path: Path) -> None:
    said = refused("--from", NOWHERE)
    assert "a-secret" not in said
    assert said.endswith("check the network, or name the template's new address, or a copy of it, with --from")
    template.rename(tmp_path / "moved")
    assert f"the template is not at {template}" in refused()
    assert f"the template is not at {template}" in refused(task="update-check")
    assert f"the template is not at {template}" in refused(task="update-diff")
    bare = tmp_path / "bare.git"
    run("git", "clone", "-q", "--bare", str(tmp_path / "moved"), str(bare), cwd=tmp_path)
    assert started("update", "--from", str(bare), "--yes", "--no-checks") == 0
    assert f"_src_path: {bare}" in (here / ".copier-answers.yml").read_text()


def test_which_versions_there_are(template: Path, here: Path, tmp_path: Path) -> None:
    assert refused("--to", "9.9.9") == f"the template has no 9.9.9: it has {FIRST}"
    release_second(template)
    run("git", "clone", "-q", "--depth", "1", f"file://{template}", str(tmp_path / "shallow"), cwd=tmp_path)
    said = refused("--from", str(tmp_path / "shallow"))
    assert said.startswith(f"the template has no {FIRST}: it is this project's version, so name a complete copy")
    assert started("update", "--yes", "--no-checks") == 0
    assert "1.0.0 is older than 1.1.0, and updates only go forward" in refused("--to", FIRST)
    run("git", "checkout", "-q", "-b", "maintained", FIRST, cwd=template)
    (template / "template/fix.txt").write_text("fixed\n")
    release(template, "1.0.1")
    assert "1.0.1 is older than 1.1.0, and updates only go forward" in refused("--to", "1.0.1")
    edit(here / ".copier-answers.yml", f"_commit: {SECOND}\n", "")
    commit(here, "Without a version")
    assert "has no _commit: the project was rendered from a folder without git" in refused()


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("template/pyproject.toml.jinja", '">=3.11"', '">=3.99"', RUN),
        ("template/pyproject.toml.jinja", "[tool.uv]\n", '[tool.uv]\nrequired-version = ">=99"\n', RUN),
        ("copier.yml", "_min_copier_version: ", '_min_copier_version: "99.1" # ', RENDERED),
        ("copier.yml", "project_name:\n", "project_name: [\n", RENDERED),
    ],
)
def test_what_the_new_version_needs(template: Path, here: Path, name: str, old: str, new: str, said: str) -> None:
    edit(template / name, old, new)
    release(template, SECOND)
    assert said in refused("--yes")
    assert run("git", "status", "--porcelain", cwd=here) == ""


def test_a_shallow_clone_of_the_project_can_be_updated(
    template: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_second(template)
    run("git", "clone", "-q", "--depth", "1", f"file://{here}", str(tmp_path / "shallow"), cwd=tmp_path)
    monkeypatch.chdir(tmp_path / "shallow")
    assert started("update", "--yes", "--no-checks") == 0
    assert run("git", "status", "--porcelain", cwd=tmp_path / "shallow") == ""


def test_check_says_whether_there_is_news(template: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert started("update-check") == 0
    assert capsys.readouterr().out == "up-to-date: 1.0.0\n"
    release_second(template)
    run("git", "tag", "2.0.0rc1", cwd=template)
    assert started("update-check") == 2
    assert capsys.readouterr().out == "news: 1.0.0 -> 1.1.0; `make update` shows what it changes\n"


def test_check_without_releases_looks_at_the_newest_commit(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("git", "tag", "-d", FIRST, cwd=template)
    folder = copy(template, tmp_path / "untagged")
    monkeypatch.chdir(folder)
    assert started("update-check") == 0
    (template / "template/more.txt").write_text("more\n")
    run("git", "add", "-A", cwd=template)
    run("git", "commit", "-q", "-m", "More", cwd=template)
    assert started("update-check") == 2
    assert run("git", "rev-parse", "HEAD", cwd=template)[:7] in capsys.readouterr().out
    run("git", "tag", "0.1.0", "HEAD~", cwd=template)
    assert started("update-check") == 0
    run("git", "tag", "0.2.0", cwd=template)
    assert started("update-check") == 2
    assert "-> 0.2.0;" in capsys.readouterr().out


def test_diff_shows_the_edits_by_owner(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (here / "src/tabserve/page.py").open("a") as file:
        file.write("\nOURS = 1\n")
    commit(here, "Our page")
    assert started("update-diff") == 0
    shown = capfd.readouterr().out
    sections = {block.splitlines()[0].split(":")[0].split(",")[0]: block for block in headed(shown)}
    assert "  src/tabserve/page.py  +2 -0" in sections["the template's"]
    assert "  .pre-commit-config.yaml  +0 -" in sections["shared"]
    assert "  README.md  +4 -0" in sections["yours"]
    edit(here / "Makefile", "help: ## show", "help: ## really show")
    (here / "odd\u2028name").write_text("x")
    run("git", "add", "-A", cwd=here)
    edit(here / "Makefile", "help: ## really show", "help: ## today show")
    assert started("update-diff") == 0
    shown = capfd.readouterr().out
    assert "  Makefile  +1 -1" in shown
    assert "odd" in shown
    assert started("update-diff", "--patch") == 0
    shown = capfd.readouterr().out
    assert "+OURS = 1" in shown.splitlines()
    assert "today show" in shown


def headed(text: str) -> list[str]:
    """The blocks of lines that are indented, each with its heading."""
    blocks: list[str] = []
    for line in text.splitlines():
        if line.startswith("  "):
            blocks[-1] += f"\n{line}"
        else:
            blocks.append(line)
    return blocks


def test_only_new_questions_are_asked(template: Path, here: Path) -> None:
    release_second(template)
    with (template / "template/NEWS.md.jinja").open("a") as file:
        file.write("{{ news }}\n")
    release(template, "1.2.0")
    code = "import sys; from tabserve.tasks.options import parse; from tabserve.updating import start; "
    code += "sys.exit(start.update(parse('mine', ['update', '--no-checks'])))"
    environment = os.environ | {"PYTHONPATH": str(here / "src")}
    shown, status = in_terminal(
        [sys.executable, "-c", code], here, {"Are there news?": "n", "Update? (y/N)": "y\r"}, environment
    )
    assert status == 0, plain(shown)
    assert plain(shown).count("🎤") == plain(shown).count("Are there news?"), plain(shown)
    assert (here / "NEWS.md").read_text() == "# News of Mine\nFalse\n"


def answers(**given: Any) -> list[str]:
    return [word for name, value in given.items() for word in ("--data", f"{name}={value}")]


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"ci": "gitlab"}, {".github/", ".gitlab"}),
        ({"autoscale": "cpu"}, {"k8s/autoscale.yaml", "k8s/deployment.yaml", "k8s/kustomization.yaml"}),
        ({"hardware": "nvidia"}, {"Dockerfile", "pyproject.toml", "k8s/kustomization.yaml"}),
    ],
)
def test_adding_a_feature_changes_only_its_files(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], changed: set[str]
) -> None:
    folder = copy(template, tmp_path / "bare", {"autoscale": "none"})
    run("git", "init", "-q", "-b", "main", cwd=folder)
    commit(folder, "Start")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UV", str(Path(sys.executable).with_name("uv")))
    assert started("update", "--yes", "--no-checks", *answers(**given)) == 0
    found = run("git", "diff", "--name-only", "HEAD~", cwd=folder).split()
    assert [name for name in found if not name.startswith((".copier-answers.yml", *changed))] == []
    assert len(found) > 1
