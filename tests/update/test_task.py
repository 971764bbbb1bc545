"""The task `update` from the project's own environment, as people run it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import copy, run
from tests.project.conftest import task
from tests.update.changes import edit
from tests.update.conftest import FIRST, commit, release_second


def updated(project: Path, *arguments: str, code: int = 0) -> str:
    """What the task `update` prints, without checks after the merge.

    The PATH holds /bin because parts of git are written in shell; git for Windows brings one.
    """
    return task(project, "update", "--no-checks", *arguments, code=code, PATH="/usr/bin:/bin")


def files(printed: str) -> dict[str, str]:
    """The classes of the files that `--json` prints."""
    shown = json.loads(printed.splitlines()[0])
    assert (shown["from"], shown["to"]) == ("1.0.0", "1.1.0")
    assert shown["notes"] == ["new default of [serve] port: 8080 -> 9999; yours is 8080"]
    return {file["path"]: file["class"] for file in shown["files"]}


@pytest.fixture
def locked(project: Path) -> Path:
    """The project with an environment for its tasks, and an edit in the template's own folder."""
    run("make", "setup", cwd=project, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with (project / "src/tabserve/page.py").open("a") as file:
        file.write("\nOURS = 1\n")
    commit(project, "Locked")
    return project


def test_an_update_is_shown_first_then_done_and_can_be_undone(template: Path, locked: Path) -> None:
    release_second(template)
    (locked / ".env").write_text("SERVE_API_KEY=a-key-for-tests\n")
    before, state = run("git", "rev-parse", "HEAD", cwd=locked), run("git", "status", "--porcelain", cwd=locked)
    shown = updated(locked, "--dry-run", "--json")
    assert files(shown) == {
        ".copier-answers.yml": "updated",
        "Makefile": "updated",
        "NEWS.md": "new",
        "README.md": "yours",
        "config.toml": "yours",
        "data/loans.csv": "yours",
        "pyproject.toml": "updated",
        "src/mine/pipeline.py": "yours",
        "src/tabserve/page.py": "machinery-edited",
    }
    assert shown.splitlines()[-1].startswith("updated")
    assert updated(locked, code=2).splitlines()[-1].startswith("refused: nothing was touched")
    assert run("git", "rev-parse", "HEAD", cwd=locked) == before
    assert run("git", "status", "--porcelain", cwd=locked) == state
    done = updated(locked, "--yes")
    assert done.splitlines()[-1].startswith("updated: 1.0.0 (")
    assert run("git", "log", "-1", "--format=%s", cwd=locked) == "Update from the template: 1.0.0 to 1.1.0\n"
    assert run("git", "status", "--porcelain", cwd=locked) == state
    assert (locked / "NEWS.md").read_text() == "# News of Mine\n"
    assert "max_iter=5_000" in (locked / "src/mine/pipeline.py").read_text()
    assert "OURS = 1" in (locked / "src/tabserve/page.py").read_text()
    assert not (locked / ".pre-commit-config.yaml").exists()
    run("git", "apply", "--check", ".git/template-update.patch", "--include=README.md", cwd=locked)
    assert updated(locked, "--yes").splitlines()[-1].startswith("up-to-date")
    task(locked, "update-abort", PATH="/usr/bin:/bin")
    assert run("git", "rev-parse", "HEAD", cwd=locked) == before
    assert run("git", "status", "--porcelain", cwd=locked) == state
    assert (locked / ".env").exists()


def test_conflicts_wait_for_the_person(template: Path, locked: Path) -> None:
    edit(locked / "Makefile", "help: ## show this list", "help: ## show our list")
    commit(locked, "Our help")
    before = run("git", "rev-parse", "HEAD", cwd=locked)
    release_second(template)
    assert updated(locked, "--yes", code=1).splitlines()[-1].startswith("conflicts")
    text = (locked / "Makefile").read_text()
    for line in ("<<<<<<< yours", "help: ## show our list", "help: ## show this list of tasks", ">>>>>>> template"):
        assert line in text.splitlines()
    assert run("git", "diff", "--name-only", "--diff-filter=U", cwd=locked) == "Makefile\n"
    assert "an update waits" in updated(locked, "--yes", code=2)
    assert "Makefile still has conflict markers" in task(locked, "update-continue", code=1, PATH="/usr/bin:/bin")
    task(locked, "update-abort", PATH="/usr/bin:/bin")
    assert run("git", "rev-parse", "HEAD", cwd=locked) == before
    assert "show our list" in (locked / "Makefile").read_text()
    assert run("git", "diff", "HEAD", cwd=locked) == ""
    updated(locked, "--yes", "--branch", "news", code=1)
    text = (locked / "Makefile").read_text()
    edit(locked / "Makefile", text[text.index("<<<<<<<") : text.index(">>>>>>> template")], "")
    edit(locked / "Makefile", ">>>>>>> template\n", "help: ## both\n")
    printed = task(locked, "update-continue", code=3, PATH="/usr/bin:/bin", UV_OFFLINE="1")
    assert printed.splitlines()[-1].startswith("failed-checks: contract.yaml; lint; test. The update is committed;")
    assert run("git", "diff", "HEAD", cwd=locked) == ""
    assert run("git", "log", "-1", "--format=%P", cwd=locked) == before
    assert run("git", "branch", "--show-current", cwd=locked) == "news\n"


def test_files_that_git_does_not_know_are_never_replaced(template: Path, locked: Path) -> None:
    (locked / ".git/info/exclude").write_text("NEWS.md\n")
    (locked / "NEWS.md").write_text("mine")
    release_second(template)
    assert updated(locked, "--dry-run", code=1).splitlines()[-1].startswith("conflicts")
    assert updated(locked, "--yes", code=2).splitlines()[-1].startswith("refused: NEWS.md is not in git")
    assert (locked / "NEWS.md").read_text() == "mine"


def test_what_is_checked_after_the_merge(template: Path, tmp_path: Path) -> None:
    folder = copy(template, tmp_path / "fresh", {"project_name": "Mine", "estimator": "linear"}, vcs_ref=FIRST)
    run("git", "init", "-q", "-b", "main", cwd=folder)
    commit(folder, "Start")
    task(folder, "train", PATH="/usr/bin:/bin")
    commit(folder, "Trained")
    release_second(template)
    printed = task(folder, "update", "--yes", PATH="/usr/bin:/bin")
    assert [line for line in printed.splitlines() if line.startswith(("ok", "failed"))] == [
        "ok  contract.yaml",
        "ok  lint",
        "ok  test",
    ]
    assert printed.splitlines()[-1].startswith("updated: ")
    changed = run("git", "diff", "--name-only", "HEAD~", cwd=folder).split()
    assert {"pyproject.toml", "uv.lock"} <= set(changed)
    assert run("git", "status", "--porcelain", cwd=folder) == ""


def test_a_check_that_fails_is_said_and_the_update_can_be_undone(template: Path, locked: Path) -> None:
    before = run("git", "rev-parse", "HEAD", cwd=locked)
    release_second(template)
    printed = task(locked, "update", "--yes", code=3, PATH="/usr/bin:/bin", UV_OFFLINE="1")
    assert "error: contract.yaml, line 1: data: Field required" in printed
    assert printed.splitlines()[-1].startswith("failed-checks: contract.yaml; lint; test. The update is committed; ")
    assert run("git", "rev-parse", "HEAD~", cwd=locked) == before
    task(locked, "update-abort", PATH="/usr/bin:/bin")
    assert run("git", "rev-parse", "HEAD", cwd=locked) == before


def test_without_an_index_the_lock_is_left_for_later(template: Path, locked: Path) -> None:
    edit(template / "template/pyproject.toml.jinja", '"numpy>=2.2"', '"numpy>=2.2",\n    "not-there-at-all>=1"')
    release_second(template)
    lock = (locked / "uv.lock").read_bytes()
    printed = task(locked, "update", "--yes", PATH="/usr/bin:/bin", UV_OFFLINE="1")
    assert "uv.lock could not be made again: run `uv lock` later, then `make lint test`" in printed
    assert printed.splitlines()[-1].startswith("updated: ")
    assert (locked / "uv.lock").read_bytes() == lock


def test_what_a_merge_names_twice_is_found(template: Path, locked: Path) -> None:
    with (locked / "Makefile").open("a") as file:
        file.write("\nnews: ## ours\n\t@echo ours\n")
    commit(locked, "Our target")
    edit(template / "template/Makefile.jinja", "# --- the model", "news: ## show it\n\t@cat NEWS.md\n\n# --- the model")
    release_second(template)
    printed = updated(locked, "--yes", code=3)
    assert "merged, but wrong: Makefile: news is there twice" in printed
    assert printed.splitlines()[-1].startswith("failed-checks: Makefile: news is there twice. ")
    task(locked, "update-abort", PATH="/usr/bin:/bin")


def test_dependencies_that_exclude_each_other_fail_the_update(template: Path, locked: Path) -> None:
    edit(locked / "pyproject.toml", '    "numpy>=2.2"', '    "urllib3==1.20",\n    "numpy>=2.2"')
    run(f"{Path(sys.executable).parent}/uv", "lock", "-q", cwd=locked)
    commit(locked, "An old library")
    edit(template / "template/pyproject.toml.jinja", '"numpy>=2.2"', '"requests>=2.32",\n    "numpy>=2.2"')
    release_second(template)
    printed = updated(locked, "--yes", code=3)
    assert printed.splitlines()[-1].startswith("failed-checks: uv.lock: ")
    assert "unsatisfiable" in printed
    assert re.search("or `git reset --hard [0-9a-f]{12}`$", printed.splitlines()[-1])  # `uv run` runs nothing now
