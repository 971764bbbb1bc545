"""The updater of a version: `python -m tabserve.updating`, where copier is installed. Its older versions start it."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from copier.errors import CopierError

from tabserve.errors import UserError, one_line, say
from tabserve.updating import applying, checks, differences, notes, preview, renders, session
from tabserve.updating.git import Git, GitError

CODES = {"updated": 0, "up-to-date": 0, "conflicts": 1, "refused": 2, "failed-checks": 3}


def main(arguments: list[str] | None = None) -> int:
    """Preview an update, and carry it out; returns the exit code. The last line begins with what happened."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix=".tabserve-update-") as folder:
            return _run(options, Path(folder))
    except (KeyboardInterrupt, UserError, GitError, CopierError, OSError) as error:
        say(f"refused: {one_line(error) if isinstance(error, Exception) else 'interrupted'}", error=True)
        return CODES["refused"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True, help="a clone")
    parser.add_argument("--source", required=True, help="its address")
    parser.add_argument("--to", required=True)
    parser.add_argument("--render", type=Path, help="that version with the project's answers")
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--branch", default="")
    for switch in ("--yes", "--dry-run", "--json", "--no-checks", "--diff", "--patch"):
        parser.add_argument(switch, action="store_true")
    return parser


def _run(options: argparse.Namespace, folder: Path) -> int:
    project = options.project
    if options.diff:
        say("\n".join(differences.lines(project, options.template, folder, options.patch)))
        return 0
    asks = sys.stdin.isatty() and not (options.yes or options.dry_run or options.json)
    request = session.Request(
        project, options.template, options.source, options.to, options.render, _data(options), asks
    )
    planned = session.plan(request, folder)
    if options.json:
        say(json.dumps(_as_json(planned, request), ensure_ascii=False))
    elif planned.is_news or not options.yes:
        say("\n".join(_lines(planned)))
    return _decide(options, request, planned)


def _decide(options: argparse.Namespace, request: session.Request, planned: session.Plan) -> int:
    if not planned.is_news:
        return _end(options, "up-to-date", f"{planned.versions[1]} gives nothing new")
    if options.dry_run:
        outcome = "conflicts" if planned.merged.conflicts or planned.blocked else "updated"
        return _end(options, outcome, "that is what would happen; nothing was touched")
    if planned.blocked:
        raise UserError(f"{planned.blocked[0]} is not in git and would be replaced: move it away, or commit it")
    if not options.yes and not (request.asks and _agreed()):
        raise UserError("nothing was touched; --yes updates without a question")
    session.carry_out(request, planned, options.branch)
    if planned.patch:
        say(f"your own files stay as they are; for the template's changes to them: git apply {_patch(request)}", True)
    if planned.merged.conflicts:
        way_back = f"`make update-abort`, or {applying.WAY_BACK} if that does not run"
        return _end(options, "conflicts", f"resolve them, then `make update-continue`; or {way_back}")
    is_locked = not planned.locks or applying.add_lock(Git(request.project))
    if failed := planned.faults or ([] if options.no_checks else _failed(request, is_locked)):
        way_back = f"`make update-abort` undoes it, or {applying.WAY_BACK}"
        return _end(options, "failed-checks", f"{'; '.join(failed)}. The update is committed; {way_back}")
    return _end(options, "updated", f"{_route(planned)}; `make update-abort` undoes it")


def _failed(request: session.Request, is_locked: bool) -> list[str]:
    """Run the checks; returns the names of those that fail. Without an index they are left for later."""
    if not is_locked:
        say("uv.lock could not be made again: run `uv lock` later, then `make lint test`", True)
        return []
    if not checks.is_ready(request.project):
        say("the dependencies could not be installed: run `make lint test` later", True)
        return []
    return checks.failed(request.project, session.package_of(request.project))


def _patch(request: session.Request) -> str:
    return Git(request.project).line("rev-parse", "--git-path", session.PATCH)


def _data(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(options.answers.read_text(encoding="utf-8")) if options.answers else {}
    for pair in options.data:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--data {pair}: write --data question=answer")
        found[name] = yaml.safe_load(value)
    return found


def _agreed() -> bool:
    return sys.stdin.isatty() and input("Update? (y/N) ").strip().lower() in ("y", "yes")


def _route(planned: session.Plan) -> str:
    before, after = planned.versions
    return f"{before} -> {after}" if before != after else f"{after}, with the answers given"


def _lines(planned: session.Plan) -> Iterator[str]:
    yield _route(planned)
    for number, changes in planned.changes:
        yield f"\n{number}\n{notes.BEFORE.sub('', changes).strip()}"
    if acts := list(_acts(planned)):
        yield from ("", "Before you deploy:", *(f"- {act}" for act in acts))
    yield ""
    for name, answer in planned.questions.items():
        yield f"new question {name}: {answer}; another answer: --data {name}=..."
    yield from preview.lines(planned.files)
    yield from (f"conflict: {path} is not in git, and the template adds it" for path in planned.blocked)
    yield from (f"merged, but wrong: {fault}" for fault in planned.faults)


def _acts(planned: session.Plan) -> Iterator[str]:
    """What the person has to know or to do before the next deployment."""
    for number, changes in planned.changes:
        if act := notes.before_you_deploy(changes):
            yield f"{number}: {act}"
    yield from planned.settings


def _as_json(planned: session.Plan, request: session.Request) -> dict[str, Any]:
    files = [preview.as_json(file) for file in planned.files]
    files += [{"path": path, "class": "conflict", "reason": "not in git"} for path in planned.blocked]
    before = renders.answers_of(request.project)["_commit"]
    return {"from": before, "to": request.version, "notes": list(_acts(planned)), "files": files}


def _end(options: argparse.Namespace, outcome: str, text: str) -> int:
    """The last line; on standard error where standard output is one JSON object."""
    say(f"{outcome}: {text}", error=options.json)
    return CODES[outcome]


if __name__ == "__main__":
    sys.exit(main())
