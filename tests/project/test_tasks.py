"""The tasks of a generated project, as people type them."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Render, copy, run
from tests.project.conftest import BIN, Prepared, here, make, task
from tests.project.servers import free_port, wait_until_ready

GROUPS = {
    "model": ["contract", "train", "check-data", "predict", "serve"],
    "image": ["image", "jobs-image", "run", "size", "push", "push-jobs", "ps", "stop", "rm"],
    "cluster": ["check-k8s", "cluster", "deploy", "status", "logs", "rollback", "undeploy"],
    "development": ["setup", "test", "lint", "format", "hooks", "clean"],
    "template": [
        *("update", "update-check", "update-diff", "update-continue", "update-abort"),
        "update-request",
    ],
}
TASKS = [name for group in GROUPS.values() for name in group]
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


TRANSFORMER = '''

class Ratio(BaseEstimator, TransformerMixin):
    """One column divided by another."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X = X.copy()
        return X[:, :1] / X[:, 1:2]
'''


@pytest.mark.parametrize("answers", COMPLETE, ids=["defaults", "other"])
def test_lint_and_tests_of_the_project_pass(prepared: Prepared, answers: dict[str, str]) -> None:
    project = prepared(**answers)
    before = run("git", "status", "--porcelain", cwd=project)
    make(project, "lint")
    task(project, "lint")
    task(project, "format")
    assert run("git", "status", "--porcelain", cwd=project) == before
    assert re.search(r"^\d{2} passed in", make(project, "test"), re.MULTILINE), "some failed, or were skipped"


@pytest.mark.parametrize("estimator", ["linear", "random_forest", "xgboost"])
def test_types_hold_for_every_pipeline(prepared: Prepared, estimator: str) -> None:
    assert "no issues found" in make(prepared(estimator=estimator, license="MIT"), "lint")


def test_help_lists_every_task(render: Render) -> None:
    listed = re.findall(r"^  make ([\w-]+)", run("make", "--no-print-directory", cwd=render()), re.MULTILINE)
    assert listed[0] == "help"
    assert sorted(listed[1:]) == sorted(TASKS)
    printed = run(sys.executable, "-m", "loan_offers", "--help", cwd=render(), PYTHONPATH="src")
    groups = re.findall(r"^(\w+):\n((?:  .+\n)+)", printed.partition("show the traceback")[2], re.MULTILINE)
    assert {name: re.findall(r"^  ([\w-]+)", tasks, re.MULTILINE) for name, tasks in groups} == GROUPS


def test_setup_makes_a_repository_and_is_idempotent(prepared: Prepared) -> None:
    project = prepared()
    assert (project / ".git").is_dir()
    assert (project / "uv.lock").is_file()
    before = (project / "uv.lock").stat().st_mtime_ns
    assert make(project, "setup") == ""
    assert (project / "uv.lock").stat().st_mtime_ns == before


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
        (["predict"], "error: argument DATA: name a file; `loan-offers predict --help`"),
        (["predict", "DATA=data/loans.csv"], "error: argument OUT: name a file; `loan-offers predict --help`"),
        (["push", "IMAGE=--all-tags"], "error: --all-tags is not the name of an image: write IMAGE=registry/name:tag"),
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
    for name in TASKS:
        assert f"usage: loan-offers {name}" in task(project, name, "--help")
    task(project, "setup")
    assert "contract.yaml: classification of loan_accepted" in task(project, "contract")
    task(project, "train", "--seed", "0")
    task(project, "predict", "data/loans.csv", str(tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_text().count("\n") == 4_001
    assert "4,000 rows checked" in task(project, "check-data", "data/loans.csv")
    assert "ok  k8s" in task(project, "check-k8s")
    assert "1 passed" in task(project, "test", "-k", "test_the_manifests_agree")
    task(project, "clean")


def test_serve_without_make(prepared: Prepared) -> None:
    port = free_port()
    command = [str(BIN / "uv"), "run", "--quiet", "loan-offers", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=prepared(), stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", seconds=30)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_lint_and_format_run_all_their_tools(copied: Path) -> None:
    """One tool's complaint does not keep the others from running."""
    app = copied / "src/loan_offers/app.py"
    app.write_text(app.read_text() + "\n\ndef  undocumented( ):\n    return 1 + 'a'\n")
    printed = here(copied, "lint", code=2)
    assert "error: ruff check and ruff format and mypy failed, see above" in printed
    assert "ok  k8s" in printed
    printed = here(copied, "format", code=2)
    assert "error: ruff check failed, see above" in printed
    assert "def undocumented():" in app.read_text()


def test_an_own_transformer_passes_lint(copied: Path) -> None:
    """As scikit-learn's documentation writes it: `X`, no docstring for `fit`, a base class that is not typed."""
    pipeline = copied / "src/loan_offers/pipeline.py"
    imports = "from sklearn.base import BaseEstimator, TransformerMixin\nfrom sklearn.compose"
    pipeline.write_text(pipeline.read_text().replace("from sklearn.compose", imports) + TRANSFORMER)
    here(copied, "format")
    assert "no issues found" in here(copied, "lint")


def test_errors_with_debug_show_the_traceback(prepared: Prepared) -> None:
    for arguments in (("--debug", "predict", "none.csv", "out.csv"), ("predict", "none.csv", "out.csv", "--debug")):
        printed = task(prepared(), *arguments, code=1)
        assert "Traceback (most recent call last)" in printed
        assert "tabserve.errors.UserError: none.csv does not exist" in printed


NEEDED = {"docker": GROUPS["image"], "kubectl": ["deploy", "status", "logs", "rollback", "undeploy"]}


@pytest.mark.parametrize("program", NEEDED)
def test_a_program_that_is_not_installed_is_named(prepared: Prepared, tmp_path: Path, program: str) -> None:
    command = str(prepared() / ".venv/bin/loan-offers")
    for name in NEEDED[program]:
        printed = run(command, name, cwd=prepared(), code=1, PATH=str(tmp_path))
        assert printed.endswith(f"error: {program} is not installed, or not on the PATH\n"), name


def test_local_mk_adds_targets(prepared: Prepared, tmp_path: Path) -> None:
    project = prepared()
    shutil.copy(project / "Makefile", tmp_path)
    (tmp_path / "local.mk").write_text("hello: ## greet\n\t@echo hello $(DATA)\n")
    assert make(tmp_path, "hello", "DATA=you") == "hello you\n"
    assert "make hello           greet" in make(tmp_path)


def test_the_hooks_call_the_tasks(prepared: Prepared) -> None:
    project = prepared()
    run(".venv/bin/pre-commit", "validate-config", cwd=project)
    text = (project / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"entry: (uv.*)", text) == ["uv run loan-offers lint", "uv run loan-offers test"]
    task(project, "hooks")
    installed = {name: (project / f".git/hooks/{name}").read_text() for name in ("pre-commit", "pre-push")}
    assert all("pre_commit" in hook for hook in installed.values())
    run(".venv/bin/pre-commit", "uninstall", cwd=project)


def test_conflict_markers_are_not_committed(prepared: Prepared, tmp_path: Path) -> None:
    run("git", "init", "-q", cwd=tmp_path)
    shutil.copy(prepared() / ".pre-commit-config.yaml", tmp_path)
    check = (f"{prepared()}/.venv/bin/pre-commit", "run", "conflict-markers", "--files", "notes.md")
    (tmp_path / "notes.md").write_text("Notes\n=======\n\n<<<<<<< is how a conflict begins\n")
    assert "notes.md:4" in run(*check, cwd=tmp_path, code=1, PRE_COMMIT_HOME=str(tmp_path / "home"))
    (tmp_path / "notes.md").write_text("Notes\n=======\n")
    run(*check, cwd=tmp_path, PRE_COMMIT_HOME=str(tmp_path / "home"))
