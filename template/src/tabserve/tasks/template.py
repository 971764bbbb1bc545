"""The tasks of updates from the template."""

import argparse
from pathlib import Path

from tabserve.errors import UserError, say
from tabserve.project import Project
from tabserve.updating import applying, request, start
from tabserve.updating.git import Git, GitError

REFUSED = 2  # the exit code of an update that touched nothing


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
    """`update-continue`: commit an update whose conflicts are resolved."""
    say(f"updated: {applying.resume(Git(Path.cwd()))[:12]}; `make update-abort` undoes it")


def update_abort(arguments: argparse.Namespace, project: Project) -> None:
    """`update-abort`: go back to the commit before the update."""
    say(f"back at {applying.abort(Git(Path.cwd()))[:12]}, as before the update")


def update_request(arguments: argparse.Namespace, project: Project) -> None:
    """`update-request`: push an update to a branch, and open a pull request."""
    say(request.open_request(project.name, arguments.provider, arguments.source))
