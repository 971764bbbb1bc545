"""`update-request`: what a scheduled job pushes to a bare repository, and the request that it opens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tabserve.errors import UserError
from tabserve.updating import request
from tests.conftest import run
from tests.update.changes import edit
from tests.update.conftest import commit, release_second

BRANCH = "template-update/1.1.0"
RECORD = """#!/bin/sh
printf '%s\\n' "$0" "$@" > {folder}/words
cat > {folder}/text
echo no token >&2
exit {code}
"""


@pytest.fixture
def remote(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare repository as `origin`, and the programs of the services, which record their words."""
    bare = tmp_path / "remote.git"
    run("git", "clone", "-q", "--bare", str(project), str(bare), cwd=tmp_path)
    run("git", "config", "receive.advertisePushOptions", "true", cwd=bare)
    run("git", "remote", "add", "origin", str(bare), cwd=project)
    run("git", "checkout", "-q", "--detach", cwd=project)
    service(tmp_path)
    monkeypatch.chdir(project)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("UV", str(Path(sys.executable).with_name("uv")))
    return bare


def service(folder: Path, code: int = 0) -> None:
    """The programs of GitHub and Azure."""
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("gh", "az"):
        (folder / "bin" / name).write_text(RECORD.format(folder=folder, code=code))
        (folder / "bin" / name).chmod(0o755)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks run in the environment of the tests, and check nothing after the merge."""

    def task(project: str, *words: str) -> tuple[int, str]:
        words += ("--no-checks",) if words[0] == "update" else ()
        command = [sys.executable, "-m", project, *words]
        environment = os.environ | {"PYTHONPATH": "src"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, (done.stdout + done.stderr).strip()

    monkeypatch.setattr(request, "_task", task)


def with_conflict(project: Path, template: Path) -> None:
    """Both change one line."""
    edit(project / "Makefile", "help: ## show this list", "help: ## show <our> list")
    commit(project, "Our help")
    release_second(template)


def test_a_request_has_the_update_and_its_preview(template: Path, project: Path, remote: Path, tmp_path: Path) -> None:
    run("make", "setup", cwd=project, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (project / "contract.yaml").unlink()
    commit(project, "Locked")
    head = run("git", "rev-parse", "HEAD", cwd=project)
    release_second(template)
    assert request.open_request("mine", "github", None) == f"requested: {BRANCH}"
    assert run("git", "rev-parse", f"{BRANCH}~", cwd=remote) == head
    assert run("git", "show", f"{BRANCH}:NEWS.md", cwd=remote) == "# News of Mine\n"
    words = (tmp_path / "words").read_text().splitlines()
    assert words[1:] == ["pr", "create", "--head", BRANCH, "--title", "Update from the template", "--body-file", "-"]
    text = (tmp_path / "text").read_text()
    for line in (
        "new (added by the template)",
        "  NEWS.md",
        "- new default of [serve] port: 8080 -> 9999; yours is 8080",
    ):
        assert line in text.splitlines()


def test_without_news_or_with_an_open_request_nothing_happens(
    template: Path, project: Path, remote: Path, quick: None, tmp_path: Path
) -> None:
    assert request.open_request("mine", "github", None) == "up-to-date: 1.0.0"
    release_second(template)
    run("git", "push", "-q", "origin", f"HEAD:refs/heads/{BRANCH}", cwd=project)
    assert request.open_request("mine", "github", None) == f"up-to-date: there is a branch {BRANCH} already"
    assert not (tmp_path / "words").exists()


def test_conflicts_make_a_draft_with_an_empty_commit(
    template: Path, project: Path, remote: Path, quick: None, tmp_path: Path
) -> None:
    with_conflict(project, template)
    assert request.open_request("mine", "azure", None) == f"requested: {BRANCH} as a draft"
    assert run("git", "diff", f"{BRANCH}~", BRANCH, cwd=remote) == ""
    assert run("git", "rev-parse", f"{BRANCH}~", cwd=remote) == run("git", "rev-parse", "HEAD", cwd=project)
    words = (tmp_path / "words").read_text().splitlines()
    assert words[words.index("--draft") + 1] == "true"
    text = words[words.index("--description") + 1 :]
    assert text[1].startswith("This update has conflicts. Take it over: git fetch")
    assert text[text.index("conflict (changed by both: you decide)") + 1] == "  Makefile  (both changed the same lines)"


def test_gitlab_opens_the_request_for_what_is_pushed(
    template: Path, project: Path, remote: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = remote / "hooks/pre-receive"
    hook.write_text(f"#!/bin/sh\nenv | grep ^GIT_PUSH_OPTION > {tmp_path}/options\n")
    hook.chmod(0o755)
    monkeypatch.setenv("CI_DEFAULT_BRANCH", "main")
    with_conflict(project, template)
    assert request.open_request("mine", "gitlab", None) == f"requested: {BRANCH} as a draft"
    options = [line.split("=", 1)[1] for line in (tmp_path / "options").read_text().splitlines()]
    assert {"merge_request.create", "merge_request.draft", "merge_request.target=main"} <= set(options)
    (text,) = (option for option in options if option.startswith("merge_request.description="))
    assert text.startswith(
        "merge_request.description=<pre>This update has conflicts. Take it over: git fetch &amp;&amp; "
    )
    assert "&#10;conflict (changed by both: you decide)&#10;  Makefile  (both changed the same lines)&#10;" in text
    assert not (tmp_path / "words").exists()


def test_a_service_that_refuses_is_said(
    template: Path, project: Path, remote: Path, quick: None, tmp_path: Path
) -> None:
    release_second(template)
    service(tmp_path, 1)
    with pytest.raises(UserError, match="the branch is pushed, and the request not opened: no token"):
        request.open_request("mine", "github", None)


def test_a_remote_that_is_away_is_said(template: Path, project: Path, remote: Path, quick: None) -> None:
    release_second(template)
    remote.rename(remote.with_name("elsewhere.git"))
    with pytest.raises(UserError, match=r"remote\.git"):
        request.open_request("mine", "github", None)
