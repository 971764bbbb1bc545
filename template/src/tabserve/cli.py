"""The command line. A task's module is imported when it runs: `serve` needs no training library."""

import os
import signal
import sys
import traceback
from types import FrameType

from tabserve.errors import UserError, say
from tabserve.project import Project


def main(project: Project, arguments: list[str] | None = None) -> int:
    """Run one task of a project; returns the exit code."""
    # Process 1 of a container ignores a signal without a handler, also during imports, so all else is imported later.
    signal.signal(signal.SIGTERM, _end)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        run(project, arguments)
    except KeyboardInterrupt:
        say("interrupted", error=True)
        return 130
    except Exception as error:
        if "--debug" in given or ("serve" in given[:1] and not isinstance(error, UserError)):
            say(traceback.format_exc(), error=True, end="")
            return 1
        hint = "" if isinstance(error, UserError) else f" ({type(error).__name__}; --debug shows the traceback)"
        say(f"error: {' '.join(str(error).split())}{hint}", error=True)
        return 1
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    if "serve" in sys.argv[1:2]:
        os._exit(0)  # nothing is served yet, and modules that are being imported may swallow SystemExit
    sys.exit(128 + number)


def run(project: Project, arguments: list[str] | None) -> None:
    """Run the task that the arguments name; raises `UserError`."""
    from importlib import import_module

    from tabserve.tasks.options import parse

    parsed = parse(project.name, arguments)
    try:
        task = getattr(import_module(f"tabserve.tasks.{parsed.module}"), parsed.function)
        task(parsed, project)
    except ModuleNotFoundError as error:
        raise UserError(
            f"this task needs {error.name}, and a wheel brings only what `serve` needs: run it in the project, or "
            "install what [dependency-groups] in its pyproject.toml lists"
        ) from None
