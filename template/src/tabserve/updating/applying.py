"""Bring the result of a merge into a project, finish it, or go back to what was before."""

import json
import os
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabserve.errors import UserError
from tabserve.updating.git import Git
from tabserve.updating.merging import Merged

BEFORE, RESULT = "refs/update/before", "refs/update/result"
START = "refs/update/start"  # names the branch that the update began on
WAY_BACK = f"`git reset --hard {BEFORE}`"  # where no task runs any more
LOCK = "uv.lock"
MARKERS = ("<<<<<<< yours", ">>>>>>> template")


@dataclass(frozen=True)
class State:
    """An update that waits for its conflicts."""

    branch: str
    message: str
    conflicts: list[str]  # from the repository's root


def blocked(repository: Git, added: Collection[str]) -> list[str]:
    """The files that an update would write over although git does not know them: untracked and ignored ones."""
    root = Path(repository.line("rev-parse", "--show-toplevel"))
    return sorted(path for path in added if _is_there(root, path))


def _is_there(root: Path, path: str) -> bool:
    """Whether a file is at a path, or where a folder on the way to it must be."""
    if os.path.lexists(root / path):
        return True
    parents = [root / parent for parent in Path(path).parents if parent != Path()]
    return any(os.path.lexists(parent) and not parent.is_dir() for parent in parents)


def apply(repository: Git, merged: Merged, commit: str, message: str, branch: str) -> None:
    """Write the result into the work tree, and commit it if it has no conflict; raises `GitError`.

    Args:
        commit: a commit of the result's tree, whose parent is the project's.
        branch: a new branch for the result; empty to stay on this one.
    """
    head = repository.line("rev-parse", "HEAD")
    repository.run("update-ref", BEFORE, head)
    for name in (RESULT, START):
        repository.run("update-ref", "--no-deref", "-d", name)
    if branch and repository.has("symbolic-ref", "--quiet", "HEAD"):
        repository.run("symbolic-ref", START, repository.line("symbolic-ref", "HEAD"))
    conflicts = sorted(merged.conflicts)
    _state(repository).write_text(json.dumps(State(branch, message, conflicts).__dict__), encoding="utf-8")
    repository.run("update-index", "-q", "--refresh", codes=(0, 1))  # a copied project has other times than its index
    repository.run("read-tree", "-m", "-u", head, merged.tree)
    if conflicts:
        lines = "".join(f"0 {'0' * len(head)}\t{path}\0" for path in conflicts)
        repository.run(
            "update-index", "-z", "--index-info", text=lines + "".join(f"{line}\0" for line in merged.stages)
        )
    else:
        _commit(repository, commit, branch)


def add_lock(repository: Git) -> bool:
    """Make the lock of the dependencies again, as part of the update's commit; whether that worked."""
    if not repository.line("ls-files", "--", LOCK):
        return True
    uv = os.environ.get("UV", "uv")
    if subprocess.run([uv, "lock", "--quiet"], cwd=repository.folder, capture_output=True).returncode:
        return False
    if repository.line("status", "--porcelain", "--untracked-files=no", "--", LOCK):
        repository.run("add", "--", LOCK)
        message = repository.run("log", "-1", "--format=%B", "HEAD").strip()
        commit = repository.commit(repository.line("write-tree"), message, repository.line("rev-parse", BEFORE))
        repository.run("update-ref", "HEAD", commit)
        repository.run("update-ref", RESULT, commit)
    return True


def _state(repository: Git) -> Path:
    return Path(repository.line("rev-parse", "--path-format=absolute", "--git-path", "template-update.json"))


def _commit(repository: Git, commit: str, branch: str) -> None:
    if branch:
        repository.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    repository.run("update-ref", "-m", "update of the template", "HEAD", commit)
    repository.run("update-ref", RESULT, commit)
    _state(repository).unlink(missing_ok=True)


def waiting(repository: Git) -> State | None:
    """The update that waits for its conflicts, if one does."""
    try:
        found: dict[str, Any] = json.loads(_state(repository).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    is_over = not repository.has("diff", "--quiet", BEFORE, "HEAD") or repository.has("diff", "--cached", "--quiet")
    return None if is_over else State(**found)  # somebody may have ended it with `git commit` or `git reset`


def resume(repository: Git) -> str:
    """Commit an update whose conflicts are resolved; raises `UserError` if there is none, or one is left."""
    state = waiting(repository)
    if state is None:
        raise UserError("no update waits: start one with `update`")
    root = Path(repository.line("rev-parse", "--show-toplevel"))
    if left := [path for path in state.conflicts if _has_markers(root / path)]:
        raise UserError(f"{left[0]} still has conflict markers: decide between `yours` and `template`, then try again")
    at_root = Git(root, repository.variables)
    at_root.run("add", "--all", "--force", "--", *[f":(literal){path}" for path in state.conflicts])
    if repository.line("ls-files", "--", LOCK):  # `uv run` has made it again
        repository.run("add", "--", LOCK)
    commit = at_root.commit(at_root.line("write-tree"), state.message, repository.line("rev-parse", BEFORE))
    _commit(repository, commit, state.branch)
    return commit


def _has_markers(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(line.startswith(MARKERS) for line in text.splitlines())


def abort(repository: Git) -> str:
    """Return to the commit before the update, during or after it; raises `UserError` if work would be lost."""
    if not repository.has("rev-parse", "--verify", BEFORE):
        raise UserError("there was no update: nothing to undo")
    before = repository.line("rev-parse", BEFORE)
    state = waiting(repository)
    if state is None:
        _check_head(repository, before)
    if state is None and _is_dirty(repository, before):
        raise UserError("there are changes that are not committed: commit or stash them first")
    repository.run("read-tree", "--reset", "-u", before)
    if state is None:
        _go_back(repository, before)
    _state(repository).unlink(missing_ok=True)
    return before


def _is_dirty(repository: Git, before: str) -> bool:
    """Whether there are changes, apart from a lock that `uv run` made again because the update asked for it."""
    asked = not repository.has("diff", "--quiet", before, "HEAD", "--", "pyproject.toml")
    others = (".", ":(top)", f":(exclude){LOCK}") if asked else ()
    return bool(repository.line("status", "--porcelain", "--untracked-files=no", "--", *others))


def _check_head(repository: Git, before: str) -> None:
    """HEAD is the update's commit, or `UserError`."""
    head, result = repository.line("rev-parse", "HEAD"), repository.run("rev-parse", RESULT, codes=(0, 128)).strip()
    if head == before:
        raise UserError("the update is undone already")
    if head != result and repository.has("merge-base", "--is-ancestor", RESULT, "HEAD"):
        raise UserError(f"there are commits after the update: undo it with `git revert {RESULT}`")
    if head != result:
        raise UserError(f"HEAD is not the update's commit; the commit before it is {BEFORE}")


def _go_back(repository: Git, before: str) -> None:
    """The branch, where the update began a new one, or the commit."""
    started = repository.run("symbolic-ref", "--quiet", START, codes=(0, 1, 128)).strip()
    if started and started != (made := repository.line("symbolic-ref", "HEAD")):
        repository.run("symbolic-ref", "HEAD", started)
        repository.run("update-ref", "-d", made)
    else:
        repository.run("update-ref", "-m", "update of the template undone", "HEAD", before)
