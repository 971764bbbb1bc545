"""`make new` up to the training: where the project gets updates from, who owns it, which data and folder it takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import copier
import pytest

from tests.conftest import PARTS, ROOT, run
from tests.questions.test_questions import stored
from tools import new, origin

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
URLS = {
    "https://github.com/org/x": "https://github.com/org/x",
    "https://user:token@host/x.git": "https://host/x.git",
    "https://token@github.com/org/x": "https://github.com/org/x",
    "https://a:b@c@host/x.git?private_token=t#f": "https://host/x.git",
    "HTTPS://u:p@host:8443/x": "git+HTTPS://host:8443/x",
    "https://host/x": "git+https://host/x",
    "ssh://git@host/x": "git+ssh://git@host/x",
    "ssh://git:secret@host:22/x.git": "ssh://git@host:22/x.git",
    "ssh://host/x.git": "ssh://host/x.git",
    "git@host:org/x.git": "git@host:org/x.git",
    "git@host:org/x": "git@host:org/x",
    "me@host:org/x": "git+me@host:org/x",
    "file:///srv/x": "git+file:///srv/x",
    "gh:org/x": "gh:org/x",
    "/srv/x.git": "file:///srv/x.git",
    "../x.git": "file:///srv/x.git",
    "/srv/x": "git+file:///srv/x",
}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the template whose origin is a bare repository; `make new` runs in it."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for part in PARTS:
        copied = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copied(ROOT / part, folder / part)
    run("git", "init", "-q", "-b", "main", cwd=folder)
    commit(folder, "First")
    run("git", "clone", "-q", "--bare", str(folder), str(tmp_path / "bare"), cwd=tmp_path)
    run("git", "remote", "add", "origin", f"file://{tmp_path}/bare", cwd=folder)
    run("git", "fetch", "-q", "origin", cwd=folder)
    monkeypatch.setattr(new, "ROOT", folder)
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def commit(folder: Path, message: str) -> str:
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-q", "-m", message, cwd=folder)
    return head(folder)


def head(folder: Path) -> str:
    return run("git", "rev-parse", "--short=7", "HEAD", cwd=folder).strip()


def add_page(clone: Path, text: str) -> None:
    (clone / "template/PAGE.md").write_text(f"{text}\n")


def page(project: Path) -> str:
    path = project / "PAGE.md"
    return path.read_text().strip() if path.exists() else ""


@pytest.mark.parametrize(("url", "expected"), URLS.items())
def test_the_address_holds_no_secret_and_is_known_to_copier(url: str, expected: str) -> None:
    assert origin.address(url, Path("/srv/clone")) == expected


@pytest.mark.parametrize("scheme", ["file://", ""], ids=["url", "path"])
def test_the_origin_is_remembered_and_updates_come_from_it(
    clone: Path, tmp_path: Path, capsys: Capture, scheme: str
) -> None:
    run("git", "remote", "set-url", "origin", f"{scheme}{tmp_path}/bare", cwd=clone)
    project = tmp_path / "my-model"
    new.render(project, None, [])
    assert capsys.readouterr().out == ""
    assert stored(project)["_src_path"] == f"git+file://{tmp_path}/bare"
    assert stored(project)["_commit"] == head(clone)
    add_page(clone, "news")
    published = commit(clone, "Second")
    run("git", "push", "-q", "origin", "main", cwd=clone)
    shutil.rmtree(clone)  # another machine has only the origin
    run("git", "init", "-q", "-b", "main", cwd=project)
    commit(project, "Start")
    copier.run_update(project, defaults=True, overwrite=True, quiet=True)
    assert page(project) == "news"
    assert stored(project)["_commit"] == published
    changed = run("git", "diff", "--stat", "--", ".copier-answers.yml", cwd=project)
    assert "2 +-" in changed, f"more than the commit changed:\n{changed}"


def test_what_the_origin_lacks_is_not_rendered(clone: Path, tmp_path: Path, capsys: Capture) -> None:
    published = head(clone)
    add_page(clone, "unpublished")
    commit(clone, "Second")
    new.render(tmp_path / "one", None, [])
    said = capsys.readouterr().out
    assert said.splitlines() == [
        f'note: the origin lacks HEAD, so this renders {published}; ARGS="--vcs-ref HEAD" renders HEAD all the same'
    ]
    assert (page(tmp_path / "one"), stored(tmp_path / "one")["_commit"]) == ("", published)
    new.render(tmp_path / "two", None, ["--vcs-ref", "HEAD"])
    assert "the origin lacks HEAD: push" in capsys.readouterr().out
    assert (page(tmp_path / "two"), stored(tmp_path / "two")["_commit"]) == ("unpublished", head(clone))
    assert stored(tmp_path / "two")["_src_path"] == f"git+file://{tmp_path}/bare"


def test_a_template_that_is_as_it_was_released_is_that_release(clone: Path, tmp_path: Path, capsys: Capture) -> None:
    run("git", "tag", "1.0.0", cwd=clone)
    (clone / "releases.txt").write_text("1.0.0\n")
    commit(clone, "List")
    run("git", "push", "-q", "origin", "main", cwd=clone)
    new.render(tmp_path / "one", None, [])
    assert stored(tmp_path / "one")["_commit"] == "1.0.0"
    assert capsys.readouterr().out == ""
    add_page(clone, "new")
    commit(clone, "Page")
    run("git", "push", "-q", "origin", "main", cwd=clone)
    new.render(tmp_path / "two", None, [])
    assert stored(tmp_path / "two")["_commit"] == f"1.0.0-2-g{head(clone)}"


def test_uncommitted_changes_are_not_rendered(clone: Path, tmp_path: Path, capsys: Capture) -> None:
    add_page(clone, "draft")
    new.render(tmp_path / "one", None, [])
    assert "note: the origin lacks the uncommitted changes, so this renders" in capsys.readouterr().out
    assert (page(tmp_path / "one"), stored(tmp_path / "one")["_commit"]) == ("", head(clone))
    new.render(tmp_path / "two", None, ["--vcs-ref=HEAD"])
    assert (page(tmp_path / "two"), stored(tmp_path / "two")["_commit"]) == ("draft", head(clone))


@pytest.mark.parametrize("change", ["no origin", "never fetched"])
def test_without_an_origin_the_folder_is_remembered(clone: Path, tmp_path: Path, capsys: Capture, change: str) -> None:
    run("git", "remote", "remove", "origin", cwd=clone)
    if change == "never fetched":
        run("git", "remote", "add", "origin", "https://u:t@host/x.git", cwd=clone)
    new.render(tmp_path / "my-model", None, [])
    (said,) = capsys.readouterr().out.splitlines()
    assert "only this machine can update the project, until _src_path in its .copier-answers.yml names another" in said
    assert stored(tmp_path / "my-model")["_src_path"] == str(clone)
    assert stored(tmp_path / "my-model")["_commit"] == head(clone)


def test_a_folder_that_is_no_clone_says_so(clone: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.rmtree(clone / ".git")
    new.render(tmp_path / "my-model", None, [])
    assert capsys.readouterr().out == "note: this is not a git clone, so the project cannot be updated\n"


def test_the_newest_shared_commit_of_a_merge(clone: Path) -> None:
    run("git", "checkout", "-q", "-b", "side", cwd=clone)
    add_page(clone, "side")
    side = commit(clone, "Side")
    run("git", "push", "-q", "origin", "side", cwd=clone)
    run("git", "checkout", "-q", "main", cwd=clone)
    run("git", "commit", "-q", "--allow-empty", "-m", "Mine", cwd=clone)
    run("git", "merge", "-q", "--no-edit", "side", cwd=clone)
    assert origin.published(clone, "HEAD").startswith(side)


def test_git_knows_the_owner(clone: Path) -> None:
    run("git", "config", "user.name", "Ada Ö.", cwd=clone)
    run("git", "config", "user.email", "ada@example.com", cwd=clone)
    assert list(new.own_answers({})) == ["--data", "user_name=Ada Ö.", "--data", "user_email=ada@example.com"]
    assert list(new.own_answers({"user_name": "Grace", "user_email": ""})) == []
    run("git", "config", "user.name", "Ada <ada@example.com>", cwd=clone)
    run("git", "config", "user.email", "nonsense", cwd=clone)
    assert list(new.own_answers({})) == []


def test_settings_of_copier_win_over_git(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.yml").write_text("defaults: {user_name: Team, user_email: ''}")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(tmp_path / "settings.yml"))
    assert list(new.own_answers({})) == []


def test_the_home_folder_is_expanded(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    answers = {"user_name": "a", "user_email": ""}
    expanded = ["--data", f"data_path={tmp_path}/x.csv"]
    assert list(new.own_answers(answers | {"data_path": "~/x.csv"})) == expanded
    assert list(new.own_answers(answers | {"data_path": "~nobody-at-all/x.csv"})) == []
    given = ["--data", "data_source=file", "--data", "data_path=~/x.csv"]
    new.render(tmp_path / "my-model", None, [*given, *expanded])
    assert stored(tmp_path / "my-model")["data_path"] == f"{tmp_path}/x.csv"


@pytest.mark.parametrize(
    ("data", "found"),
    [("a.csv.gz", True), ("a.xlsx", True), ("https://host/a", True), ("b.csv", False), ("x" * 300 + ".csv", False)],
)
def test_data_is_there_or_the_project_goes(tmp_path: Path, data: str, found: bool) -> None:
    for name in ("a.csv.gz", "a.xlsx"):
        (tmp_path / name).touch()
    project = tmp_path / "project"
    project.mkdir()
    where = data if "://" in data else str(tmp_path / data)
    (project / "config.toml").write_text(f'[contract]\ndata = "{where}"\n')
    if found:
        new.check_data(project)
    else:
        with pytest.raises(new.NewProjectError, match="does not exist: name data_path"):
            new.check_data(project)
    assert project.exists() == found


@pytest.mark.parametrize("name", ["/proc/xx", "/proc/xx/yy", "file/new", "n" * 300, "loop/new", "loop", "file"])
def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    assert new.main([name]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"error: {name} ")
    assert err.endswith(": choose another DEST\n")
    assert sorted(tmp_path.iterdir()) == before


def test_other_errors_of_the_system_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert new.main([str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == "error: git: No such file or directory\n"
