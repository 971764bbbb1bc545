"""Rendered projects are born formatted and clean, whatever the answers."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.answers import label, pairwise
from tests.conftest import ROOT, Render, run

BIN = Path(sys.executable).parent
SCHEMAS = (
    ("github", "vendor.github-workflows", ".github/workflows/ci.yml"),
    ("github", "vendor.github-workflows", ".github/workflows/update.yml"),
    ("github", "vendor.renovate", "renovate.json"),
    ("gitlab", "vendor.gitlab-ci", ".gitlab-ci.yml"),
    ("azure", "vendor.azure-pipelines", "azure-pipelines.yml"),
)

matrix = pytest.mark.parametrize("answers", pairwise(), ids=label)


@matrix
def test_formatted_and_lint_clean(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    run(str(BIN / "ruff"), "check", "--no-cache", ".", cwd=project)
    run(str(BIN / "ruff"), "format", "--no-cache", "--check", ".", cwd=project)


@matrix
def test_yaml(render: Render, answers: dict[str, Any]) -> None:
    run(str(BIN / "yamllint"), "--strict", "-c", str(ROOT / ".yamllint.yaml"), ".", cwd=render(**answers))


@pytest.mark.parametrize(("ci", "schema", "name"), SCHEMAS)
def test_ci_files_fit_their_schema(render: Render, ci: str, schema: str, name: str) -> None:
    command = (str(BIN / "check-jsonschema"), "--regex-variant", "nonunicode", "--builtin-schema", schema, name)
    run(*command, cwd=render(ci=ci))


def test_github_workflows_are_safe(render: Render) -> None:
    run(str(BIN / "zizmor"), "--offline", ".github", cwd=render(ci="github"))
    run(str(BIN / "zizmor"), "--offline", ".github", cwd=ROOT)


def test_the_template_is_linted_in_place() -> None:
    run(sys.executable, "tools/lint_template.py", cwd=ROOT)


POSIX = (
    *("fcntl.flock", "os.fork", "os.killpg", "os.sched_getaffinity", "os.uname", "pwd.getpwnam", "resource.getrlimit"),
    *("select.poll", "signal.SIGKILL", "signal.SIGPROF", "signal.SIGRTMIN", "signal.SIGXCPU", "signal.sigpending"),
    *("signal.SIG_BLOCK", "socket.AF_UNIX", "termios.tcgetattr", "time.tzset", "tty.setraw"),
)
SHELL = (
    *("import os; os.system('ls')", "from os import popen", "import subprocess; subprocess.run('ls', shell=True)"),
    "import asyncio; asyncio.create_subprocess_shell('ls')",
)


@pytest.mark.parametrize("code", SHELL)
def test_a_task_that_calls_a_shell_is_rejected(code: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(f"{code}\n")
    command = (str(BIN / "ruff"), "check", "--no-cache", "--config", str(ROOT / "tools/windows.toml"), str(tmp_path))
    assert "Found " in run(*command, cwd=tmp_path, code=1)


def test_what_only_posix_has_is_rejected(tmp_path: Path) -> None:
    task = tmp_path / "task.py"
    modules = sorted({name.partition(".")[0] for name in POSIX})
    task.write_text("\n".join([f"import {', '.join(modules)}", *POSIX]))
    (command,) = re.findall(r"^WINDOWS := (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    words = [word.replace("$(BIN)", str(BIN)) for word in command.split()]
    printed = run(*words, str(task), cwd=ROOT, code=1)
    assert sorted(re.findall(r'has no attribute "(\w+)"', printed)) == sorted(name.partition(".")[2] for name in POSIX)
