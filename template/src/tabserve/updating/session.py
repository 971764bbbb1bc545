"""One update: render both versions, merge them beside the project, show what would happen, and do it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabserve.updating import applying, merging, notes, ownership, preview, renders
from tabserve.updating.git import Entries, Git

RESULT, OBJECTS = "refs/result", "refs/update/objects"
PATCH = "template-update.patch"  # in the git folder


@dataclass(frozen=True)
class Request:
    """What somebody wants."""

    project: Path
    template: Path  # a clone
    source: str  # its address, without credentials
    version: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What an update would do."""

    version: str  # of the project before
    merged: merging.Merged
    is_news: bool  # whether it changes anything
    files: list[preview.File]
    blocked: list[str]
    questions: dict[str, Any]  # new ones, with the answers that they get
    notes: list[tuple[str, str]]
    patch: str  # of the files that are the person's own
    scratch: Git


def plan(request: Request, folder: Path) -> Plan:
    """Everything about an update, worked out in a temporary folder."""
    repository = Git(request.project)
    before = renders.answers_of(request.project)
    old, new = folder / "old", folder / "new"
    renders.render(request.template, before["_commit"], before, old, before["_src_path"])
    renders.render(request.template, request.version, {**before, **request.data}, new, request.source)
    (old / renders.ANSWERS).write_bytes((request.project / renders.ANSWERS).read_bytes())
    prefix, git = repository.line("rev-parse", "--show-prefix"), merging.scratch(repository, folder / "scratch.git")
    trees = [git.tree_of(render, folder / "index") for render in (old, new)]
    before_, after = ({f"{prefix}{path}": entry for path, entry in git.entries(tree).items()} for tree in trees)
    is_yours = ownership.yours(_package(old))
    head = repository.line("rev-parse", "HEAD")
    merged = merging.merge(git, head, before_, after, lambda path: is_yours(path.removeprefix(prefix)))
    older, newer, now = (_inside(found, prefix) for found in (before_, after, git.entries(head)))
    return Plan(
        version=str(before["_commit"]),
        merged=merged,
        is_news=bool(merged.conflicts) or merged.tree != git.line("rev-parse", f"{head}^{{tree}}"),
        files=preview.files(older, newer, now, _moved(merged, prefix), is_yours),
        blocked=applying.blocked(repository, git.entries(merged.tree).keys() - git.entries(head).keys()),
        questions=renders.new_questions(before, new),
        notes=list(notes.sections(_changelog(request.template), str(before["_commit"]), request.version)),
        patch=git.run("diff", "-M", "--binary", *trees, "--", *_pathspecs(_package(old))),
        scratch=git,
    )


def _package(render: Path) -> str:
    """The name of the project's own package."""
    found = re.search(
        r"^module-name = \[\"(\w+)\"", (render / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found, "every version of the template names the package"
    return found[1]


def _pathspecs(package: str) -> list[str]:
    return [f":(top){pattern.format(package=package)}" for pattern in ownership.YOURS]


def _inside(entries: Entries, prefix: str) -> Entries:
    return {path.removeprefix(prefix): entry for path, entry in entries.items() if path.startswith(prefix)}


def _moved(merged: merging.Merged, prefix: str) -> merging.Merged:
    """The same with paths from the project's root."""
    conflicts = {path.removeprefix(prefix): reason for path, reason in merged.conflicts.items()}
    renames = {old.removeprefix(prefix): new.removeprefix(prefix) for old, new in merged.renames.items()}
    return merging.Merged(merged.tree, merged.stages, conflicts, renames)


def _changelog(template: Path) -> str:
    path = template / "CHANGELOG.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def carry_out(request: Request, planned: Plan, branch: str) -> None:
    """Write the result into the project; raises `GitError` where git refuses."""
    repository, git = Git(request.project), planned.scratch
    parents = [f"refs/{name}" for name in (merging.BASE, merging.YOURS, merging.TEMPLATE)]
    git.run("update-ref", RESULT, git.commit(planned.merged.tree, "result", *parents))
    repository.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(git.folder), f"+{RESULT}:{OBJECTS}")
    if planned.patch:
        path = Path(repository.line("rev-parse", "--path-format=absolute", "--git-path", PATCH))
        path.write_text(planned.patch, encoding="utf-8", errors="surrogateescape")
    message = f"Update from the template: {planned.version} to {request.version}"
    commit = repository.commit(planned.merged.tree, message, repository.line("rev-parse", "HEAD"))
    applying.apply(repository, planned.merged, commit, message, branch)
