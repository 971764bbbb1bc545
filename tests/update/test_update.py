"""`copier update` in a project that people edited: their edits, their files and their answers stay."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import copier
import pytest
import yaml

from tests.conftest import PARTS, ROOT, copy, run
from tests.project.conftest import task

FIRST, SECOND = "1.0.0", "1.1.0"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A repository of the template with its first version tagged."""
    folder = tmp_path / "template"
    folder.mkdir()
    for part in PARTS:
        copied = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copied(ROOT / part, folder / part)
    run("git", "init", "-q", "-b", "main", cwd=folder)
    release(folder, FIRST)
    return folder


def release(template: Path, version: str) -> None:
    run("git", "add", "-A", cwd=template)
    run("git", "commit", "-q", "-m", version, cwd=template)
    run("git", "tag", version, cwd=template)


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


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


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


def update(project: Path, **answers: str) -> None:
    """`copier update --defaults`, without `--trust`."""
    copier.run_update(project, data=answers, defaults=True, overwrite=True, quiet=True)


def test_edits_and_answers_stay_and_news_arrive(template: Path, project: Path) -> None:
    release_second(template)
    update(project)
    assert run("git", "ls-files", "-u", cwd=project) == ""
    pipeline = (project / "src/mine/pipeline.py").read_text()
    assert "max_iter=5_000" in pipeline
    assert "An unfitted scikit-learn pipeline" in pipeline
    readme = (project / "README.md").read_text()
    assert "Ask Ada." in readme
    assert "## The API, version 2" in readme
    assert "list of tasks" in (project / "Makefile").read_text()
    assert '"ruff>=0.15"' in (project / "pyproject.toml").read_text()
    assert (project / "NEWS.md").read_text() == "# News of Mine\n"
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert answers["_commit"] == SECOND
    assert (answers["project_name"], answers["estimator"], answers["news"]) == ("Mine", "linear", True)


def updated(project: Path, *arguments: str, code: int = 0) -> str:
    """What the task `update` prints; git for Windows brings the shell in which parts of git are written."""
    return task(project, "update", *arguments, code=code, PATH="/usr/bin:/bin")


def files(printed: str) -> dict[str, str]:
    """The classes of the files that `--json` prints."""
    return {file["path"]: file["class"] for file in json.loads(printed.splitlines()[0])["files"]}


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
    assert done.splitlines()[-1].startswith("updated: 1.0.0 to 1.1.0")
    assert run("git", "log", "-1", "--format=%s", cwd=locked) == "Update from the template: 1.0.0 to 1.1.0\n"
    assert run("git", "status", "--porcelain", cwd=locked) == state
    assert "uv.lock" in run("git", "diff", "--name-only", "HEAD~", cwd=locked).split()
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
    task(locked, "update-continue", PATH="/usr/bin:/bin")
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


def test_what_cannot_be_updated_is_one_line(template: Path, locked: Path) -> None:
    assert "refused: " in updated(locked, "--from", "/nowhere", code=2)
    assert "refused: " in updated(locked, "--to", "9.9.9", code=2)
    edit(locked / "Makefile", "help: ## show this list", "help: ## show our list")
    assert "commit or stash your changes first (M Makefile)" in updated(locked, code=2)


def test_what_users_own_is_not_touched(template: Path, project: Path) -> None:
    owned = ["config.toml", "contract.yaml", "data/loans.csv", "src/mine/ours.py"]
    before = {name: (project / name).read_bytes() for name in owned}
    release_second(template)
    update(project)
    assert {name: (project / name).read_bytes() for name in owned} == before
    assert not (project / ".pre-commit-config.yaml").exists()


def test_a_conflict_is_visible_to_git(template: Path, project: Path) -> None:
    edit(project / "Makefile", "help: ## show this list", "help: ## show our list")
    commit(project, "Our help")
    release_second(template)
    update(project)
    assert "Makefile" in run("git", "ls-files", "-u", cwd=project)
    text = (project / "Makefile").read_text()
    assert "show our list" in text
    assert "show this list of tasks" in text


def test_an_answer_can_change_in_an_update(template: Path, project: Path) -> None:
    release_second(template)
    update(project, ci="gitlab")
    assert (project / ".gitlab-ci.yml").is_file()
    assert not (project / ".github").exists()
    assert "max_iter=5_000" in (project / "src/mine/pipeline.py").read_text()


def test_an_update_without_news_changes_nothing(project: Path) -> None:
    update(project)
    assert run("git", "status", "--porcelain", cwd=project) == ""


def test_details_and_what_they_were_stay_without_being_asked(template: Path, project: Path) -> None:
    update(project, service_type="ClusterIP", node_port="31234", autoscale="none", min_replicas="7", memory="1Gi")
    commit(project, "Other answers")
    release_second(template)
    update(project)
    commit(project, "Updated")
    update(project, service_type="NodePort", autoscale="cpu")
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text())
    kept = {"node_port": 31234, "min_replicas": 7, "max_replicas": 7, "memory": "1Gi", "details": False}
    assert answers.items() >= kept.items()
    assert "nodePort: 31234" in (project / "k8s/service.yaml").read_text()


def test_answers_of_a_version_without_details_stay(template: Path, tmp_path: Path) -> None:
    """The first version asked everything, and stored nothing for questions that did not apply."""
    questions = yaml.safe_load((template / "copier.yml").read_text())
    del questions["details"]
    for question in questions.values():
        if "ask" in question:
            condition = question.pop("ask").replace("details and ", "")
            question |= {"when": condition} if "==" in condition or "!=" in condition else {}
    folder = tmp_path / "first"
    shutil.copytree(template, folder)
    (folder / "copier.yml").write_text(yaml.safe_dump(questions, sort_keys=False, allow_unicode=True))
    release(folder, "0.9.0")
    given = {"service_type": "ClusterIP", "port": 9000, "max_replicas": 20, "registry": "ghcr.io/team", "task": "auto"}
    old = copy(folder, tmp_path / "old", {"project_name": "Old", "user_email": "a@b.org", **given}, vcs_ref="0.9.0")
    before = yaml.safe_load((old / ".copier-answers.yml").read_text())
    assert not {"node_port", "details"} & before.keys()
    run("git", "init", "-q", "-b", "main", cwd=old)
    commit(old, "Start")
    shutil.copy2(template / "copier.yml", folder / "copier.yml")
    release(folder, SECOND)
    update(old)
    after = yaml.safe_load((old / ".copier-answers.yml").read_text())
    assert after == before | {"_commit": SECOND, "details": False, "node_port": 30080}
    assert run("git", "diff", "--name-only", cwd=old).split() == [".copier-answers.yml"]
