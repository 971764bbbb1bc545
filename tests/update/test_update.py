"""`copier update` in a project that people edited: their edits, their files and their answers stay."""

from __future__ import annotations

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


def test_the_task_update_is_the_same(template: Path, project: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run("make", "setup", cwd=project, PATH=path)
    commit(project, "Locked")
    release_second(template)
    # Git for Windows brings the shell in which parts of git are written.
    assert "now has the template's changes" in task(project, "update", PATH="/usr/bin:/bin")
    assert run("git", "ls-files", "-u", cwd=project) == ""
    assert (project / "NEWS.md").read_text() == "# News of Mine\n"
    assert "max_iter=5_000" in (project / "src/mine/pipeline.py").read_text()


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
