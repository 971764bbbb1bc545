"""The tasks of a generated project, as people type them."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Render, copy, run
from tests.project.conftest import BIN, Prepared, make

COMPLETE: tuple[dict[str, str], ...] = (
    {},
    {
        "estimator": "lightgbm",
        "task": "regression",
        "ci": "gitlab",
        "project_name": "Größe & Wert",
        "package_name": "a" * 39 + "z",
    },
)


@pytest.mark.parametrize("answers", COMPLETE, ids=["defaults", "other"])
def test_lint_and_tests_of_the_project_pass(prepared: Prepared, answers: dict[str, str]) -> None:
    project = prepared(**answers)
    before = run("git", "status", "--porcelain", cwd=project)
    make(project, "lint")
    make(project, "format")
    assert run("git", "status", "--porcelain", cwd=project) == before
    assert re.search(r"^\d{2} passed in", make(project, "test"), re.MULTILINE), "some failed, or were skipped"


@pytest.mark.parametrize("estimator", ["linear", "random_forest", "xgboost"])
def test_types_hold_for_every_pipeline(prepared: Prepared, estimator: str) -> None:
    assert "no issues found" in make(prepared(estimator=estimator, license="MIT"), "lint")


def test_help_lists_every_task(render: Render) -> None:
    listed = re.findall(r"^  make ([\w-]+)", run("make", "--no-print-directory", cwd=render()), re.MULTILINE)
    assert listed == [
        *(
            "help",
            "setup",
            "hooks",
            "update",
            "contract",
            "train",
            "check-data",
            "serve",
            "predict",
            "test",
            "lint",
            "format",
            "clean",
        ),
        *("image", "jobs-image", "run", "ps", "stop", "rm", "size", "push", "push-jobs"),
        *("check-k8s", "cluster", "deploy", "undeploy", "status", "logs", "rollback"),
    ]


def test_setup_makes_a_repository_and_is_idempotent(prepared: Prepared) -> None:
    project = prepared()
    assert (project / ".git").is_dir()
    assert (project / "uv.lock").is_file()
    before = {path: path.stat().st_mtime_ns for path in (project / "uv.lock", project / ".venv/bin/.ready")}
    assert make(project, "setup") == ""
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_setup_leaves_an_outer_repository_alone(copier_template: Path, tmp_path: Path) -> None:
    run("git", "init", "-q", cwd=tmp_path)
    project = copy(copier_template, tmp_path / "inner")
    make(project, "setup")
    assert not (project / ".git").exists()


def test_clean_keeps_model_and_environment(prepared: Prepared) -> None:
    project = prepared()
    make(project, "clean")
    assert (project / "model/model.onnx").is_file()
    assert (project / ".venv").is_dir()
    assert not list((project / "src").rglob("__pycache__"))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["predict"], "error: say which files: make predict DATA=new.csv OUT=predictions.csv"),
        (["predict", "DATA=none.csv", "OUT=out.csv"], "error: none.csv does not exist"),
        (["contract", "DATA=none.csv", "TARGET=x"], "error: none.csv does not exist"),
        (["contract", "DATA=data/loans.csv", "TARGET=it's"], 'has no column "it\'s"'),
        (["contract", "DATA=data/loans.csv", "TARGET=customer_id"], "identifier-like, 4,000 different values"),
        (["serve", "PORT=99999"], "error: --port: Input should be less than"),
    ],
)
def test_mistakes_get_one_line_and_a_code(prepared: Prepared, targets: list[str], message: str) -> None:
    printed = make(prepared(), *targets, code=2)
    assert message in printed
    assert "Traceback" not in printed
    assert len([line for line in printed.splitlines() if not line.startswith("make: ***")]) == 1


def test_the_target_can_be_chosen_in_a_terminal(prepared: Prepared, tmp_path: Path) -> None:
    project = prepared()
    shutil.copy(project / "data/loans.csv", tmp_path / "loans.csv")
    command = [str(project / ".venv/bin/loan-offers"), "contract", "loans.csv"]
    controller, terminal = pty.openpty()
    process = subprocess.Popen(command, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    printed = read_until(controller, "Which column should the model predict?")
    os.write(controller, b"\x1b[A\r")  # arrow up: from the first column to the last
    printed += read_until(controller, "commit it")
    os.close(controller)
    assert process.wait(30) == 0
    assert "contract.yaml: classification of" in printed
    assert "loan_accepted" in printed
    assert (tmp_path / "contract.yaml").is_file()


def read_until(controller: int, text: str, seconds: float = 30) -> str:
    printed, deadline = "", time.monotonic() + seconds
    while text not in printed and time.monotonic() < deadline:
        if select.select([controller], [], [], 0.2)[0]:
            try:
                printed += os.read(controller, 65_536).decode(errors="replace")
            except OSError:  # the terminal's other end is closed
                break
    assert text in printed, printed
    return printed


def test_without_make(prepared: Prepared, tmp_path: Path) -> None:
    project = prepared()
    uv = [str(BIN / "uv"), "run", "--quiet", "loan-offers"]
    for command in ("contract", "train", "serve", "predict"):
        assert "usage: loan-offers" in run(*uv, command, "--help", cwd=project)
    run(*uv, "predict", "data/loans.csv", str(tmp_path / "out.csv"), cwd=project)
    assert (tmp_path / "out.csv").read_text().count("\n") == 4_001


def test_the_hooks_call_the_tasks(prepared: Prepared) -> None:
    project = prepared()
    run(".venv/bin/pre-commit", "validate-config", cwd=project)
    text = (project / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"entry: (.*)", text) == ["make lint", "make test"]
    make(project, "hooks")
    installed = {name: (project / f".git/hooks/{name}").read_text() for name in ("pre-commit", "pre-push")}
    assert all("pre_commit" in hook for hook in installed.values())
    run(".venv/bin/pre-commit", "uninstall", cwd=project)
