"""Go back to the commit before an update, during or after it, and touch nothing that is not the update's."""

import os
from collections.abc import Iterable
from pathlib import Path

from tabserve.errors import UserError
from tabserve.updating import obstacles, record
from tabserve.updating.applying import LOCK, end, leave_branch, way_back
from tabserve.updating.git import Git
from tabserve.updating.record import Update


def abort(repository: Git) -> str:
    """Return to the commit before the update; raises `UserError` if work would be lost."""
    update = record.read(repository)
    if update is None:
        raise UserError("there was no update, or it is undone already")
    at_root = obstacles.root_of(repository)
    if record.waiting(repository):
        _take_back(at_root, update, record.path_of(repository, ".index"))
    else:
        _return(at_root, update)
    if _is_home(repository, update):
        leave_branch(repository, update)
    end(repository)
    record.forget(repository)
    return update.before


def _is_home(repository: Git, update: Update) -> bool:
    """Whether the branch on which the update began is there, and has not moved since."""
    found = repository.run("rev-parse", "--quiet", "--verify", update.start, codes=(0, 1, 128)).strip()
    return bool(update.branch) and found == update.before


def _return(at_root: Git, update: Update) -> None:
    """Undo an update that is committed."""
    _check_head(at_root, update)
    _check_clean(at_root, update)
    known = set(at_root.parts("ls-files", "-z"))
    back = at_root.entries(update.before).keys() - known
    if found := obstacles.blocked(at_root, back, known, known):
        raise UserError(f"{found[0]} is not in git and would be replaced: move it away, or commit it")
    at_root.run("read-tree", "--reset", "-u", update.before)
    at_root.run("update-ref", "-m", "update of the template undone", "HEAD", update.before)


def _check_head(at_root: Git, update: Update) -> None:
    """HEAD is the update's commit, also one that was made with `git commit`, or `UserError`."""
    head, branch = at_root.line("rev-parse", "HEAD"), at_root.run("branch", "--show-current").strip()
    if (
        update.branch
        and branch != update.branch
        and at_root.has("rev-parse", "--verify", f"refs/heads/{update.branch}")
    ):
        raise UserError(f"the update is on the branch {update.branch}: `git switch {update.branch}`, then abort")
    if head == update.before and at_root.line("status", "--porcelain", "--untracked-files=no"):
        raise UserError(
            f"git has ended the update without a commit: {way_back(update.before)} drops what is left of it"
        )
    if head == update.before:
        raise UserError("the update is undone already")
    if head == update.result or (not update.result and _is_by_hand(at_root, update)):
        return
    if update.result and at_root.has("merge-base", "--is-ancestor", update.result, "HEAD"):
        raise UserError(f"there are commits after the update: undo it with `git revert {update.result[:12]}`")
    raise UserError(f"HEAD is not the update's commit: {way_back(update.before)} drops it, and all that came after it")


def _is_by_hand(at_root: Git, update: Update) -> bool:
    """Whether HEAD is the commit that ended the conflicts of an update without `update-continue`."""
    parent, _, subject = at_root.line("log", "-1", "--format=%P\t%s", "HEAD").partition("\t")
    return parent == update.before and subject == update.message


def _check_clean(at_root: Git, update: Update) -> None:
    """No changes, apart from a lock that `uv run` made again because the update asked for it, or `UserError`."""
    asked = not at_root.has("diff", "--quiet", update.before, "HEAD", "--", ":(glob)**/pyproject.toml")
    others = (".", f":(exclude,glob)**/{LOCK}") if asked else ()
    if at_root.line("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty", "--", *others):
        raise UserError("there are changes that are not committed: commit or stash them first")


def _take_back(at_root: Git, update: Update, scratch: Path) -> None:
    """Undo what a waiting update wrote, with the work on its conflicts; index and files keep all else."""
    before, after = at_root.entries(update.before), at_root.entries(update.tree)
    written = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    paths = written | update.conflicts.keys()
    if any(Path(path).name == "pyproject.toml" for path in paths):
        paths |= {path for path in before if Path(path).name == LOCK}  # `uv run` makes it again
    index = at_root.with_(GIT_INDEX_FILE=scratch)
    if update.is_written:
        _check_changes(at_root, written - update.conflicts.keys(), index, update)
    scratch.unlink(missing_ok=True)
    _check_places(at_root, paths & before.keys())
    lines = [f"0 {'0' * len(update.before)}\t{path}\0" for path in paths]
    lines += [f"{before[path][0]} {before[path][1]}\t{path}\0" for path in paths & before.keys()]
    at_root.run("update-index", "-z", "--index-info", text="".join(lines))
    for path in paths - before.keys():
        _remove(at_root.folder, path)
    back = "".join(f"{path}\0" for path in paths & before.keys())
    at_root.run("checkout-index", "--force", "-z", "--stdin", text=back)
    at_root.run("update-index", "-q", "--refresh", codes=(0, 1))


def _check_changes(at_root: Git, written: Iterable[str], index: Git, update: Update) -> None:
    """What the update wrote is as it wrote it, or as it was before, or `UserError`."""
    changed = [_differing(index, tree) for tree in (update.before, update.tree)]
    known = [at_root.entries(tree).keys() for tree in (update.before, update.tree)]
    for path in sorted(written):
        is_there = os.path.lexists(at_root.folder / path)
        as_on_a_side = [
            path not in differing if path in names else not is_there
            for differing, names in zip(changed, known, strict=True)
        ]
        if not any(as_on_a_side):
            raise UserError(
                f"{path} has changes that are not the update's: move it away, or restore it with git, then abort"
            )


def _differing(git: Git, tree: str) -> set[str]:
    """The files of a tree that are not on disk as they are in it."""
    git.run("read-tree", tree)
    git.run("update-index", "-q", "--refresh", codes=(0, 1))
    return set(git.parts("diff-files", "-z", "--name-only", "--ignore-submodules=all"))


def _check_places(at_root: Git, paths: Iterable[str]) -> None:
    """Where files come back, there is no folder, and no file or link is on the way, or `UserError`."""
    for path in sorted(paths):
        place = at_root.folder / path
        ways = [at_root.folder / parent for parent in Path(path).parents if parent != Path()]
        if place.is_dir() and not place.is_symlink():
            raise UserError(f"{path} is a folder now, and was a file: move it away, then abort")
        if wrong := [way for way in ways if os.path.lexists(way) and (way.is_symlink() or not way.is_dir())]:
            raise UserError(f"{wrong[0].relative_to(at_root.folder)} was a folder: move it away, then abort")


def _remove(root: Path, path: str) -> None:
    """Remove a file, and folders that are empty then."""
    (root / path).unlink(missing_ok=True)
    for parent in Path(path).parents:
        if parent == Path() or not (root / parent).is_dir() or any((root / parent).iterdir()):
            return
        (root / parent).rmdir()
