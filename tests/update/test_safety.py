"""What an update must not do to a repository, in states that people and their tools leave it in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tabserve.errors import UserError
from tabserve.updating import __main__ as updating
from tabserve.updating import applying, merging, notes, obstacles, record, start, undoing
from tabserve.updating.git import Git, GitError
from tests.update.changes import edit
from tests.update.conftest import SECOND, Make
from tests.update.test_merging import TEXT, Files, committed, merged, written

Repository = tuple[Git, merging.Merged, str]


def state(git: Git) -> tuple[str, ...]:
    """All that git says of a repository: branches, the index, the work tree and the commands in progress."""
    commands = (
        ("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads"),
        ("rev-parse", "HEAD", "--symbolic-full-name"),
        ("ls-files", "--stage"),
        ("status", "--porcelain", "--ignored"),
    )
    return tuple(git.run(*command) for command in commands)


@pytest.fixture
def changed(tmp_path: Path) -> Repository:
    """A project in which a merge writes a file, adds one, removes one, and has a conflict."""
    old: Files = {"a": TEXT, "gone": TEXT, "both": "1\n", "kept": "k\n"}
    new: Files = {"a": TEXT + "new\n", "both": "2\n", "added": "n\n", "kept": "k\n"}
    return merged(tmp_path, old, new, {**old, "both": "3\n", "own/x": "x\n"})


@pytest.fixture
def clean(tmp_path: Path) -> Repository:
    """The same without a conflict."""
    old: Files = {"a": TEXT, "gone": TEXT, "kept": "k\n"}
    return merged(tmp_path, old, {"a": TEXT + "new\n", "added": "n\n", "kept": "k\n"}, {**old, "own/x": "x\n"})


def test_other_work_stays_when_a_waiting_update_is_undone(changed: Repository) -> None:
    git, found, commit = changed
    before = state(git)
    applying.apply(git, found, commit, "Update", "")
    written(git.folder, {"own/x": "an hour of work\n", "kept": "more\n", "both": "4\n"})
    undoing.abort(git)
    assert (git.folder / "own/x").read_text() == "an hour of work\n"
    assert (git.folder / "kept").read_text() == "more\n"
    git.run("checkout", "--", "own/x", "kept")
    assert state(git) == before


def test_changes_of_what_the_update_wrote_are_not_dropped(changed: Repository) -> None:
    git, found, commit = changed
    applying.apply(git, found, commit, "Update", "")
    written(git.folder, {"a": "mine\n"})
    with pytest.raises(UserError, match=r"^a has changes that are not the update's: move it away"):
        undoing.abort(git)
    assert (git.folder / "a").read_text() == "mine\n"
    git.run("restore", "a")
    undoing.abort(git)


@pytest.mark.parametrize("kind", ["changed", "clean"])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_new_file_where_the_update_removed_one_is_not_replaced(
    kind: str, ignored: bool, request: pytest.FixtureRequest
) -> None:
    git, found, commit = request.getfixturevalue(kind)
    if ignored:
        (git.folder / ".git/info/exclude").write_text("gone\n")
    applying.apply(git, found, commit, "Update", "")
    written(git.folder, {"gone": "my own\n"})
    said = "gone has changes that" if kind == "changed" else "gone is not in git and would be replaced"
    with pytest.raises(UserError, match=said):
        undoing.abort(git)
    assert (git.folder / "gone").read_text() == "my own\n"


def test_an_abort_touches_nothing_that_is_not_the_updates(changed: Repository) -> None:
    git, found, _ = changed
    written(git.folder, {"one": "1\n", "two": "2\n", "dir/f": "f\n", "mode": "m\n", "gone too": "g\n", "odd": "o\n"})
    (git.folder / "link").symlink_to("one")
    git.run("add", "--all")
    git.run("update-ref", "HEAD", git.commit(git.line("write-tree"), "More", "HEAD"))
    entries = {**git.entries(found.tree), **git.entries("HEAD"), "a": git.entries(found.tree)["a"]}
    tree = git.tree(entries, git.folder / ".git/x")
    more = merging.Merged(tree, (), {"odd": "binary"}, {})
    applying.apply(git, more, git.commit(tree, "Update", "HEAD"), "Update", "")
    (git.folder / "link").unlink()
    (git.folder / "link").symlink_to("two")
    (git.folder / "dir/f").unlink()
    (git.folder / "dir").rmdir()
    (git.folder / "gone too").unlink()
    (git.folder / "mode").chmod(0o755)
    written(git.folder, {"new": "hour\n", "dir": "a file now\n", "staged": "s\n"})
    git.run("add", "new", "staged")
    git.run("mv", "two", "moved")
    before = state(git)[3], git.run("ls-files", "--stage", "new", "staged", "moved", "two")
    undoing.abort(git)
    lines = [line for line in before[0].splitlines() if not line.endswith((" a", " added", " both", " odd"))]
    assert [line for line in state(git)[3].splitlines() if not line.endswith(" added")] == lines
    assert git.run("ls-files", "--stage", "new", "staged", "moved", "two") == before[1]
    assert (git.folder / "link").readlink() == Path("two")
    texts = {"one": "1\n", "moved": "2\n", "new": "hour\n", "dir": "a file now\n"}
    assert {name: (git.folder / name).read_text() for name in texts} == texts


@pytest.mark.parametrize("name", ["added", "gone"])
@pytest.mark.parametrize("staged", [False, True])
def test_work_on_files_that_the_update_added_or_removed_is_not_dropped(
    changed: Repository, name: str, staged: bool
) -> None:
    git, found, commit = changed
    applying.apply(git, found, commit, "Update", "")
    written(git.folder, {name: "work\n"})
    if staged:
        git.run("add", name)
    with pytest.raises(UserError, match=f"^{name} has changes that are not the update's"):
        undoing.abort(git)
    assert (git.folder / name).read_text() == "work\n"


def test_what_is_staged_beside_the_update_is_not_committed_with_it(changed: Repository) -> None:
    git, found, commit = changed
    applying.apply(git, found, commit, "Update", "")
    written(git.folder, {"mine": "work\n", "both": "4\n"})
    git.run("add", "--all")
    with pytest.raises(UserError, match=r"^mine is not part of the update: `git restore --staged mine`"):
        applying.resume(git)
    git.run("restore", "--staged", "mine")
    applying.resume(git)
    assert git.line("status", "--porcelain") == "?? mine"


def test_markers_are_found_as_git_would_store_them(changed: Repository) -> None:
    git, found, commit = changed
    (git.folder / ".git/info/attributes").write_text("both working-tree-encoding=UTF-16LE\n")
    (git.folder / "both").write_bytes("3\n".encode("utf-16-le"))
    git.run("add", "both")
    applying.apply(git, found, commit, "Update", "")
    assert b"<\0<\0" in (git.folder / "both").read_bytes()
    with pytest.raises(UserError, match="both still has conflict markers"):
        applying.resume(git)


def test_an_update_that_was_killed_while_it_wrote_can_only_be_undone(
    changed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    git, found, commit = changed
    before = state(git)
    monkeypatch.setattr(applying, "_undo", lambda *given: None)
    (git.folder / ".git/index.lock").touch()
    with pytest.raises(GitError):
        applying.apply(git, found, commit, "Update", "")
    (git.folder / ".git/index.lock").unlink()
    written(git.folder, {"a": "half of", "added": "half"})
    with pytest.raises(UserError, match="interrupted while it wrote"):
        applying.resume(git)
    undoing.abort(git)
    assert state(git) == before


def test_a_branch_that_went_on_is_not_removed(clean: Repository) -> None:
    git, found, commit = clean
    applying.apply(git, found, commit, "Update", "news")
    git.run("checkout", "--quiet", "main")
    with pytest.raises(UserError, match="the update is on the branch news: `git switch news`, then abort"):
        undoing.abort(git)
    written(git.folder, {"kept": "of a colleague\n"})
    git.run("add", "--all")
    git.run("update-ref", "HEAD", git.commit(git.line("write-tree"), "Theirs", "HEAD"))
    git.run("checkout", "--quiet", "news")
    undoing.abort(git)
    assert git.line("branch", "--show-current") == "news"
    assert git.line("status", "--porcelain") == ""
    assert git.line("show", "main:kept") == "of a colleague"


def test_a_write_that_fails_half_way_leaves_nothing(clean: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    git, found, commit = clean
    before, original = state(git), Git.run

    def fail(self: Git, *words: str, **given: Any) -> str:
        """Write a part, and fail as on a full disk."""
        if words[:3] == ("read-tree", "-m", "-u"):
            written(git.folder, {"added": "half", "a": "half"})
            raise GitError("error: unable to write file a")
        return original(self, *words, **given)

    monkeypatch.setattr(Git, "run", fail)
    with pytest.raises(GitError, match="unable to write"):
        applying.apply(git, found, commit, "Update", "")
    monkeypatch.setattr(Git, "run", original)
    assert state(git) == before


def test_after_a_reset_nothing_waits_and_new_work_is_safe(changed: Repository) -> None:
    git, found, commit = changed
    applying.apply(git, found, commit, "Update", "")
    git.run("reset", "--hard", "--quiet", record.BEFORE)
    with pytest.raises(UserError, match="undone already"):
        undoing.abort(git)
    written(git.folder, {"a": "new work\n"})
    git.run("add", "a")
    assert record.waiting(git) is None
    with pytest.raises(UserError, match="no update waits"):
        applying.resume(git)
    with pytest.raises(UserError, match="git has ended the update without a commit"):
        undoing.abort(git)
    assert (git.folder / "a").read_text() == "new work\n"


def test_git_says_that_something_waits(changed: Repository) -> None:
    git, found, commit = changed
    applying.apply(git, found, commit, "Update", "")
    assert "cherry-picking" in git.run("status")
    git.run("cherry-pick", "--abort")
    assert record.waiting(git) is None
    assert (git.folder / "both").read_text() == "3\n"
    before = state(git)
    applying.apply(git, found, commit, "Update", "")
    git.run("add", "--all")
    git._with_author().with_(GIT_EDITOR="true").run("cherry-pick", "--continue")
    assert git.line("log", "-1", "--format=%s") == "Update"
    undoing.abort(git)
    assert state(git) == before


@pytest.mark.parametrize("branch", ["main", "main/x", "news"])
def test_a_branch_that_cannot_be_made_changes_nothing(changed: Repository, branch: str) -> None:
    git, found, commit = changed
    git.run("branch", "news")
    before = state(git)
    with pytest.raises(GitError):
        applying.apply(git, found, commit, "Update", branch)
    assert state(git) == before
    assert record.waiting(git) is None


def test_an_update_on_a_branch_waits_there_and_abort_goes_back(changed: Repository) -> None:
    git, found, commit = changed
    for place in ("main", "HEAD"):
        if place == "HEAD":
            git.run("checkout", "--quiet", "--detach")
        before = state(git)
        applying.apply(git, found, commit, "Update", "news")
        assert git.line("symbolic-ref", "--short", "HEAD") == "news"
        undoing.abort(git)
        assert state(git) == before
        assert git.line("rev-parse", "--abbrev-ref", "HEAD") == place


def test_a_failure_while_writing_changes_nothing_and_keeps_the_way_back(clean: Repository) -> None:
    git, found, commit = clean
    applying.apply(git, found, commit, "Update", "")
    first, before = record.read(git), state(git)
    tree = git.tree({**git.entries("HEAD"), "more": git.entries("HEAD")["a"]}, git.folder / ".git/x")
    more = merging.Merged(tree, (), {}, {})
    (git.folder / ".git/index.lock").touch()
    with pytest.raises(GitError, match=r"index\.lock"):
        applying.apply(git, more, git.commit(tree, "More", "HEAD"), "More", "news")
    (git.folder / ".git/index.lock").unlink()
    assert (record.read(git), state(git)) == (first, before)
    undoing.abort(git)
    assert (git.folder / "gone").exists()


def test_filters_that_fail_and_files_hidden_from_git_are_found_before(clean: Repository) -> None:
    git, found, commit = clean
    git.run("config", "filter.big.clean", "cat")
    git.run("config", "filter.big.smudge", "false")
    git.run("config", "filter.big.required", "true")
    (git.folder / ".git/info/attributes").write_text("a filter=big\n")
    before = state(git)
    with pytest.raises(UserError, match="cannot write a with the filter big"):
        applying.apply(git, found, commit, "Update", "")
    (git.folder / ".git/info/attributes").unlink()
    for flag in ("--assume-unchanged", "--skip-worktree"):
        git.run("update-index", flag, "a")
        with pytest.raises(UserError, match="does not look at a, which the update changes"):
            applying.apply(git, found, commit, "Update", "")
        git.run("update-index", "--no-assume-unchanged", "--no-skip-worktree", "a")
    assert state(git) == before


def test_work_trees_and_projects_of_one_repository_do_not_share_updates(tmp_path: Path) -> None:
    root = committed(tmp_path / "root", {"one/a": TEXT, "two/a": TEXT})
    one, two = Git(root.folder / "one"), Git(root.folder / "two")
    for git, name in ((one, "one"), (two, "two")):
        head = git.line("rev-parse", "HEAD")
        store = git.store(f"{TEXT}{name}\n".encode())
        tree = git.tree({**git.entries("HEAD"), f"{name}/a": ("100644", store)}, tmp_path / "index")
        applying.apply(git, merging.Merged(tree, (), {}, {}), git.commit(tree, name, head), name, "")
    with pytest.raises(UserError, match="there are commits after the update"):
        undoing.abort(one)
    undoing.abort(two)
    undoing.abort(one)
    assert (root.folder / "one/a").read_text() == TEXT


def test_links_and_folders_in_the_way(tmp_path: Path) -> None:
    git = committed(tmp_path / "x", {"file": "1\n", "folder/in": "1\n", "mixed/in": "1\n"})
    (tmp_path / "elsewhere").mkdir()
    (git.folder / "link").symlink_to(tmp_path / "elsewhere")
    written(git.folder, {"mixed/mine": "x"})
    known = git.entries("HEAD").keys()
    assert obstacles.blocked(git, ["file/below"], known, ["file"]) == []
    assert obstacles.blocked(git, ["file/below"], known, []) == ["file/below"]
    assert obstacles.blocked(git, ["folder"], known, ["folder/in"]) == []
    assert obstacles.blocked(git, ["mixed"], known, ["mixed/in"]) == ["mixed"]
    assert obstacles.blocked(git, ["link/a", "link"], known, []) == ["link", "link/a"]


def test_commands_in_progress_are_named(tmp_path: Path) -> None:
    git = committed(tmp_path / "x", {"a": "1\n"})
    for name, what in obstacles.OTHERS.items():
        git.run("update-ref", name, "HEAD")
        with pytest.raises(UserError, match=f"^a {what} is in progress: finish it, or `git {what} --abort`"):
            obstacles.check_quiet(git)
        git.run("update-ref", "-d", name)
    (git.folder / ".git/rebase-merge").mkdir()
    with pytest.raises(UserError, match="a rebase is in progress"):
        obstacles.check_quiet(git)
    (git.folder / ".git/rebase-merge").rmdir()
    git.run("config", "core.sparseCheckout", "true")
    with pytest.raises(UserError, match="git sparse-checkout disable"):
        obstacles.check_quiet(git)


@pytest.mark.parametrize("what", ["commit", "edit", "ignored file"])
def test_a_project_that_changes_while_the_question_waits(
    what: str, make_project: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(edits=[])

    def answer(question: str) -> str:
        """Somebody works on while the question waits."""
        name = "assets/logo.bin" if what == "ignored file" else "Dockerfile"
        written(project.folder, {name: "work\n"})
        if what == "commit":
            project.commit("Meanwhile")
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    if what == "ignored file":
        (project.folder / ".git/info/exclude").write_text("assets\n")
    assert project.update(to=SECOND) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("refused: the project has changed since the preview")
    assert "work\n" in (content.decode(errors="replace") for content, _ in project.files().values())


@pytest.mark.parametrize("error", [KeyboardInterrupt, EOFError])
def test_who_leaves_at_the_question_has_touched_nothing(
    error: type[BaseException], make_project: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(edits=[])
    before = project.files()

    def leave(question: str) -> str:
        raise error

    monkeypatch.setattr("builtins.input", leave)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert project.update(to=SECOND) == 2
    assert capsys.readouterr().err == "refused: interrupted, and nothing was touched\n"
    assert project.files() == before


def test_who_leaves_during_the_checks_is_told_that_it_is_committed(
    make_project: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(edits=[])

    def leave(*given: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(updating, "_failed", leave)
    assert project.update("--yes", to=SECOND) == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("failed-checks: interrupted. The update is committed;")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "port=abc"), "port=abc does not fit its question: invalid literal for int()"),
        (("--data", "port=99999"), "port"),
        (("--data", "autoscal=cpu"), "there is no question 'autoscal'; did you mean autoscale?"),
        (("--data", "package_name=ours"), "an update does not rename your package"),
        (("--data", "x"), "--data x: write --data question=answer"),
        (("--answers", "list.yml"), "list.yml: write one `question: answer` a line"),
        (("--answers", "bad.yml"), "while"),
        (("--answers", "nofile.yml"), "[Errno 2]"),
    ],
)
def test_answers_that_are_none_get_one_line(
    words: tuple[str, ...],
    said: str,
    make_project: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    project = make_project(edits=[])
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"list.yml": "- a\n", "bad.yml": "a: [\n"})
    assert project.update("--dry-run", *words, to=SECOND) == 2
    error = capsys.readouterr().err
    assert error.startswith("refused: ")
    assert said in error
    assert error.count("\n") == 1


def test_texts_given_as_answers_are_stored_as_they_are(make_project: Make) -> None:
    project = make_project(edits=[])
    given = {"description": "Uses model #1: of Ada", "user_name": "Team #1", "registry": "1.10"}
    words = [word for name, value in given.items() for word in ("--data", f"{name}={value}")]
    assert project.update("--yes", *words, to=SECOND) == 0
    text = (project.folder / ".copier-answers.yml").read_text()
    assert "description: 'Uses model #1: of Ada'" in text
    assert "registry: '1.10'" in text


def test_what_a_person_moved_into_their_own_folder_is_theirs(make_project: Make) -> None:
    project = make_project(edits=[])
    page, mine = project.folder / "src/tabserve/page.py", project.folder / "src/mine/page.py"
    page.rename(mine)
    edit(mine, '"""', '"""Mine. ')
    project.commit("Moved")
    before = mine.read_bytes()
    assert project.update("--yes", to="1.5.0") in (0, 1)
    assert mine.read_bytes() == before


def test_a_comment_on_a_dependency_is_not_lost(make_project: Make) -> None:
    project = make_project(edits=[])
    comment = "# mine: src/mine/plots.py needs it"
    edit(project.folder / "pyproject.toml", '    "matplotlib>=3.10.7",', f'    "matplotlib>=3.10.7",  {comment}')
    project.commit("Ours")
    project.update("--yes", to="1.3.0")
    assert comment in (project.folder / "pyproject.toml").read_text()


def test_each_file_is_listed_once_and_all_that_change_are(
    make_project: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(edits=[])
    (project.folder / "k8s/serviceaccount.yaml").rename(project.folder / "k8s/account.yaml")
    (project.folder / "k8s/configmap.yaml").unlink()
    project.commit("Ours")
    written(project.folder, {"NEWS.md": "mine\n"})
    assert project.update("--dry-run", "--json", to="1.4.0") == 1
    shown = json.loads(capsys.readouterr().out)
    classes = {file["path"]: (file["class"], file.get("reason")) for file in shown["files"]}
    assert len(classes) == len(shown["files"])
    assert classes["NEWS.md"] == ("conflict", "not in git")
    assert classes["k8s/configmap.yaml"] == ("yours", "deleted by you")
    assert classes["k8s/account.yaml"][0] == "merged"


def test_json_is_valid_whatever_the_notes_hold(
    make_project: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(edits=[])
    monkeypatch.setattr(notes, "settings", lambda *texts: ["a\u00adb\x7f\U000e0067"])
    assert project.update("--dry-run", "--json", to=SECOND) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == ["a\u00adb\x7f\U000e0067"]


def test_the_repository_of_a_hook_is_not_the_project(
    make_project: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = make_project(edits=[])
    before = state(project.git)
    for name, path in {"GIT_INDEX_FILE": ".git/index", "GIT_DIR": ".git", "GIT_WORK_TREE": "."}.items():
        monkeypatch.setenv(name, str(project.folder / path))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "/bin/true")
    assert project.update("--dry-run", to=SECOND) == 0
    assert state(project.git) == before


def test_the_patch_applies_in_a_subfolder_and_is_gone_after_an_abort(
    make_project: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(edits=["readme"], layout="subfolder")
    assert project.update("--yes", to="1.13.0") == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "git apply" in line)
    command = line.partition(": git ")[2].split()
    project.git.run(*command)
    assert "## The API, version 2" in (project.folder / "README.md").read_text()
    assert "Ask Ada (mine)" in (project.folder / "README.md").read_text()
    project.git.run("reset", "--hard", "--quiet")
    undoing.abort(project.git)
    assert not record.path_of(project.git, ".patch").exists()


@pytest.mark.parametrize(
    ("source", "stored"),
    [
        ("ssh://git@example.org/team/template.git", "ssh://git@example.org/team/template.git"),
        ("ssh://git:secret@example.org/team/template.git", "ssh://example.org/team/template.git"),
        ("https://git@example.org/team/template.git", "https://example.org/team/template.git"),
    ],
)
def test_what_is_stored_of_an_address(source: str, stored: str) -> None:
    assert start.stored(source) == stored
