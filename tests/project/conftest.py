"""Rendered projects that are set up and trained, each once; and this repository as a stranger clones it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def make(project: Path, *targets: str, code: int = 0) -> str:
    """Run targets of a project's Makefile, with the uv of these tests."""
    return run("make", "--no-print-directory", *targets, cwd=project, code=code, PATH=f"{BIN}:{os.environ['PATH']}")


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
