"""What an update must not write over, or cannot write: looked for before anything is touched."""

import os
from collections.abc import Collection
from pathlib import Path

from tabserve.errors import UserError
from tabserve.updating.git import Git

OTHERS = {"MERGE_HEAD": "merge", "REVERT_HEAD": "revert", "CHERRY_PICK_HEAD": "cherry-pick"}
REBASES = ("rebase-merge", "rebase-apply")
NO_FILTER = ("unspecified", "unset")


def root_of(repository: Git) -> Git:
    """The same repository, where paths are those from its root."""
    return Git(Path(repository.line("rev-parse", "--show-toplevel")), repository.variables)


def blocked(repository: Git, added: Collection[str], known: Collection[str], removed: Collection[str]) -> list[str]:
    """The paths that an update would write over although git does not know what is there.

    Args:
        added: paths that the update adds, from the repository's root.
        known: all paths that git knows.
        removed: those that the update takes away.
    """
    root = root_of(repository).folder
    return sorted(path for path in added if _is_there(root, path, set(known), set(removed)))


def _is_there(root: Path, path: str, known: set[str], removed: set[str]) -> bool:
    """Whether an unknown file is at a path or in a folder there, or where a folder on the way must be."""
    if (root / path).is_dir() and not (root / path).is_symlink():
        found = (entry.relative_to(root).as_posix() for entry in (root / path).rglob("*") if not entry.is_dir())
        return any(one not in known for one in found)
    if os.path.lexists(root / path):
        return True
    parents = [parent.as_posix() for parent in Path(path).parents if parent != Path()]
    files = [parent for parent in parents if os.path.lexists(root / parent) and _is_no_folder(root / parent)]
    return any(parent not in removed for parent in files)


def _is_no_folder(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()


def check_quiet(repository: Git) -> None:
    """No merge or rebase is in progress, and all files are on disk; raises `UserError`."""
    for name, what in OTHERS.items():
        if repository.has("rev-parse", "--quiet", "--verify", name):
            raise UserError(f"a {what} is in progress: finish it, or `git {what} --abort`")
    for name in REBASES:
        if Path(repository.line("rev-parse", "--path-format=absolute", "--git-path", name)).exists():
            raise UserError("a rebase is in progress: finish it, or `git rebase --abort`")
    if repository.run("config", "--type=bool", "core.sparseCheckout", codes=(0, 1)).strip() == "true":
        raise UserError("an update needs all files: `git sparse-checkout disable` first")


def check_writable(repository: Git, written: Collection[str], tree: str) -> None:
    """Git sees changes of all files that an update writes, and can write them; raises `UserError`."""
    at_root = root_of(repository)
    for line in at_root.parts("ls-files", "-v", "-z"):
        tag, path = line[0], line[2:]
        if path in written and (tag.islower() or tag == "S"):
            unhide = "git update-index --no-assume-unchanged --no-skip-worktree"
            raise UserError(f"git does not look at {path}, which the update changes: `{unhide} {path}`")
    words = at_root.run("check-attr", "-z", "--stdin", "filter", text="".join(f"{path}\0" for path in written))
    values = words.split("\0")
    for path, value in zip(values[::3], values[2::3], strict=False):
        if value not in NO_FILTER and not _is_filtered(at_root, tree, path):
            raise UserError(f"git cannot write {path} with the filter {value}: install it, or change .gitattributes")


def _is_filtered(at_root: Git, tree: str, path: str) -> bool:
    """Whether git can write a file through its filter; a file that the tree lacks is not written."""
    return not at_root.has("cat-file", "-e", f"{tree}:{path}") or at_root.has("cat-file", "--filters", f"{tree}:{path}")
