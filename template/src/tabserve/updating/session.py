"""One update: render both versions, merge them beside the project, show what would happen, and do it."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabserve.errors import UserError, say
from tabserve.updating import applying, contents, merging, notes, obstacles, ownership, preview, record, renders
from tabserve.updating.git import Entries, Git

RESULT, OBJECTS = "refs/result", "refs/update/objects"
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
    head: str  # the project's commit
    package: str
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
    if package_of(new) != package:
        raise UserError(f"an update does not rename your package: package_name stays {package}")
    rendered = ({f"{prefix}{path}": entry for path, entry in git.entries(tree).items()} for tree in trees)
    sides, is_yours = contents.Sides(next(rendered), next(rendered), git.entries(head)), ownership.yours(package)
    aligned = contents.aligned(git, sides, f"{prefix}{PYPROJECT}")
    merged = merging.merge(git, head, *aligned, lambda path: is_yours(path.removeprefix(prefix)))
    after = git.entries(merged.tree)
    older, newer, now = (_inside(entries, prefix) for entries in (sides.old, sides.new, sides.now))
    label = (_label(Git(request.template), version) for version in (before["_commit"], request.version))
    blocked = _blocked(repository, sides.now, after)
    files = preview.files(older, newer, now, _inside(after, prefix), _moved(merged, prefix), is_yours)
    return Plan(
        versions=(next(label), next(label)),
        head=head,
        package=package,
        merged=merged,
        is_news=bool(merged.conflicts) or after != sides.now,
        locks=len({str(contents.dependencies(git, of, f"{prefix}{PYPROJECT}")) for of in (sides.now, after)}) == 2,
        files=[file for file in files if f"{prefix}{file.path}" not in blocked],
        blocked=[path.removeprefix(prefix) for path in blocked],
        faults=contents.faults(git, sides, after, merged),
        questions=renders.new_questions(before, new),
        changes=list(notes.sections(_text(request.template / "CHANGELOG.md"), before["_commit"], request.version)),
        settings=notes.settings(*(_text(render / "config.toml") for render in (old, new, request.project))),
        patch=git.raw("diff", *_patch_options(prefix), *trees, "--", *_pathspecs(package)),
        scratch=git,
    )


def _new(request: Request, before: Mapping[str, Any], folder: Path) -> Path:
    """The render of the new version: that which is there, unless other answers or new questions make another."""
    there = request.render
    if there and not request.data and not (request.asks and renders.new_questions(before, there)):
        renders.name_source(there, request.source)
        return there
    if request.asks and there and renders.new_questions(before, there):
        say(f"{request.version} asks:")
    renders.render(request.template, request.version, {**before, **request.data}, folder, request.source, request.asks)
    return folder


def _blocked(repository: Git, now: Entries, after: Entries) -> list[str]:
    return obstacles.blocked(repository, after.keys() - now.keys(), now.keys(), now.keys() - after.keys())


def _patch_options(prefix: str) -> list[str]:
    """A patch that `git apply` reads anywhere in the repository, whatever the user's configuration."""
    return ["-M", "--binary", "--no-ext-diff", f"--src-prefix=a/{prefix}", f"--dst-prefix=b/{prefix}"]


def package_of(render: Path) -> str:
    """The name of the project's own package, in a render."""
    backend = tomllib.loads(_text(render / PYPROJECT))["tool"]["uv"]["build-backend"]
    return str(backend["module-name"][0])


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
    """Write the result into the project; raises `UserError` or `GitError`, and then nothing was touched."""
    repository, git = Git(request.project), planned.scratch
    _check_unchanged(repository, planned)
    parents = [f"refs/{name}" for name in (merging.BASE, merging.YOURS, merging.TEMPLATE)]
    git.run("update-ref", RESULT, git.commit(planned.merged.tree, "result", *parents))
    repository.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(git.folder), f"+{RESULT}:{OBJECTS}")
    before = renders.answers_of(request.project)["_commit"]
    message = f"Update from the template: {before} to {request.version}"
    commit = repository.commit(planned.merged.tree, message, planned.head)
    patch, written = (record.path_of(repository, name) for name in (".patch", ".patch.new"))
    written.write_bytes(planned.patch)
    try:
        applying.apply(repository, planned.merged, commit, message, branch)
    except BaseException:
        written.unlink()
        raise
    finally:
        repository.run("update-ref", "-d", OBJECTS)
    patch.unlink(missing_ok=True)
    (written.replace if planned.patch else lambda _: written.unlink())(patch)


def _check_unchanged(repository: Git, planned: Plan) -> None:
    """The project is as it was when the update was planned: a person may have answered much later."""
    at_root = obstacles.root_of(repository)
    now = at_root.entries(planned.head)
    found = _blocked(repository, now, planned.scratch.entries(planned.merged.tree))
    changed = repository.line("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    if found or changed or repository.line("rev-parse", "HEAD") != planned.head:
        raise UserError("the project has changed since the preview: start the update again")
