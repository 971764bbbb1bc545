"""The tasks of updates from the template."""

import argparse
from collections.abc import Callable
from pathlib import Path

from tabserve.errors import UserError, one_line, say
from tabserve.project import Project
from tabserve.updating import applying, checks, request, start, undoing
from tabserve.updating.git import Git, GitError, forget_elsewhere

REFUSED, FAILED = 2, 3  # exit codes: nothing was touched; committed, but a check failed


def update(arguments: argparse.Namespace, project: Project) -> None:
    """`update`: show what the template has changed since, and merge it."""
    try:
        code = start.update(arguments)
    except (UserError, GitError) as error:
        say(f"refused: {error}", error=True)
        code = REFUSED
    raise SystemExit(code)


def update_check(arguments: argparse.Namespace, project: Project) -> None:
    """`update-check`: whether the template has a newer version."""
    raise SystemExit(start.check(arguments))


def update_diff(arguments: argparse.Namespace, project: Project) -> None:
    """`update-diff`: how the project differs from its version of the template."""
    raise SystemExit(start.differences(arguments))


def update_continue(arguments: argparse.Namespace, project: Project) -> None:
    """`update-continue`: commit an update whose conflicts are resolved, and check it as `update` does."""
    commit = _git(applying.resume)
    if not arguments.no_checks and (failed := checks.failed(Path.cwd(), _package(project))):
        say(f"failed-checks: {'; '.join(failed)}. The update is committed; `make update-abort` undoes it")
        raise SystemExit(FAILED)
    say(f"updated: {commit[:12]}; `make update-abort` undoes it")


def update_abort(arguments: argparse.Namespace, project: Project) -> None:
    """`update-abort`: go back to the commit before the update."""
    say(f"back at {_git(undoing.abort)[:12]}, as before the update")


def _git(task: Callable[[Git], str]) -> str:
    """What a task does in the project's repository; an error of git gets one line."""
    forget_elsewhere()
    try:
        return task(Git(Path.cwd()))
    except GitError as error:
        raise UserError(one_line(error)) from None


def _package(project: Project) -> str:
    return project.pipelines.partition(".")[0]


def update_request(arguments: argparse.Namespace, project: Project) -> None:
    """`update-request`: push an update to a branch, and open a pull request."""
    say(request.open_request(project.name, arguments.provider, arguments.source))
