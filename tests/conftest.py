"""Fixtures shared by all layers: the template as a repository, and rendered projects that are made once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import copier
import pytest

ROOT = Path(__file__).parents[1]
PARTS = ["copier.yml", "extensions", "template"]

Render = Callable[..., Path]


@pytest.fixture(scope="session")
def copier_template_paths() -> list[str]:
    """What makes the template; pytest-copier's default would depend on what else lies in the work tree."""
    return PARTS


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's copier settings, this repository's virtual environment and its `make` out of the tests."""
    settings = tmp_path_factory.mktemp("settings") / "settings.yml"
    settings.write_text("{}")
    os.environ["COPIER_SETTINGS_PATH"] = str(settings)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile all that it imports
    for name in ("VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DEST", "ANSWERS", "LAYER"):
        os.environ.pop(name, None)  # what `make test` hands to its children would reach the projects' make


@pytest.fixture(scope="session")
def render(copier_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Render answers into a project, without trust; the same answers give the same folder, so only read it."""
    return once(lambda answers: copy(copier_template, tmp_path_factory.mktemp("rendered") / "project", answers))


def once(make: Callable[[dict[str, Any]], Path]) -> Render:
    """Make a folder from answers when they come for the first time; the same answers give the same folder."""
    made: dict[tuple[tuple[str, str], ...], Path] = {}

    def remembered(**answers: Any) -> Path:
        key = tuple(sorted((name, str(value)) for name, value in answers.items()))
        if key not in made:
            made[key] = make(answers)
        return made[key]

    return remembered


def copy(template: Path, destination: Path, answers: Mapping[str, Any] | None = None, **options: Any) -> Path:
    """`copier copy --defaults`, without `--trust`; the project is called Loan Offers, whatever its folder."""
    data = {"project_name": "Loan Offers", **(answers or {})}
    copier.run_copy(str(template), destination, data=data, defaults=True, quiet=True, **options)
    return destination


def run(*command: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """Run a command, check its exit code and return what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "120"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == code, f"{' '.join(command)} gave {done.returncode}:\n{done.stdout}"
    return done.stdout


def missing(what: str, reason: str) -> None:
    """Skip a test visibly, or fail it where `REQUIRE` names what is missing (`REQUIRE=docker,cluster`)."""
    if what in os.environ.get("REQUIRE", "").split(","):
        pytest.fail(f"REQUIRE names {what}, but {reason}")
    pytest.skip(f"{what}: {reason}")
