"""Lint the template's files in place: plain files as they are, Python files with values after putting values in.

    make lint

Principle 1 of docs/design.md: Python and YAML files carry values (`{{ x }}`) at most, no control flow.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1] / "template"
RUFF = Path(sys.executable).with_name("ruff")
CONTROL = re.compile(r"\{%")
JINJA = re.compile(r"\{[{%]")
VALUE = re.compile(r"\{\{ (\w+) \}\}")
PLAIN_KINDS = (".py", ".yaml", ".yml")


def main() -> int:
    """Print what is wrong; returns the exit code."""
    problems = [*control_lines(), *needless_suffixes(), *ruff_in_place(), *ruff_with_values()]
    print(*problems, sep="\n", file=sys.stderr) if problems else print("template: all files are plain and clean")
    return 1 if problems else 0


def files() -> Iterator[Path]:
    """Every file of the template."""
    return (path for path in sorted(TEMPLATE.rglob("*")) if path.is_file())


def kind(path: Path) -> str:
    """The ending of the rendered file's name, also where a condition in the name hides it."""
    return Path(re.sub(r"\{%.*?%\}", "", path.name).removesuffix(".jinja")).suffix


def control_lines() -> Iterator[str]:
    """Control flow in Python and YAML files."""
    for path in files():
        if kind(path) in PLAIN_KINDS and CONTROL.search(path.read_text(encoding="utf-8")):
            yield f"{path}: control flow in a file that should be plain: put the condition into the file's name"


def needless_suffixes() -> Iterator[str]:
    """Files that are named .jinja and hold no Jinja."""
    for path in files():
        if path.suffix == ".jinja" and not JINJA.search(path.read_text(encoding="utf-8")):
            yield f"{path}: named .jinja without any Jinja in it: take the suffix away"


def ruff_in_place() -> Iterator[str]:
    """The package and everything else that is plain Python, read where it lies."""
    for command in (
        ("check", "--quiet", "--extend-ignore", "N999", "--output-format", "concise"),
        ("format", "--check", "--quiet"),
    ):
        yield from ruff(*command, str(TEMPLATE))


def ruff_with_values() -> Iterator[str]:
    """Python files with values in them, through standard input under their own name."""
    for path in files():
        if path.name.endswith(".py.jinja"):
            source = VALUE.sub(r"\1", path.read_text(encoding="utf-8"))
            name = str(path.with_suffix(""))
            first_party = 'lint.isort.known-first-party=["package_name"]'
            options = ("--quiet", "--output-format", "concise", "--config", first_party)
            yield from ruff("check", *options, "--stdin-filename", name, "-", text=source)
            yield from ruff("format", "--check", "--quiet", "--stdin-filename", name, "-", text=source)


def ruff(*arguments: str, text: str | None = None) -> Iterator[str]:
    """What ruff says where it fails."""
    done = subprocess.run(
        [RUFF, arguments[0], "--no-cache", *arguments[1:]], input=text, capture_output=True, text=True
    )
    if done.returncode:
        yield (done.stdout + done.stderr).strip() or f"ruff {arguments[0]} would change {arguments[-2]}"


if __name__ == "__main__":
    raise SystemExit(main())
