"""The template with a series of versions, and edited projects of each of them; every render is made once."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tabserve.updating import renders
from tabserve.updating.__main__ import main
from tabserve.updating.git import Git
from tests.conftest import PARTS, ROOT, copy, run
from tests.update.changes import CHANGES, edit
from tests.update.edits import EDITS
from tools import releases

FIRST, SECOND = "1.0.0", "1.1.0"
LAST = list(CHANGES)[-1]
RELEASES = [release for release in releases.releases(ROOT) if releases.has(ROOT, release.tree)]
VERSIONS = [*(release.version for release in RELEASES), FIRST, *CHANGES]
HOSTILE = """[commit]
gpgsign = true
[core]
autocrlf = true
hooksPath = {hooks}
[merge]
conflictStyle = merge
[rerere]
enabled = true
autoUpdate = true
[user]
useConfigOnly = true
"""
UNKNOWN = {".env": "SERVE_API_KEY=a-key-for-tests\n", "notes.txt": "not in git\n", "model/model.onnx": "a model\n"}


@pytest.fixture(params=["usual", "hostile"])
def configuration(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git's configuration: that of the tests, or one in which much fails."""
    if request.param == "hostile":
        make_hostile(tmp_path, monkeypatch)


def make_hostile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity, signatures without a key, failing hooks, other line ends, other styles of conflicts."""
    hooks = folder / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "post-checkout", "reference-transaction"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    (folder / "gitconfig").write_text(HOSTILE.format(hooks=hooks))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(folder / "gitconfig"))
    for name in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL"):
        monkeypatch.delenv(f"GIT_{name}", raising=False)
    monkeypatch.delenv("EMAIL", raising=False)


def template_in(folder: Path, earlier: list[releases.Release] | None = None) -> Path:
    """A repository of the template as it is here, with one version; earlier releases come before it."""
    run("git", "init", "-q", "-b", "main", str(folder), cwd=folder.parent)
    for one in earlier or []:
        releases.extract(ROOT, one.tree, folder)
        release(folder, one.version)
        run("git", "rm", "-q", "-r", ".", cwd=folder)
    for part in PARTS:
        copied = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copied(ROOT / part, folder / part)
    release(folder, FIRST)
    return folder


def release(template: Path, version: str) -> None:
    """Commit and tag what is there."""
    run("git", "add", "-A", cwd=template)
    run(
        "git", "commit", "-q", "--allow-empty", "-m", version, cwd=template
    )  # right after a release nothing has changed
    run("git", "tag", version, cwd=template)


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with its releases, a version as it is here, and one for each of `CHANGES`."""
    template = template_in(tmp_path_factory.mktemp("series") / "template", RELEASES)
    for version, change in CHANGES.items():
        change(template / "template")
        release(template, version)
    return template


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Renders are remembered by template, version and answers."""
    made: dict[str, Path] = {}
    original = renders.render

    def key(template: Path, version: str, answers: Mapping[str, Any], source: str) -> str:
        given = sorted((name, str(value)) for name, value in answers.items() if not name.startswith("_"))
        return repr((str(template), version, given, source))

    def render(
        template: Path, version: str, answers: Mapping[str, Any], folder: Path, source: str, asks: bool = False
    ) -> None:
        name = key(template, version, answers, source)
        if name not in made:
            made[name] = tmp_path_factory.mktemp("render") / "project"
            original(template, version, answers, made[name], source, asks)
            made[key(template, version, renders.answers_of(made[name]), source)] = made[name]  # gives the same
        shutil.copytree(made[name], folder, symlinks=True)

    renders.render = render
    yield
    renders.render = original


@dataclass(frozen=True)
class Project:
    """A project in a repository."""

    folder: Path
    template: Path

    @property
    def git(self) -> Git:
        """Its repository, under the configuration of the test."""
        return Git(self.folder)

    def commit(self, message: str) -> None:
        """Commit all, whatever the configuration says."""
        git = self.git
        git.run("add", "--all", ":(top)")
        parents = [git.line("rev-parse", "HEAD")] if git.has("rev-parse", "--verify", "HEAD") else []
        git.run("update-ref", "HEAD", git.commit(git.line("write-tree"), message, *parents))

    def files(self) -> dict[str, tuple[bytes, bool]]:
        """Content and executable bit of every file, without git's own."""
        return {
            path.relative_to(self.folder).as_posix(): (path.read_bytes(), os.access(path, os.X_OK))
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(self.folder).parts
        }

    def update(self, *words: str, to: str = LAST) -> int:
        """Run the updater as `start` does."""
        given = ("--project", str(self.folder), "--template", str(self.template), "--source", str(self.template))
        return main([*given, "--to", to, "--no-checks", *words])


