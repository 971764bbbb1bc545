"""Merge two renders of the template into a project, in a repository beside it: nothing of the project is touched."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tabserve.updating.git import Entries, Git

CONTENTS = "contents"
BASE, YOURS, TEMPLATE = "base", "yours", "template"  # refs; the names become the labels of conflicts


@dataclass(frozen=True)
class Merged:
    """What a merge gives, by paths from the repository's root."""

    tree: str
    stages: tuple[str, ...]  # of conflicts, as `git update-index --index-info` reads them
    conflicts: dict[str, str]  # the reason of each file in conflict
    renames: dict[str, str]  # what the template renamed, new names by old ones


def scratch(repository: Git, folder: Path) -> Git:
    """A bare repository that sees the project's objects and nothing else of it."""
    objects = repository.line("rev-parse", "--path-format=absolute", "--git-path", "objects")
    format_ = repository.line("rev-parse", "--show-object-format")
    Git(folder.parent).run("init", "--quiet", "--bare", f"--object-format={format_}", str(folder))
    (folder / "objects/info/alternates").write_text(f"{objects}\n", encoding="utf-8")
    git = Git(folder, {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull})
    git.run("config", "core.attributesFile", os.devnull)
    return git


def merge(git: Git, head: str, old: Entries, new: Entries, is_yours: Callable[[str], bool]) -> Merged:
    """Merge what the template changed between two renders into the tree of a commit.

    Files that `is_yours` names stay as they are, and what was deleted from the project stays deleted.

    Args:
        head: the commit of the project.
        old, new: the files of the renders, by paths from the repository's root.
    """
    index = git.folder / "scratch-index"
    old = {path: entry for path, entry in old.items() if not is_yours(path)}
    new = {path: entry for path, entry in new.items() if not is_yours(path)}
    base = git.commit(git.tree(old, index), BASE)
    renames = _renames(git, base, git.commit(git.tree(new, index), TEMPLATE, base))
    followed = {path for path, to in _renames(git, base, head).items() if not is_yours(to)}
    deleted = old.keys() - git.entries(head).keys() - followed
    gone = deleted | {renames[path] for path in deleted if path in renames}
    base = git.commit(git.tree({path: entry for path, entry in old.items() if path not in gone}, index), BASE)
    ours = git.commit(git.line("rev-parse", f"{head}^{{tree}}"), YOURS, base)
    theirs = git.commit(
        git.tree({path: entry for path, entry in new.items() if path not in gone}, index), TEMPLATE, base
    )
    for name, commit in ((BASE, base), (YOURS, ours), (TEMPLATE, theirs)):
        git.run("update-ref", f"refs/{name}", commit)
    return _merged(git, _renames(git, base, theirs))


def renames(git: Git, old: Entries, new: Entries) -> dict[str, str]:
    """What is renamed between two sets of files, new names by old ones."""
    index = git.folder / "scratch-index"
    return _renames(git, git.tree(old, index), git.tree(new, index))


def _renames(git: Git, before: str, after: str) -> dict[str, str]:
    words = git.run("diff-tree", "-r", "-z", "-M", "--diff-filter=R", "--name-status", before, after).split("\0")
    return {words[at + 1]: words[at + 2] for at in range(0, len(words) - 2, 3)}


def _merged(git: Git, renames: dict[str, str]) -> Merged:
    printed = git.run("merge-tree", "--write-tree", "-z", YOURS, TEMPLATE, codes=(0, 1))
    tree, _, rest = printed.partition("\0")
    files, _, messages = rest.partition("\0\0") if rest else ("", "", "")
    stages = tuple(line for line in files.split("\0") if line)
    reasons = dict(_reasons(messages.split("\0")))
    paths = sorted({line.split("\t", 1)[1] for line in stages})
    return Merged(tree, stages, {path: _reason(git, tree, path, reasons) for path in paths}, renames)


def _reason(git: Git, tree: str, path: str, reasons: dict[str, str]) -> str:
    """Why a file is in conflict; git tells of a binary file, which gets no markers, as of a text."""
    reason = reasons.get(path, CONTENTS)
    if reason != CONTENTS or not git.has("cat-file", "-e", f"{tree}:{path}"):
        return reason
    return CONTENTS if b"<<<<<<< " in git.raw("cat-file", "blob", f"{tree}:{path}") else "binary"


def _reasons(words: list[str]) -> Iterator[tuple[str, str]]:
    """Paths and kinds of the conflicts that `git merge-tree -z` tells of."""
    at = 0
    while at < len(words) and words[at].isdigit():
        count = int(words[at])
        paths, kind = words[at + 1 : at + 1 + count], words[at + 1 + count]
        if kind.startswith("CONFLICT"):
            yield from ((path, kind.removeprefix("CONFLICT ").strip("()")) for path in paths)
        at += count + 3
