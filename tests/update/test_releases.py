"""Releases: how one is made, and that each of them and each commit since the last one renders with this copier."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from packaging.version import Version

from tests.conftest import ROOT, missing, run
from tools import releases

LISTED = releases.releases(ROOT)
LOG = "# Changes\n\n## Unreleased\n\n- News.\n\n## 1.0.0 (2026-01-01)\n\n- All.\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a release behind it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "CHANGELOG.md").write_text(LOG)
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.0.0"\n\n[other]\nversion = "7"\n')
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-q", "-m", "Start", cwd=folder)
    return folder


def test_a_release_is_checked_tagged_and_listed(repository: Path) -> None:
    checked: list[str] = []
    releases.make(repository, "1.1.0", lambda: checked.append(releases.git(repository, "rev-parse", "HEAD")))
    assert len(checked) == 1
    (release,) = releases.releases(repository)
    assert release.version == releases.git(repository, "describe", "HEAD~")
    assert release.commit == releases.git(repository, "rev-parse", "1.1.0^{commit}")
    assert releases.commits(repository)[release.commit] == release.tree
    assert run("git", "show", "1.1.0:CHANGELOG.md", cwd=repository).splitlines()[2].startswith("## 1.1.0 (2")
    assert 'version = "1.1.0"\n\n[other]\nversion = "7"' in run("git", "show", "1.1.0:pyproject.toml", cwd=repository)
    assert list(releases.since(repository, release)) == [releases.git(repository, "rev-parse", "HEAD^{tree}")]


def failing() -> None:
    raise releases.ReleaseError("make lint failed")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.1", "make lint failed"),
        ("new", "not a version of PEP 440"),
        ("v1.1.0", "write it as 1.1.0"),
        ("1.1.0.dev1", "write it as 1.1.0"),
        ("1.1.0+local", "write it as 1.1.0"),
    ],
)
def test_what_is_not_released_leaves_the_repository_alone(repository: Path, version: str, said: str) -> None:
    with pytest.raises(releases.ReleaseError, match=said):
        releases.make(repository, version, failing)
    assert run("git", "status", "--porcelain", cwd=repository) == ""
    assert run("git", "tag", cwd=repository) == ""


def test_what_a_release_needs(repository: Path) -> None:
    (repository / "new.txt").write_text("x")
    with pytest.raises(releases.ReleaseError, match="commit or stash"):
        releases.make(repository, "1.1.0", failing)
    (repository / "new.txt").unlink()
    releases.make(repository, "1.1.0", lambda: None)
    with pytest.raises(releases.ReleaseError, match=r"1\.1\.0 is not newer than 1\.1\.0"):
        releases.make(repository, "1.1.0", lambda: None)
    with pytest.raises(releases.ReleaseError, match="nothing under '## Unreleased'"):
        releases.make(repository, "1.2.0", lambda: None)


@pytest.mark.parametrize("what", ["hook", "signature", "tag"])
def test_a_release_that_fails_leaves_the_repository_alone(repository: Path, what: str) -> None:
    head = run("git", "rev-parse", "HEAD", cwd=repository)
    if what == "tag":
        run("git", "tag", "1.1.0", cwd=repository)
    elif what == "signature":
        run("git", "config", "tag.gpgSign", "true", cwd=repository)
        run("git", "config", "gpg.program", "false", cwd=repository)
    else:
        (repository / ".git/hooks/pre-commit").write_text("#!/bin/sh\nexit 1\n")
        (repository / ".git/hooks/pre-commit").chmod(0o755)
    with pytest.raises(releases.ReleaseError):
        releases.make(repository, "1.1.0", lambda: None)
    assert run("git", "rev-parse", "HEAD", cwd=repository) == head
    assert run("git", "status", "--porcelain", cwd=repository) == ""
    assert (run("git", "tag", cwd=repository) == "") == (what != "tag")


def test_the_list_keeps_its_lines(repository: Path) -> None:
    (repository / "releases.txt").write_text("1.0.0 a b")  # an editor took the last line's end
    run("git", "add", "-A", cwd=repository)
    run("git", "commit", "-q", "-m", "List", cwd=repository)
    releases.make(repository, "1.1.0", lambda: None)
    assert [release.version for release in releases.releases(repository)] == ["1.0.0", "1.1.0"]


def test_the_list_is_in_order_and_its_releases_are_found() -> None:
    if run("git", "rev-parse", "--is-shallow-repository", cwd=ROOT) != "false\n":
        missing("history", "this is a shallow clone")
    trees = set(releases.commits(ROOT).values())
    assert [release.version for release in LISTED if release.tree not in trees] == []
    versions = [Version(release.version) for release in LISTED]
    assert versions == sorted(set(versions))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [release.version for release in LISTED if f"\n## {release.version} (" not in changelog] == []


@pytest.mark.filterwarnings("ignore::copier.errors.DirtyLocalWarning")
def test_releases_and_the_commits_since_render(tmp_path: Path) -> None:
    if run("git", "rev-parse", "--is-shallow-repository", cwd=ROOT) != "false\n":
        missing("history", "this is a shallow clone")
    newer = releases.since(ROOT, LISTED[-1]) if LISTED else [releases.git(ROOT, "rev-parse", "HEAD^{tree}")]
    templates = {}
    for tree in (*(release.tree for release in LISTED), *newer):
        templates[releases.git(ROOT, "rev-parse", *(f"{tree}:{part}" for part in releases.PARTS))] = tree
    for number, tree in enumerate(templates.values()):
        assert (releases.render(ROOT, tree, tmp_path / str(number)) / "pyproject.toml").exists()


def test_the_hook_renders_what_is_staged(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    run("git", "clone", "-q", str(ROOT), str(folder), cwd=tmp_path)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    hook = ["sh", "tools/hooks/pre-commit"]
    assert subprocess.run(hook, cwd=folder).returncode == 0
    with (folder / "template/Makefile.jinja").open("a") as file:
        file.write("{% if ci == 'gitlab' %}{{ nosuch.x }}{% endif %}\n")
    run("git", "add", "template", cwd=folder)
    done = subprocess.run(hook, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: this does not render: ")
