"""Programs that tasks call: git, docker, kubectl and the tools of development."""

import shutil
import subprocess

from tabserve.errors import UserError


def call(*command: str) -> None:
    """Run a program that writes to the terminal itself.

    Raises:
        UserError: it is not installed.
        SystemExit: it failed, and has said why.
    """
    if code := code_of(*command):
        raise SystemExit(code)


def code_of(*command: str) -> int:
    """Run a program that writes to the terminal itself; returns its exit code.

    Raises:
        UserError: it is not installed.
    """
    return subprocess.run([path_of(command[0]), *command[1:]], check=False).returncode


def output(*command: str) -> str:
    """What a program prints; nothing where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    return "" if done.returncode else done.stdout.strip()


def path_of(program: str) -> str:
    """Where a program is.

    Raises:
        UserError: it is not installed.
    """
    if found := shutil.which(program):
        return found
    raise UserError(f"{program} is not installed, or not on the PATH")
