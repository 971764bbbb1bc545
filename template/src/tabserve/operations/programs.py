"""Programs that tasks call: git, docker, kubectl and the tools of development."""

import shutil
import subprocess

from tabserve.errors import UserError

SECONDS = 120


def call(*command: str) -> None:
    """Run a program that writes to the terminal itself; where it fails, exit with its code."""
    if code := code_of(*command):
        raise SystemExit(code)


def code_of(*command: str) -> int:
    """Run a program that writes to the terminal itself; returns its exit code."""
    return subprocess.run([path_of(command[0]), *command[1:]], check=False).returncode


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program with a text as input, and keep what it prints; `UserError` if it is missing or hangs."""
    path = path_of(command[0])
    try:
        return subprocess.run(
            [path, *command[1:]], input=text, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"`{' '.join(command[:3])}` did not answer in {SECONDS} s") from None


def output(*command: str) -> str:
    """What a program prints; nothing where it is not installed or fails."""
    done = run(*command) if shutil.which(command[0]) else None
    return "" if done is None or done.returncode else done.stdout.strip()


def path_of(program: str) -> str:
    """Where a program is, or `UserError` where it is not installed."""
    if found := shutil.which(program):
        return found
    raise UserError(f"{program} is not installed, or not on the PATH")


def last_line(text: str) -> str:
    """The last line that says something, without a program's own `error: `."""
    lines = [line.strip().removeprefix("error: ") for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
