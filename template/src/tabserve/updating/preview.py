"""What an update would do to each file."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tabserve.updating.applying import meaning
from tabserve.updating.git import Entries
from tabserve.updating.merging import Merged
from tabserve.updating.ownership import is_templates

Kind = Literal["new", "updated", "merged", "conflict", "renamed", "removed", "machinery-edited", "yours"]
MEANINGS: dict[Kind, str] = {
    "new": "added by the template",
    "updated": "changed by the template, not by you",
    "merged": "changed by both, without a conflict",
    "conflict": "changed by both: you decide",
    "renamed": "renamed by the template",
    "removed": "removed by the template",
    "machinery-edited": "edited by you in the template's own folder",
    "yours": "yours: stays as it is, the template's change is a patch",
}


@dataclass(frozen=True)
class File:
    """A file that an update touches, or leaves to the person."""

    path: str
    kind: Kind
    reason: str = ""
    to: str = ""  # its new path


def files(
    old: Entries, new: Entries, head: Entries, after: Entries, merged: Merged, is_yours: Callable[[str], bool]
) -> list[File]:
    """The files that differ between two renders, or that a person edited in the template's folder, each with one kind.

    Args:
        old, new: the renders.
        head, after: the project before and after the update.
        merged: with paths from the project's root, as all are.
    """
    found = {file.path: file for file in _files(old, new, head, after, merged, is_yours)}
    listed = {*found, *(file.to for file in found.values())}
    changed = [path for path in head.keys() | after.keys() if head.get(path) != after.get(path)]
    for path in sorted({*changed, *merged.conflicts} - listed):  # a person's own renames
        reason = merged.conflicts.get(path, "")
        found[path] = File(path, "conflict" if reason else "merged", reason)
    return [found[path] for path in sorted(found)]


def _files(
    old: Entries, new: Entries, head: Entries, result: Entries, merged: Merged, is_yours: Callable[[str], bool]
) -> Iterator[File]:
    targets = set(merged.renames.values())
    for path in sorted({*old, *new, *merged.conflicts}):
        before, after, now = old.get(path), new.get(path), head.get(path)
        edited = now is not None and before is not None and now != before
        if is_yours(path):
            if before != after and after != now and (now or not before):
                yield File(path, "yours", "deleted by the template" if after is None else "")
        elif is_templates(path) and edited:
            to = merged.renames.get(path, "")
            yield File(path, "machinery-edited", "conflict" if {path, to} & merged.conflicts.keys() else "merged", to)
        elif path in merged.conflicts:
            yield File(path, "conflict", merged.conflicts[path])
        elif before == after or path in targets:
            continue
        elif (before and not now) or (before is None and path not in result):
            yield from [File(path, "yours", "deleted by you")] if path not in result and after else ()
        elif path in merged.renames:
            yield File(path, "renamed", to=merged.renames[path])
        elif before is None:
            if now is None:
                yield File(path, "new")
        elif after is None:
            yield File(path, "removed")
        elif now != after:
            yield File(path, "merged" if edited else "updated")


def as_json(file: File) -> dict[str, Any]:
    """A file as `--json` prints it."""
    return {"class" if name == "kind" else name: value for name, value in asdict(file).items() if value}


def lines(found: list[File]) -> Iterator[str]:
    """The files by kind, for people."""
    for kind, text in MEANINGS.items():
        if some := [file for file in found if file.kind == kind]:
            yield f"{kind} ({text})"
            yield from (f"  {_shown(file)}" for file in some)


def _shown(file: File) -> str:
    reason = meaning(file.reason) if file.kind == "conflict" else file.reason
    return f"{file.path}{f' -> {file.to}' if file.to else ''}{f'  ({reason})' if reason else ''}"
