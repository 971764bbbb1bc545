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

from tabserve.errors import UserError, say
from tabserve.updating import applying, notes, preview, session
from tabserve.updating.git import Git, GitError

CODES = {"updated": 0, "up-to-date": 0, "conflicts": 1, "refused": 2, "failed-checks": 3}


def main(arguments: list[str] | None = None) -> int:
    """Preview an update, and carry it out; returns the exit code. The last line begins with what happened."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix=".tabserve-update-") as folder:
            return _run(options, Path(folder))
    except (UserError, GitError, CopierError, OSError) as error:
        say(f"refused: {error}", error=True)
        return CODES["refused"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True, help="a clone")
    parser.add_argument("--source", required=True, help="its address")
    parser.add_argument("--to", required=True)
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--branch", default="")
    for switch in ("--yes", "--dry-run", "--json"):
        parser.add_argument(switch, action="store_true")
    return parser


def _run(options: argparse.Namespace, folder: Path) -> int:
    request = session.Request(options.project, options.template, options.source, options.to, _data(options))
    planned = session.plan(request, folder)
    if options.json:
        say(json.dumps(_as_json(planned, options.to), ensure_ascii=False))
    else:
        say("\n".join(_lines(planned, options.to)))
    if not planned.is_news:
        return _end("up-to-date", f"{planned.version} is what the template renders")
    outcome = "conflicts" if planned.merged.conflicts or planned.blocked else "updated"
    if options.dry_run:
        return _end(outcome, "nothing was touched")
    if planned.blocked:
        raise UserError(f"{planned.blocked[0]} is not in git and would be replaced: move it away, or commit it")
    if not options.yes and not _agreed():
        raise UserError("nothing was touched; --yes updates without a question")
    session.carry_out(request, planned, options.branch)
    if planned.patch:
        say(f"your own files stay as they are; for the template's changes to them: git apply {_patch(request)}")
    if planned.merged.conflicts:
        return _end("conflicts", "resolve them, then `make update-continue`, or `make update-abort`")
    if _changes(planned, "pyproject.toml") and not applying.add_lock(Git(request.project)):
        say("uv.lock could not be made again: run `uv lock` later")
    return _end("updated", f"{planned.version} to {options.to}; `make update-abort` undoes it")


def _changes(planned: session.Plan, path: str) -> bool:
    return any(file.path == path and file.kind != "yours" for file in planned.files)


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


def _lines(planned: session.Plan, version: str) -> Iterator[str]:
    yield f"{planned.version} -> {version}"
    for number, changes in planned.notes:
        yield f"\n{number}\n{notes.BEFORE.sub('', changes).strip()}"
    for number, changes in planned.notes:
        if act := notes.before_you_deploy(changes):
            yield f"\nBefore you deploy {number}:\n{act}"
    yield ""
    for name, answer in planned.questions.items():
        yield f"new question {name}: {answer}; another answer: --data {name}=..."
    yield from preview.lines(planned.files)
    yield from (f"conflict: {path} is not in git, and the template adds it" for path in planned.blocked)


def _as_json(planned: session.Plan, version: str) -> dict[str, Any]:
    acts = [notes.before_you_deploy(changes) for _, changes in planned.notes]
    files = [preview.as_json(file) for file in planned.files]
    return {"from": planned.version, "to": version, "notes": [act for act in acts if act], "files": files}


def _end(outcome: str, text: str) -> int:
    say(f"{outcome}: {text}")
    return CODES[outcome]


if __name__ == "__main__":
    sys.exit(main())
