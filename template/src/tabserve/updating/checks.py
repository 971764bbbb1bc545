"""What is checked after an update, in the project's environment: its lock, contract.yaml, `lint` and `test`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tabserve.errors import say

CONTRACT = "from pathlib import Path; from tabserve.contract import file; file.load(Path('contract.yaml'))"
OFFLINE = (
    *("Failed to fetch", "dns error", "network was disabled", "not found in the cache"),
    *("Could not connect", "Connection refused"),
)
TAIL = 20  # lines of what a failed check printed


def is_offline(said: str) -> bool:
    """Whether uv failed because it reached no package index."""
    return any(sign in said for sign in OFFLINE)


def is_ready(project: Path) -> bool:
    """Whether the environment is that of the lock, or could be made so."""
    return not _uv(project, "sync", "--quiet").returncode


def failed(project: Path, package: str) -> list[str]:
    """Run all checks; returns the names of those that fail, and prints the end of what they say.

    Without an index, they are left for later.
    """
    if not is_ready(project):
        say("the dependencies could not be installed: run `make lint test` later", error=True)
        return []
    return [name for name, command in _checks(project, package) if not _passes(project, name, command)]


def _checks(project: Path, package: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if (project / "contract.yaml").exists():
        yield "contract.yaml", ("-c", CONTRACT)
    yield "lint", ("-m", package, "lint")
    yield "test", ("-m", package, "test")


def _passes(project: Path, name: str, command: tuple[str, ...]) -> bool:
    done = _uv(project, "run", "--quiet", "python", *command)
    say(f"{'ok' if not done.returncode else 'failed'}  {name}", error=True)
    if done.returncode:
        lines = done.stdout.strip().splitlines()[-(1 if CONTRACT in command else TAIL) :]
        say("\n".join(lines).replace("tabserve.errors.UserError: ", "error: "), error=True)
    return not done.returncode


def _uv(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What uv does as if the project had started it, not the updater."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [os.environ.get("UV", "uv"), *arguments],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
