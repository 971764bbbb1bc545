"""`copier update` in a project that people edited: their edits, their files and their answers stay."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import copier
import yaml

from tabserve.updating.ownership import YOURS
from tests.conftest import ROOT, copy, run
from tests.update.changes import edit
from tests.update.conftest import SECOND, commit, release, release_second


def update(project: Path, **answers: str) -> None:
    """`copier update --defaults`, without `--trust`."""
    copier.run_update(project, data=answers, defaults=True, overwrite=True, quiet=True)


def test_edits_and_answers_stay_and_news_arrive(template: Path, project: Path) -> None:
    release_second(template)
    update(project)
    assert run("git", "ls-files", "-u", cwd=project) == ""
    assert "list of tasks" in (project / "Makefile").read_text()
    assert '"ruff>=0.15"' in (project / "pyproject.toml").read_text()
    assert (project / "NEWS.md").read_text() == "# News of Mine\n"
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert answers["_commit"] == SECOND
    assert (answers["project_name"], answers["estimator"], answers["news"]) == ("Mine", "linear", True)


def test_what_users_own_is_not_touched(template: Path, project: Path) -> None:
    owned = ["config.toml", "contract.yaml", "data/loans.csv", "README.md", "src/mine/pipeline.py", "src/mine/ours.py"]
    before = {name: (project / name).read_bytes() for name in owned}
    release_second(template)
    update(project, estimator="lightgbm")
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


def test_copier_leaves_alone_what_is_yours() -> None:
    excluded = yaml.safe_load((ROOT / "copier.yml").read_text())["_exclude"]
    names = re.findall(r"== 'update' %}/(.*?){% endif", "\n".join(excluded))
    assert sorted(names) == sorted(name.rstrip("/").format(package="{{ package_name }}") for name in YOURS)
