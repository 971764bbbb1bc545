"""Go back to the commit before an update, during or after it, and lose nothing that is not the update's."""

import os
from pathlib import Path

from tabserve.errors import UserError
from tabserve.updating import obstacles, record
from tabserve.updating.applying import LOCK, WAY_BACK, end, leave_branch
from tabserve.updating.git import Git
from tabserve.updating.record import Update


def abort(repository: Git) -> str:
    """Return to the commit before the update; raises `UserError` if work would be lost."""
    update = record.read(repository)
    if update is None:
        raise UserError("there was no update, or it is undone already")
    at_root = obstacles.root_of(repository)
    is_waiting = record.waiting(repository) is not None
    if not is_waiting:
        _check_head(repository, update)
        _check_clean(repository, update)
    _check_free(at_root, update.before)
    kept = _changes(at_root, update, record.path_of(repository, ".index")) if is_waiting else {}
    at_root.run("read-tree", "--reset", "-u", update.before)
    for path, content in kept.items():
        (at_root.folder / path).write_bytes(content)
    if update.branch:
        leave_branch(repository, update)
    elif not is_waiting:
        repository.run("update-ref", "-m", "update of the template undone", "HEAD", update.before)
    end(repository)
    record.forget(repository)
    return update.before


def _check_head(repository: Git, update: Update) -> None:
    """HEAD is the update's commit, also one that was made with `git commit`, or `UserError`."""
    head = repository.line("rev-parse", "HEAD")
    if head == update.before:
        record.forget(repository)
        raise UserError("the update is undone already")
    if head == update.result or (not update.result and _is_by_hand(repository, update)):
        return
    if update.result and repository.has("merge-base", "--is-ancestor", update.result, "HEAD"):
        raise UserError(f"there are commits after the update: undo it with `git revert {update.result[:12]}`")
    raise UserError(f"HEAD is not the update's commit: {WAY_BACK} drops the update, and all that came after it")


def _is_by_hand(repository: Git, update: Update) -> bool:
    """Whether HEAD is the commit that ended the conflicts of an update without `update-continue`."""
    parent, _, subject = repository.line("log", "-1", "--format=%P\t%s", "HEAD").partition("\t")
    return parent == update.before and subject == update.message


def _check_clean(repository: Git, update: Update) -> None:
    """No changes, apart from a lock that `uv run` made again because the update asked for it, or `UserError`."""
    asked = not repository.has("diff", "--quiet", update.before, "HEAD", "--", "pyproject.toml")
    others = (".", ":(top)", f":(exclude){LOCK}") if asked else ()
    if repository.line("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty", "--", *others):
        raise UserError("there are changes that are not committed: commit or stash them first")


def _check_free(at_root: Git, before: str) -> None:
    """No file that git does not know lies where the commit has one, or `UserError`."""
    known = set(at_root.parts("ls-files", "-z"))
    back = at_root.entries(before).keys() - known
    if found := obstacles.blocked(at_root, back, known, known):
        raise UserError(f"{found[0]} is not in git and would be replaced: move it away, or commit it")


def _changes(at_root: Git, update: Update, scratch: Path) -> dict[str, bytes]:
    """The content of changed files that have nothing to do with the update; raises `UserError` for others."""
    written = set(at_root.parts("diff-tree", "-r", "-z", "--name-only", "--no-renames", update.before, update.tree))
    sides = [_differing(at_root.with_(GIT_INDEX_FILE=scratch), tree) for tree in (update.before, update.tree)]
    scratch.unlink(missing_ok=True)
    changed = (sides[0] & sides[1]) - {*update.conflicts, LOCK}
    if others := sorted(changed & written):
        raise UserError(
            f"{others[0]} has changes that are not the update's: copy it, then `git restore {others[0]}`, then abort"
        )
    return {path: (at_root.folder / path).read_bytes() for path in changed if os.path.lexists(at_root.folder / path)}


def _differing(git: Git, tree: str) -> set[str]:
    """The files of a tree that are not on disk as they are in it."""
    git.run("read-tree", tree)
    git.run("update-index", "-q", "--refresh", codes=(0, 1))
    return set(git.parts("diff-files", "-z", "--name-only", "--ignore-submodules=all"))
