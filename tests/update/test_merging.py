"""The merge of two renders into an edited project, without a template: each edit is in the result or in a conflict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tabserve.errors import UserError
from tabserve.updating import applying, contents, merging, notes, obstacles, record, undoing
from tabserve.updating.git import Git

Files = dict[str, str | bytes]
TEXT = "".join(f"line {number}\n" for number in range(30))


def written(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def committed(folder: Path, files: Files) -> Git:
    """A repository with these files."""
    git = Git(written(folder, files))
    git.run("init", "--quiet", "--initial-branch", "main")
    git.run("add", "--all", "--force")
    git.run("update-ref", "HEAD", git.commit(git.line("write-tree"), "Start"))
    return git


def merged(tmp_path: Path, old: Files, new: Files, mine: Files, prefix: str = "") -> tuple[Git, merging.Merged, str]:
    """The project, what a merge gives, and a commit of it; files below `own/` are the person's."""
    project = committed(tmp_path / "project", {f"{prefix}{name}": content for name, content in mine.items()})
    git = merging.scratch(project, tmp_path / "scratch.git")
    trees = [
        git.tree_of(written(tmp_path / name, files), tmp_path / "index") for name, files in (("o", old), ("n", new))
    ]
    before, after = ({f"{prefix}{path}": entry for path, entry in git.entries(tree).items()} for tree in trees)
    head = project.line("rev-parse", "HEAD")
    aligned = contents.aligned(git, contents.Sides(before, after, git.entries(head)), "pyproject.toml")
    found = merging.merge(git, head, *aligned, lambda path: path.startswith(f"{prefix}own/"))
    git.run(
        "update-ref",
        "refs/result",
        git.commit(found.tree, "x", *(f"refs/{name}" for name in ("base", "yours", "template"))),
    )
    project.run("fetch", "--quiet", str(git.folder), "+refs/result:refs/update/objects")
    return project, found, project.commit(found.tree, "Update", head)


OLD: Files = {
    "a": TEXT,
    "renamed": TEXT + "r",
    "gone": TEXT,
    "deleted": "d\n",
    "own/x": "1\n",
    "both": "1\n",
    "b": b"\0\1",
    "moved": TEXT + "m",
    "crlf": TEXT,
    "crlf2": TEXT + "2",
}
NEW: Files = {
    "a": TEXT + "new\n",
    "to": TEXT + "r",
    "deleted": "e\n",
    "own/x": "2\n",
    "both": "2\n",
    "b": b"\0\2",
    "n": "n\n",
    "moved": TEXT + "new\nm",
    "crlf": TEXT + "new\n",
    "crlf3": TEXT + "new\n2",
}
MINE: Files = {
    **{"a": "mine\n" + TEXT, "renamed": "mine\n" + TEXT + "r", "gone": TEXT + "mine\n", "own/x": "1\n"},
    **{"both": "3\n", "b": b"\0\3", "other": "o\n", "mine": "mine\n" + TEXT + "m"},
    **{"crlf": ("mine\n" + TEXT).replace("\n", "\r\n"), ".gitattributes": "crlf* -text\n"},
    **{"crlf2": ("mine\n" + TEXT + "2").replace("\n", "\r\n")},
}


@pytest.mark.parametrize("prefix", ["", "services/model/"])
def test_every_edit_is_in_the_result_or_in_a_conflict(tmp_path: Path, configuration: None, prefix: str) -> None:
    project, found, commit = merged(tmp_path, OLD, NEW, MINE, prefix)
    assert set(found.conflicts) == {f"{prefix}{name}" for name in ("both", "gone", "b")}
    assert found.renames == {f"{prefix}renamed": f"{prefix}to", f"{prefix}crlf2": f"{prefix}crlf3"}
    before = project.line("rev-parse", "HEAD")
    applying.apply(project, found, commit, "Update", "")
    folder = project.folder / prefix
    assert (folder / "a").read_text() == "mine\n" + TEXT + "new\n"
    assert (folder / "to").read_text() == "mine\n" + TEXT + "r"
    assert (folder / "gone").read_text() == TEXT + "mine\n"
    assert (folder / "mine").read_text() == "mine\n" + TEXT + "new\nm"
    assert not (folder / "moved").exists()
    assert (folder / "crlf").read_bytes() == ("mine\n" + TEXT + "new\n").replace("\n", "\r\n").encode()
    assert (folder / "crlf3").read_bytes() == ("mine\n" + TEXT + "new\n2").replace("\n", "\r\n").encode()
    assert (folder / "b").read_bytes() == b"\0\3"
    assert (folder / "own/x").read_text() == "1\n"
    assert not (folder / "deleted").exists()
    lines = (folder / "both").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["<<<<<<<", "3", "|||||||", "1", "=======", "2", ">>>>>>>"]
    with pytest.raises(UserError, match=rf"{prefix}b: .* not a text file; `git add {prefix}b` keeps"):
        applying.resume(project)
    project.run("add", f"{prefix}b")
    with pytest.raises(UserError, match="both still has conflict markers"):
        applying.resume(project)
    (folder / "both").write_text("4\n")
    with pytest.raises(
        UserError, match=f"gone: one side changed it, the other one removed it; .*`git rm {prefix}gone`"
    ):
        applying.resume(project)
    project.run("rm", "--quiet", f"{prefix}gone")
    assert project.line("rev-parse", f"{applying.resume(project)}~") == before
    assert project.line("status", "--porcelain") == ""
    assert f"{prefix}gone" not in project.entries("HEAD")
    assert undoing.abort(project) == before
    assert (folder / "both").read_text() == "3\n"
    assert project.line("status", "--porcelain") == ""


