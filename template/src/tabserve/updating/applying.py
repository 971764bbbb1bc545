"""Bring the result of a merge into a project, and finish it."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tabserve.errors import UserError
from tabserve.updating import obstacles, record
from tabserve.updating.git import Git
from tabserve.updating.merging import CONTENTS, Merged
from tabserve.updating.record import BEFORE, PICKED, RESULT, Update

LOCK = "uv.lock"
MEANINGS = {
    CONTENTS: "both changed the same lines",
    "add/add": "both added it",
    "binary": "both changed it, and it is not a text file",
    "distinct types": "it is a file for one side, and a link for the other",
    "distinct modes": "it is a file for one side, and a link for the other",
    "file/directory": "it is a file for one side, and a folder for the other",
    "modify/delete": "one side changed it, the other one removed it",
    "rename/delete": "one side renamed it, the other one removed it",
    "rename/rename": "each side renamed it in its own way",
}
MARKERS = ("<<<<<<< yours", "||||||| ", ">>>>>>> template")


def way_back(before: str) -> str:
    """What to say where no task runs any more."""
    return f"`git reset --hard {before[:12]}`"


def meaning(reason: str) -> str:
    """The reason of a conflict, for people."""
    return MEANINGS.get(reason, reason)


def apply(repository: Git, merged: Merged, commit: str, message: str, branch: str) -> None:
    """Write the result into the work tree, and commit it if it has no conflict.

    Args:
        commit: a commit of the result's tree, whose parent is the project's.
        branch: a new branch for the result; empty to stay on this one.

    Raises `UserError` or `GitError`, and then the project is as it was.
    """
    head = repository.line("rev-parse", "HEAD")
    written = set(repository.parts("diff-tree", "-r", "-z", "--name-only", "--no-renames", head, merged.tree))
    obstacles.check_writable(repository, written, merged.tree)
    repository.run("update-index", "-q", "--refresh", codes=(0, 1, 128))  # a copy has other times than its index
    start = repository.run("symbolic-ref", "--quiet", "HEAD", codes=(0, 1)).strip() or head
    update = Update(head, merged.tree, commit, message, dict(sorted(merged.conflicts.items())), start, branch)
    if branch:
        repository.run("update-ref", f"refs/heads/{branch}", head, "0" * len(head))
    earlier = record.read(repository), repository.run("rev-parse", "--quiet", "--verify", BEFORE, codes=(0, 1)).strip()
    try:
        _write(repository, update, merged)
    except BaseException:
        _undo(repository, update, written, *earlier)
        raise


def _write(repository: Git, update: Update, merged: Merged) -> None:
    record.keep(repository, update)
    repository.run("update-ref", BEFORE, update.before)
    if update.branch:
        repository.run("symbolic-ref", "HEAD", f"refs/heads/{update.branch}")
    repository.run("update-ref", PICKED, update.picked)
    _message(repository).write_text(f"{update.message}\n", encoding="utf-8")
    repository.run("read-tree", "-m", "-u", update.before, update.tree)
    if not update.conflicts:
        _commit(repository, update, update.picked)
        return
    lines = [f"0 {'0' * len(update.before)}\t{path}" for path in update.conflicts]
    text = "".join(f"{line}\0" for line in [*lines, *merged.stages])
    repository.run("update-index", "-z", "--index-info", text=text)
    record.keep(repository, replace(update, is_written=True))


def _message(repository: Git) -> Path:
    return Path(repository.line("rev-parse", "--path-format=absolute", "--git-path", "MERGE_MSG"))


def _undo(repository: Git, update: Update, written: set[str], earlier: Update | None, before: str) -> None:
    """Go back after a failure: files, branch and the way back from the update before."""
    at_root = obstacles.root_of(repository)
    for path in written - at_root.entries(update.before).keys():
        (at_root.folder / path).unlink(missing_ok=True)
    repository.run("read-tree", "--reset", "-u", update.before, codes=tuple(range(256)))
    leave_branch(repository, update)
    end(repository)
    record.forget(repository)
    if earlier:
        record.keep(repository, earlier)
    repository.run("update-ref", *((BEFORE, before) if before else ("-d", BEFORE)))


def leave_branch(repository: Git, update: Update) -> None:
    """Return to the branch or the commit that an update began on, and remove the branch that it made."""
    if not update.branch or repository.line("symbolic-ref", "--quiet", "HEAD") != f"refs/heads/{update.branch}":
        return
    tip = repository.line("rev-parse", "HEAD")
    if update.start.startswith("refs/"):
        repository.run("symbolic-ref", "HEAD", update.start)
    else:
        repository.run("update-ref", "--no-deref", "HEAD", update.start)
    repository.run("update-ref", "-d", f"refs/heads/{update.branch}", tip)


def end(repository: Git) -> None:
    """The merge is over."""
    repository.run("update-ref", "-d", PICKED)
    _message(repository).unlink(missing_ok=True)


def _commit(repository: Git, update: Update, commit: str) -> None:
    repository.run("update-ref", "-m", "update of the template", "HEAD", commit)
    repository.run("update-ref", RESULT, commit)
    record.keep(repository, replace(update, result=commit))
    end(repository)


def add_lock(repository: Git) -> str:
    """Make the lock of the dependencies again, as part of the update's commit; returns what uv says if it fails."""
    if not repository.line("ls-files", "--", LOCK):
        return ""
    uv = os.environ.get("UV", "uv")
    done = subprocess.run([uv, "lock"], cwd=repository.folder, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        return " ".join(done.stderr.split()) or "uv lock failed"
    update = record.read(repository)
    if update and repository.line("status", "--porcelain", "--untracked-files=no", "--", LOCK):
        repository.run("add", "--", LOCK)
        _commit(repository, update, repository.commit(repository.line("write-tree"), update.message, update.before))
    return ""


def resume(repository: Git) -> str:
    """Commit an update whose conflicts are resolved; raises `UserError` if there is none, or one is left."""
    update = record.waiting(repository)
    if update is None:
        raise UserError("no update waits: start one with `update`")
    if not update.is_written:
        raise UserError("the update was interrupted while it wrote: `make update-abort`, then start it again")
    at_root = obstacles.root_of(repository)
    _check_others(at_root, update)
    if left := list(_undecided(at_root, update)):
        raise UserError(f"{left[0]}{f'; {len(left) - 1} more after it' if left[1:] else ''}")
    for path in update.conflicts:
        known = f":(literal){path}"
        if os.path.lexists(at_root.folder / path):
            at_root.run("add", "--force", "--", known)
        else:
            at_root.run("rm", "--quiet", "--cached", "--ignore-unmatch", "--", known)
    if repository.line("ls-files", "--", LOCK):  # `uv run` has made it again
        repository.run("add", "--", LOCK)
    commit = at_root.commit(at_root.line("write-tree"), update.message, update.before)
    _commit(repository, update, commit)
    return commit


def _check_others(at_root: Git, update: Update) -> None:
    """Nothing is staged that is not the update's: an abort would drop it; raises `UserError`."""
    its_own = {*at_root.parts("diff-tree", "-r", "-z", "--name-only", "--no-renames", update.before, update.tree), LOCK}
    staged = at_root.parts("diff-index", "--cached", "-z", "--name-only", "--no-renames", update.before)
    if others := sorted({*staged} - its_own - update.conflicts.keys()):
        raise UserError(
            f"{others[0]} is not part of the update: `git restore --staged {others[0]}`, and commit it later"
        )


def _undecided(at_root: Git, update: Update) -> Iterator[str]:
    """What is left to do, a line for each file: take markers out, or tell git which side it shall be."""
    unmerged = {line.split("\t", 1)[1] for line in at_root.parts("ls-files", "-z", "--unmerged")}
    for path, reason in update.conflicts.items():
        if _has_markers(at_root, path):
            yield f"{path} still has conflict markers: decide between `yours` and `template`, then try again"
        elif reason != CONTENTS and path in unmerged and os.path.lexists(at_root.folder / path):
            yield f"{path}: {meaning(reason)}; `git add {path}` keeps it as it is now, `git rm {path}` removes it"


def _has_markers(at_root: Git, path: str) -> bool:
    """Whether git would store a file with conflict markers; it may have another encoding on disk."""
    if (at_root.folder / path).is_symlink() or not (at_root.folder / path).is_file():
        return False
    stored = at_root.raw("cat-file", "blob", at_root.line("hash-object", "-w", "--", path))
    return any(line.startswith(MARKERS) for line in stored.decode(errors="replace").split("\n"))
