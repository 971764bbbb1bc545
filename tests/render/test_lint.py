"""Rendered projects are born formatted and clean, whatever the answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.answers import label, pairwise
from tests.conftest import ROOT, Render, run

BIN = Path(sys.executable).parent
SCHEMAS = {
    "github": ("vendor.github-workflows", ".github/workflows/ci.yml"),
    "gitlab": ("vendor.gitlab-ci", ".gitlab-ci.yml"),
    "azure": ("vendor.azure-pipelines", "azure-pipelines.yml"),
}

matrix = pytest.mark.parametrize("answers", pairwise(), ids=label)


@matrix
def test_formatted_and_lint_clean(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    run(str(BIN / "ruff"), "check", "--no-cache", ".", cwd=project)
    run(str(BIN / "ruff"), "format", "--no-cache", "--check", ".", cwd=project)


@matrix
def test_yaml(render: Render, answers: dict[str, Any]) -> None:
    run(str(BIN / "yamllint"), "--strict", "-c", str(ROOT / ".yamllint.yaml"), ".", cwd=render(**answers))


@pytest.mark.parametrize("ci", SCHEMAS)
def test_ci_files_fit_their_schema(render: Render, ci: str) -> None:
    schema, name = SCHEMAS[ci]
    command = (str(BIN / "check-jsonschema"), "--regex-variant", "nonunicode", "--builtin-schema", schema, name)
    run(*command, cwd=render(ci=ci))


def test_github_workflows_are_safe(render: Render) -> None:
    run(str(BIN / "zizmor"), "--offline", ".github", cwd=render(ci="github"))
    run(str(BIN / "zizmor"), "--offline", ".github", cwd=ROOT)


def test_the_template_is_linted_in_place() -> None:
    run(sys.executable, "tools/lint_template.py", cwd=ROOT)


POSIX = ("import fcntl", "from os import killpg", "import os; os.system('ls')", "import signal; signal.SIGKILL")
SHELL = "import subprocess; subprocess.run('ls', shell=True)"


@pytest.mark.parametrize("code", [*POSIX, SHELL])
def test_what_windows_does_not_have_is_refused(code: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(f"{code}\n")
    command = (str(BIN / "ruff"), "check", "--no-cache", "--config", str(ROOT / "tools/windows.toml"), str(tmp_path))
    assert "Found " in run(*command, cwd=tmp_path, code=1)
