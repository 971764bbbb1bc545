"""Rendered projects that are set up and trained, each once; and this repository as a stranger clones it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, copy, once, run

BIN = Path(sys.executable).parent
Prepared = Callable[..., Path]


@pytest.fixture(scope="session")
def prepared(copier_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Render answers, then `make train`: a project of its own for each answer set, shared by its tests."""

    def project(answers: dict[str, Any]) -> Path:
        folder = copy(copier_template, tmp_path_factory.mktemp("prepared") / "project", answers)
        make(folder, "setup")
        make(folder, "train")
        return folder

    return once(project)


def make(project: Path, *targets: str, code: int = 0, **environment: str) -> str:
    """Run targets of a project's Makefile, with the uv of these tests."""
    return run("make", "--no-print-directory", *targets, cwd=project, code=code, **with_uv(project), **environment)


def task(project: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """`uv run NAME TASK`, where neither make nor a shell is on the PATH."""
    tools = project.parent / "tools"
    tools.mkdir(exist_ok=True)
    found = {"uv": str(BIN / "uv")} | {name: shutil.which(name) for name in ("git", "docker", "kubectl")}
    for name, path in found.items():
        if path and not (tools / name).exists():
            (tools / name).symlink_to(path)
    slug = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    surroundings = with_uv(project) | {"PATH": f"{tools}", "UV_PYTHON": sys.executable} | environment
    return run(str(BIN / "uv"), "run", "--quiet", slug, *arguments, cwd=project, code=code, **surroundings)


def with_uv(project: Path) -> dict[str, str]:
    """The environment of a task: uv is on the PATH; an environment that is shared by copies stays as it is."""
    shared = {"UV_NO_SYNC": "1"} if (project / ".venv").is_symlink() else {}
    return {"PATH": f"{BIN}:{os.environ['PATH']}"} | shared


@pytest.fixture
def copied(prepared: Prepared, tmp_path: Path) -> Path:
    """A project of its own that shares the environment of the prepared one."""
    project = tmp_path / "copied"
    ignored = shutil.ignore_patterns(".venv", ".git", "__pycache__", "model", "reports", ".mypy_cache")
    shutil.copytree(prepared(), project, ignore=ignored)
    (project / ".venv").symlink_to(prepared() / ".venv")
    run("git", "init", "-q", "-b", "main", cwd=project)
    return project


def here(project: Path, *targets: str, code: int = 0) -> str:
    """`make` in a copied project, with its own source before that of the prepared one."""
    return make(project, *targets, code=code, PYTHONPATH=str(project / "src"))


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with this work tree's files, committed, to be cloned by its address."""
    origin = tmp_path_factory.mktemp("origin") / "copier-mlops"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, origin / name)
    run("git", "init", "-q", "-b", "main", cwd=origin)
    run("git", "add", "-A", cwd=origin)
    run("git", "commit", "-q", "-m", "All", cwd=origin)
    return origin