Make = Callable[..., Project]


@pytest.fixture
def make_project(series: Path, rendered: None, tmp_path: Path) -> Make:
    """A function that makes a project of a version, in one of some layouts, with edits, committed."""

    def make(
        version: str = FIRST, answers: Mapping[str, Any] | None = None, edits: list[str] | None = None, layout: str = ""
    ) -> Project:
        folder = _folder(tmp_path, layout)
        answers = {"project_name": "Mine", **(answers or {})}
        renders.render(series, version, answers, tmp_path / "fresh", str(series))
        shutil.copytree(tmp_path / "fresh", folder, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "fresh")
        project = Project(folder, series)
        project.commit("Start")
        for name in EDITS if edits is None else edits:
            EDITS[name](folder)
        project.commit("Our edits")
        for name, text in UNKNOWN.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return project

    return make


def _folder(parent: Path, layout: str) -> Path:
    """Where a project lies: at the root of a repository, in a subfolder, in a worktree, beside a submodule."""
    root = parent / "repository"
    Git(parent).run("init", "--quiet", "--initial-branch", "main", str(root))
    if layout == "subfolder":
        (root / "other.txt").write_text("other\n")
        return root / "services/a model"
    if layout == "worktree":
        (root / "other.txt").write_text("other\n")
        Project(root, root).commit("Other")
        Git(root).run("worktree", "add", "--quiet", "-b", "work", str(parent / "worktree"))
        return parent / "worktree"
    if layout == "submodule":
        inner = parent / "inner"
        Git(parent).run("init", "--quiet", str(inner))
        (inner / "file.txt").write_text("inner\n")
        Project(inner, inner).commit("Inner")
        Git(root).run("submodule", "--quiet", "add", str(inner), "vendor/inner")
    return root


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A repository of the template with its first version tagged."""
    return template_in(tmp_path / "template")


def release_second(template: Path) -> None:
    """A second version, with changes next to what users edit, a new file and a new question."""
    edit(template / "template/Makefile.jinja", "help: ## show this list", "help: ## show this list of tasks")
    edit(template / "template/README.md.jinja", "## The API\n", "## The API, version 2\n")
    edit(template / "template/config.toml.jinja", "port = {{ port }}", "port = 9999")
    edit(template / "template/pyproject.toml.jinja", '"ruff>=0.14.8"', '"ruff>=0.15"')
    for pipeline in (template / "template/src").rglob("pipeline.py"):
        edit(pipeline, '"""An unfitted pipeline for', '"""An unfitted scikit-learn pipeline for')
    for sample in (template / "template").rglob("loans.csv"):
        edit(sample, "C100000,", "C999999,")
    (template / "template/NEWS.md.jinja").write_text("# News of {{ project_name }}\n")
    with (template / "copier.yml").open("a") as file:
        file.write("\nnews:\n  type: bool\n  help: Are there news?\n  default: true\n")
    release(template, SECOND)


def commit(project: Path, message: str) -> None:
    run("git", "add", "-A", cwd=project)
    run("git", "commit", "-q", "-m", message, cwd=project)


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A project of the first version with an answer of its own, edited and committed."""
    folder = copy(template, tmp_path / "project", {"project_name": "Mine", "estimator": "linear"}, vcs_ref=FIRST)
    run("git", "init", "-q", "-b", "main", cwd=folder)
    commit(folder, "Start from the template")
    edit(folder / "src/mine/pipeline.py", "max_iter=2_000", "max_iter=5_000")
    edit(folder / "README.md", "## Your own data", "## Our data\n\nAsk Ada.\n\n## Your own data")
    edit(folder / "config.toml", "max_rows = 1000", "max_rows = 50")
    edit(folder / "data/loans.csv", "C100001,", "C888888,")
    (folder / ".pre-commit-config.yaml").unlink()
    (folder / "contract.yaml").write_text("version: 1\n# ours\n")
    (folder / "src/mine/ours.py").write_text('"""Ours."""\n')
    commit(folder, "Our edits")
    return folder


def in_terminal(
    command: list[str], folder: Path, keys: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[bytes, int]:
    """Run a command in a terminal, and press keys when a text is shown; returns what was shown, and the exit code."""
    controller, terminal = pty.openpty()
    settings: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    variables = {**environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    process = subprocess.Popen(command, cwd=folder, env=variables, start_new_session=True, **settings)
    os.close(terminal)
    shown, left, deadline = b"", dict(keys), time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([controller], [], [], 0.2)[0]:
            try:
                shown += os.read(controller, 65_536)
            except OSError:  # the other end is closed
                break
        for text in [text for text in left if text.encode() in shown]:
            os.write(controller, left.pop(text).encode())
    os.close(controller)
    return shown, process.wait(10)
