"""One update: render both versions, merge them beside the project, show what would happen, and do it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabserve.updating import applying, contents, merging, notes, ownership, preview, renders
from tabserve.updating.git import Entries, Git

RESULT, OBJECTS = "refs/result", "refs/update/objects"
PATCH = "template-update.patch"  # in the git folder
PYPROJECT = "pyproject.toml"


@dataclass(frozen=True)
class Request:
    """What somebody wants."""

    project: Path
    template: Path  # a clone
    source: str  # its address, without credentials
    version: str
    render: Path | None  # of the version with the project's answers
    data: Mapping[str, Any]
    asks: bool  # whether a person answers new questions


@dataclass(frozen=True)
class Plan:
    """What an update would do."""

    versions: tuple[str, str]  # before and after, with their commits
    merged: merging.Merged
    is_news: bool  # whether it changes anything
    locks: bool  # whether it changes the dependencies
    files: list[preview.File]
    blocked: list[str]
    faults: list[str]  # of files that merge without a conflict
    questions: dict[str, Any]  # new ones, with the answers that they get
    changes: list[tuple[str, str]]  # versions, and what is new in them
    settings: list[str]
    patch: bytes  # of the files that are the person's own
    scratch: Git


def plan(request: Request, folder: Path) -> Plan:
    """Everything about an update, worked out in a temporary folder."""
    repository = Git(request.project)
    before = renders.answers_of(request.project)
    old, new = folder / "old", _new(request, before, folder / "new")
    renders.render(request.template, before["_commit"], before, old, before["_src_path"])
    (old / renders.ANSWERS).write_bytes((request.project / renders.ANSWERS).read_bytes())
    prefix, git = repository.line("rev-parse", "--show-prefix"), merging.scratch(repository, folder / "scratch.git")
    trees = [git.tree_of(render, folder / "index") for render in (old, new)]
    head, package = repository.line("rev-parse", "HEAD"), package_of(old)
    rendered = ({f"{prefix}{path}": entry for path, entry in git.entries(tree).items()} for tree in trees)
    sides, is_yours = contents.Sides(next(rendered), next(rendered), git.entries(head)), ownership.yours(package)
    aligned = contents.aligned(git, sides, f"{prefix}{PYPROJECT}")
    merged = merging.merge(git, head, *aligned, lambda path: is_yours(path.removeprefix(prefix)))
    after = git.entries(merged.tree)
    older, newer, now = (_inside(entries, prefix) for entries in (sides.old, sides.new, sides.now))
    label = (_label(Git(request.template), version) for version in (before["_commit"], request.version))
    return Plan(
        versions=(next(label), next(label)),
        merged=merged,
        is_news=bool(merged.conflicts) or after != sides.now,
        locks=len({str(contents.dependencies(git, of, f"{prefix}{PYPROJECT}")) for of in (sides.now, after)}) == 2,
        files=preview.files(older, newer, now, _moved(merged, prefix), is_yours),
        blocked=applying.blocked(repository, after.keys() - sides.now.keys()),
        faults=contents.faults(git, sides, after, merged),
        questions=renders.new_questions(before, new),
        changes=list(notes.sections(_text(request.template / "CHANGELOG.md"), before["_commit"], request.version)),
        settings=notes.settings(*(_text(render / "config.toml") for render in (old, new, request.project))),
        patch=git.raw("diff", "-M", "--binary", *trees, "--", *_pathspecs(package)),
        scratch=git,
    )


def _new(request: Request, before: Mapping[str, Any], folder: Path) -> Path:
    """The render of the new version: that which is there, unless other answers or new questions make another."""
    there = request.render
    if there and not request.data and not (request.asks and renders.new_questions(before, there)):
        renders.name_source(there, request.source)
        return there
    renders.render(request.template, request.version, {**before, **request.data}, folder, request.source, request.asks)
    return folder


def package_of(render: Path) -> str:
    """The name of the project's own package."""
    found = re.search(r"^module-name = \[\"(\w+)\"", _text(render / PYPROJECT), re.MULTILINE)
    assert found, "every version of the template names the package"
    return found[1]


def _label(template: Git, version: str) -> str:
    """A version with its commit."""
    commit = template.line("rev-parse", "--short", f"{version}^{{commit}}")
    return commit if re.fullmatch(r"[0-9a-f]{7,}", version) else f"{version} ({commit})"


def _pathspecs(package: str) -> list[str]:
    return [f":(top){pattern.format(package=package)}" for pattern in ownership.YOURS]


def _inside(entries: Entries, prefix: str) -> Entries:
    return {path.removeprefix(prefix): entry for path, entry in entries.items() if path.startswith(prefix)}


def _moved(merged: merging.Merged, prefix: str) -> merging.Merged:
    """The same with paths from the project's root."""
    conflicts = {path.removeprefix(prefix): reason for path, reason in merged.conflicts.items()}
    renames = {old.removeprefix(prefix): new.removeprefix(prefix) for old, new in merged.renames.items()}
    return merging.Merged(merged.tree, merged.stages, conflicts, renames)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def carry_out(request: Request, planned: Plan, branch: str) -> None:
    """Write the result into the project; raises `GitError` where git refuses."""
    repository, git = Git(request.project), planned.scratch
    parents = [f"refs/{name}" for name in (merging.BASE, merging.YOURS, merging.TEMPLATE)]
    git.run("update-ref", RESULT, git.commit(planned.merged.tree, "result", *parents))
    repository.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(git.folder), f"+{RESULT}:{OBJECTS}")
    if planned.patch:
        path = Path(repository.line("rev-parse", "--path-format=absolute", "--git-path", PATCH))
        path.write_bytes(planned.patch)
    before = renders.answers_of(request.project)["_commit"]
    message = f"Update from the template: {before} to {request.version}"
    commit = repository.commit(planned.merged.tree, message, repository.line("rev-parse", "HEAD"))
    applying.apply(repository, planned.merged, commit, message, branch)
