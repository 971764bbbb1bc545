"""What is in the files of a merge: made to merge by meaning before it, and looked at after it."""

import tomllib
from dataclasses import dataclass
from typing import Any

from tabserve.updating import alignment, soundness
from tabserve.updating.git import Entries, Entry, Git
from tabserve.updating.merging import Merged, renames


@dataclass(frozen=True)
class Sides:
    """The three sides of a merge, by paths from the repository's root."""

    old: Entries
    new: Entries
    now: Entries


def aligned(git: Git, sides: Sides, pyproject: str) -> tuple[Entries, Entries]:
    """The template's sides, with texts that merge by meaning where all three differ."""
    old, new = dict(sides.old), dict(sides.new)
    moved = {to: path for path, to in renames(git, old, new).items()}
    for to in sides.new:
        path = moved.get(to, to)
        if path in old and path in sides.now and len({old[path], new[to], sides.now[path]}) == 3:
            ours, *texts = (git.raw("cat-file", "blob", entry[1]) for entry in (sides.now[path], old[path], new[to]))
            pair = alignment.line_ends(ours, (texts[0], texts[1]))
            pair = alignment.dependencies(ours, pair) if path == pyproject else pair
            before, after = (git.store(text) for text in pair)
            old[path], new[to] = (old[path][0], before), (new[to][0], after)
    return old, new


def faults(git: Git, sides: Sides, after: Entries, merged: Merged) -> list[str]:
    """What is wrong with merged files that was wrong on neither side."""
    found = []
    for path, entry in after.items():
        if path in merged.conflicts or entry in (sides.now.get(path), sides.new.get(path)):
            continue
        known = {fault for side in (sides.now, sides.new) if path in side for fault in _of(git, path, side[path])}
        found += [f"{path}: {fault}" for fault in sorted(_of(git, path, entry) - known)]
    return found


def _of(git: Git, path: str, entry: Entry) -> set[str]:
    return soundness.faults(path, git.raw("cat-file", "blob", entry[1]))


def dependencies(git: Git, entries: Entries, path: str) -> Any:
    """What the lock depends on; None where pyproject.toml cannot be read."""
    try:
        document = tomllib.loads(git.raw("cat-file", "blob", entries[path][1]).decode())
    except (KeyError, ValueError):
        return None
    return [document.get(key) for key in ("project", "dependency-groups", "build-system")], document.get(
        "tool", {}
    ).get("uv")
