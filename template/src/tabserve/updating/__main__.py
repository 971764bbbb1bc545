"""The updater of a version: `python -m tabserve.updating`, where copier is installed. Its older versions start it."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from copier.errors import CopierAnswersInterrupt, CopierError, InteractiveSessionError
from yaml import YAMLError

from tabserve.errors import UserError, one_line, say, suggestion
from tabserve.updating import applying, checks, differences, notes, preview, record, renders, session
from tabserve.updating.git import Git, GitError, forget_elsewhere

CODES = {"updated": 0, "up-to-date": 0, "conflicts": 1, "refused": 2, "failed-checks": 3}


def main(arguments: list[str] | None = None) -> int:
    """Preview an update, and carry it out; returns the exit code. The last line begins with what happened."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix=".tabserve-update-") as folder:
            forget_elsewhere()
            return _run(options, Path(folder))
    except (KeyboardInterrupt, EOFError, InteractiveSessionError, CopierAnswersInterrupt):
        say("refused: interrupted, and nothing was touched", error=True)
    except (UserError, GitError, CopierError, OSError, ValueError, TypeError, YAMLError) as error:
        say(f"refused: {one_line(error)}", error=True)
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
        say(json.dumps(_as_json(planned, request)))
    elif planned.is_news:
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
    back = applying.way_back(planned.head)
    if planned.patch:
        patch = os.path.relpath(record.path_of(Git(request.project), ".patch"), request.project)
        say(f"your own files stay as they are; the template's changes to them: git apply --3way {patch}", True)
    if planned.merged.conflicts:
        for path, reason in planned.merged.conflicts.items():
            say(f"conflict: {path} ({applying.meaning(reason)})", True)
        return _end(
            options, "conflicts", f"resolve them, then `make update-continue`; or `make update-abort`; or {back}"
        )
    try:
        failed = planned.faults or _failed(options, request, planned)
    except KeyboardInterrupt:
        failed = ["interrupted"]
    if failed:
        way_back = f"`make update-abort` undoes it, or {back}"
        return _end(options, "failed-checks", f"{'; '.join(failed)}. The update is committed; {way_back}")
    return _end(options, "updated", f"{_route(planned)}; `make update-abort` undoes it")


def _failed(options: argparse.Namespace, request: session.Request, planned: session.Plan) -> list[str]:
    """Make the lock again and run the checks; returns those that fail. Without an index they are left for later."""
    said = applying.add_lock(Git(request.project)) if planned.locks else ""
    if "unsatisfiable" in said and not checks.is_offline(said):
        return [f"uv.lock: {said}"]
    if said:
        say("uv.lock could not be made again: run `uv lock` later, then `make lint test`", True)
    return [] if said or options.no_checks else checks.failed(request.project, planned.package)


def _data(options: argparse.Namespace) -> dict[str, Any]:
    try:
        found = yaml.safe_load(options.answers.read_text(encoding="utf-8")) if options.answers else {}
    except YAMLError as error:
        raise UserError(f"{options.answers} is not valid YAML: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{options.answers}: write one `question: answer` a line")
    for pair in options.data:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--data {pair}: write --data question=answer")
        found[name] = value
    _check_questions(options, found)
    return found


def _check_questions(options: argparse.Namespace, data: Mapping[str, Any]) -> None:
    """Copier ignores answers to questions that there are not; raises `UserError`."""
    text = Git(options.template).run("show", f"{options.to}:copier.yml")
    questions = [name for name in yaml.safe_load(text) if not name.startswith("_")]
    for name in data:
        if name not in questions and not str(name).startswith("_"):
            raise UserError(f"there is no question {name!r}{suggestion(str(name), questions)}")


def _agreed() -> bool:
    return input("Update? (y/N) ").strip().lower() in ("y", "yes")


def _route(planned: session.Plan) -> str:
    before, after = planned.versions
    return f"{before} -> {after}" if before != after else f"{after}, with other answers"


def _lines(planned: session.Plan) -> Iterator[str]:
    yield _route(planned)
    for number, changes in planned.changes:
        yield f"\n{number}\n{notes.BEFORE.sub('', changes).strip()}"
    if acts := list(_acts(planned)):
        yield from ("", "Before you deploy:", *(f"- {act}" for act in acts))
    if planned.locks:
        yield "\nThe dependencies change, so uv.lock is made again."
    yield ""
    for name, answer in planned.questions.items():
        yield f"new question {name}: {answer}; another answer: --data {name}=..."
    yield from preview.lines(planned.files)
    yield from (f"conflict: {path} is not in git, and the template adds it" for path in planned.blocked)
    yield from (f"merged, but wrong: {fault}" for fault in planned.faults)


def _acts(planned: session.Plan) -> Iterator[str]:
    """What the person has to know or to do before the next deployment."""
    for number, changes in reversed(planned.changes):
        yield from (f"{number}: {act}" for act in notes.before_you_deploy(changes))
    yield from planned.settings


def _as_json(planned: session.Plan, request: session.Request) -> dict[str, Any]:
    files = [preview.as_json(file) for file in planned.files]
    files += [{"path": path, "class": "conflict", "reason": "not in git"} for path in planned.blocked]
    before = renders.answers_of(request.project)["_commit"]
    return {"from": before, "to": request.version, "notes": list(_acts(planned)), "files": files}


def _end(options: argparse.Namespace, outcome: str, text: str) -> int:
    """The last line; on standard error where standard output is one JSON object."""
    try:
        say(f"{outcome}: {text}", error=options.json)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads it any more; the exit code still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CODES[outcome]


if __name__ == "__main__":
    sys.exit(main())
