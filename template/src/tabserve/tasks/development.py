"""The tasks of development: set up, tests, lint, format."""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tabserve.errors import UserError, say
from tabserve.operations import check, programs
from tabserve.project import Project
from tabserve.tasks.cluster import paths
from tabserve.tasks.model_file import train_if_missing

MADE = (".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "build", "dist")
CHECKS = {"ruff check": "ruff check .", "ruff format": "ruff format --check .", "mypy": "mypy"}
FIXES = {"ruff check": "ruff check --fix .", "ruff format": "ruff format ."}


def setup(arguments: argparse.Namespace, project: Project) -> None:
    """`setup`: a git repository where there is none."""
    if not Path(".git").exists() and not programs.output("git", "rev-parse", "--git-dir"):
        programs.call("git", "init", "--quiet", "--initial-branch", "main")


def hooks(arguments: argparse.Namespace, project: Project) -> None:
    """`hooks`: `lint` before each commit and `test` before each push."""
    programs.path_of("uv")  # the hooks call it
    programs.call(sys.executable, "-m", "pre_commit", "install")


def test(arguments: argparse.Namespace, project: Project) -> None:
    """`test`: run the tests."""
    train_if_missing(project, strict=True)
    programs.call(sys.executable, "-m", "pytest", *arguments.unknown)


def lint(arguments: argparse.Namespace, project: Project) -> None:
    """`lint`: run every check, and fail at the end."""
    failed = failing(CHECKS)
    try:
        failed += ["check-k8s"] if check.run(False, paths(project)) else []
    except UserError as error:
        say(f"error: {error}", error=True)
        failed.append("check-k8s")
    fail(failed)


def format(arguments: argparse.Namespace, project: Project) -> None:
    """`format`: apply fixes and format; fails where something is left to do."""
    fail(failing(FIXES))


def failing(tools: Mapping[str, str]) -> list[str]:
    """Run all tools; returns the names of those that fail."""
    sys.stdout.flush()
    return [name for name, command in tools.items() if programs.code_of(sys.executable, "-m", *command.split())]


def fail(failed: list[str]) -> None:
    """Name what failed, if something did, in a `UserError`."""
    if failed:
        raise UserError(f"{' and '.join(failed)} failed, see above")


def clean(arguments: argparse.Namespace, project: Project) -> None:
    """`clean`: remove caches and builds, but not the model or the environment."""
    for name in MADE:
        shutil.rmtree(name, ignore_errors=True)
    for folder, names, _ in os.walk("."):
        names[:] = [name for name in names if name != ".venv"]
        if "__pycache__" in names:
            shutil.rmtree(Path(folder, "__pycache__"))