def test_an_update_can_be_undone_while_it_waits_and_not_over_later_work(tmp_path: Path, configuration: None) -> None:
    project, found, commit = merged(tmp_path, OLD, NEW, MINE)
    with pytest.raises(UserError, match="there was no update"):
        undoing.abort(project)
    applying.apply(project, found, commit, "Update", "")
    undoing.abort(project)
    assert (project.folder / "both").read_text() == "3\n"
    assert project.line("status", "--porcelain") == ""
    with pytest.raises(UserError, match="no update waits"):
        applying.resume(project)


def test_work_after_an_update_is_not_undone(tmp_path: Path) -> None:
    project, found, commit = merged(tmp_path, {"a": TEXT}, {"a": TEXT + "new\n"}, {"a": "mine\n" + TEXT})
    applying.apply(project, found, commit, "Update", "")
    (project.folder / "a").write_text("more\n")
    with pytest.raises(UserError, match="commit or stash"):
        undoing.abort(project)
    project.run("add", "a")
    project.run("update-ref", "HEAD", project.commit(project.line("write-tree"), "More", "HEAD"))
    with pytest.raises(UserError, match="there are commits after the update"):
        undoing.abort(project)
    assert (project.folder / "a").read_text() == "more\n"


def test_what_git_does_not_know_is_found_before(tmp_path: Path) -> None:
    project = committed(tmp_path, {"a": "1\n", ".gitignore": "ignored\n"})
    written(tmp_path, {"ignored": "x", "untracked": "x", "file": "x"})
    (tmp_path / "link").symlink_to("nowhere")
    added = ["ignored", "untracked", "file/below", "link", "new", "folder/new"]
    assert obstacles.blocked(project, added, [], []) == ["file/below", "ignored", "link", "untracked"]


def test_versions_are_ordered_and_their_notes_found() -> None:
    ordered = ["0.9", "0.9.1", "0.10.0a1", "0.10.0rc1", "0.10.0", "0.10.0-3-gabc1234", "1.0"]
    assert sorted(ordered, key=lambda version: notes.order(version) or ()) == ordered
    assert notes.order("1.0") == notes.order("v1.0.0")
    assert notes.order("main") is None
    assert notes.latest(["0.9.0", "0.10.0", "1.0.0rc1", "other"]) == "0.10.0"
    assert notes.latest(["1.0.0rc1"]) is None
    changes = "# Changes\n\n## 1.1\n\n- b\n\n### Before you deploy\n\nSet X.\n\n## 1.0\n\n- a\n\n## 0.9\n\n- z\n"
    assert dict(notes.sections(changes, "0.9", "1.0")) == {"1.0": "- a"}
    found = dict(notes.sections(changes, "0.9", "1.1"))
    assert list(found) == ["1.1", "1.0"]
    assert notes.before_you_deploy(found["1.1"]) == ["Set X."]
    assert notes.before_you_deploy(found["1.0"]) == []
    listed = "### Before you deploy\n\n- Set X,\n  then Y.\n- Set Z.\n"
    assert notes.before_you_deploy(listed) == ["Set X, then Y.", "Set Z."]


def test_settings_that_changed_are_named() -> None:
    old = "[serve]\nport = 1\nrows = 5\nold = 1\nsame = 1\n"
    new = '[serve]\nport = 2\nrows = 6\nsame = 1\nfresh = true\n[new]\nname = ""\n'
    assert notes.settings(old, new, "[serve]\nport = 1\nrows = 6\nold = 1\nsame = 3\n") == [
        "new default of [serve] port: 1 -> 2; yours is 1",
        "setting [serve] old is gone: take it out of config.toml",
        "new setting [serve] fresh, by default true",
        "new setting [new] name, by default ''",
    ]
    assert notes.settings(old, new, "broken [")[0].startswith("config.toml cannot be read")
    assert "new default of [serve] rows: 5 -> 6; config.toml does not set it" in notes.settings(old, new, "[serve]\n")


def test_an_update_that_git_ended_waits_no_more(tmp_path: Path, configuration: None) -> None:
    project, found, commit = merged(tmp_path, OLD, NEW, MINE)
    for ended in (("reset", "--hard", "--quiet", record.BEFORE), None):
        applying.apply(project, found, commit, "Update", "")
        assert record.waiting(project)
        if ended:
            project.run(*ended)
        else:
            project.run("add", "--all")
            project.run("update-ref", "HEAD", project.commit(project.line("write-tree"), "Mine", "HEAD"))
        assert record.waiting(project) is None
    with pytest.raises(UserError, match=r"git reset --hard [0-9a-f]{12}"):
        undoing.abort(project)
    project.run("reset", "--hard", "--quiet", f"{commit}~")
    before = project.line("rev-parse", "HEAD")
    applying.apply(project, found, commit, "Update", "")
    project.run("add", "--all")
    project._with_author().run("commit", "--quiet", "--no-edit")
    assert project.line("log", "-1", "--format=%s") == "Update"
    assert undoing.abort(project) == before
    assert project.line("status", "--porcelain") == ""


def test_abort_returns_to_the_branch_that_the_update_left(tmp_path: Path, configuration: None) -> None:
    project, found, commit = merged(tmp_path, {"a": TEXT}, {"a": TEXT + "new\n"}, {"a": "mine\n" + TEXT})
    for branch in ("news", "", "news"):
        applying.apply(project, found, commit, "Update", branch)
        assert project.line("symbolic-ref", "--short", "HEAD") == (branch or "main")
        undoing.abort(project)
        assert project.line("symbolic-ref", "--short", "HEAD") == "main"
        assert project.run("for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/main\n"
        assert project.line("status", "--porcelain") == ""
    with pytest.raises(UserError, match="undone already"):
        undoing.abort(project)
