"""Write what the docs quote: the options from copier.yml, and the tasks and files of a rendered project.

    make docs                                   # what takes seconds
    python tools/write_docs.py --transcript     # also what `make new` prints; needs the package index

A quoted part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; a test fails when one is out of date.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import copier
import yaml

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ROOT / "docs/options.md"
QUOTING = (ROOT / "README.md", ROOT / "docs/use.md")
NO_DEFAULT = "empty"
NAMES = frozenset(yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8")))


def main() -> None:
    """Write every document again."""
    extra = {"transcript": transcript()} if "--transcript" in sys.argv[1:] else {}
    for path, text in documents(extra).items():
        path.write_text(text, encoding="utf-8")


def documents(extra: Mapping[str, str] | None = None) -> dict[Path, str]:
    """Each document as it should be; `extra` holds quotations that take long to make."""
    parts = {**quotations(), **(extra or {})}
    quoted = {path: quote(path.read_text(encoding="utf-8"), parts) for path in QUOTING}
    return {OPTIONS: options(yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))), **quoted}


# --- options


def options(questions: dict[str, Any]) -> str:
    """The questions as a Markdown document."""
    asked = {name: q for name, q in questions.items() if not name.startswith("_") and q.get("when") is not False}
    head = """# Options

What the template asks, in this order: ten questions at most, and the rest only when `details` is `yes`. Any answer can
be given with `--data question=answer` or in an answers file. Generated from `copier.yml` by `make docs`; do not edit.
"""
    return "\n".join([head, *(option(name, question) for name, question in asked.items())])


def option(name: str, question: dict[str, Any]) -> str:
    """One question."""
    lines = [f"## `{name}`", "", question["help"], ""]
    lines += [f"- `{value}`: {text.partition(': ')[2] or text}" for text, value in question.get("choices", {}).items()]
    lines += [*([""] if "choices" in question else []), f"Default: {default(question['default'])}"]
    if "when" in question:
        lines += ["", f"Asked when {condition(question['when'])}."]
    if "ask" in question:
        lines += ["", f"Asked when {condition(question['ask'])}."]
    return "\n".join([*lines, ""])


def default(value: Any) -> str:
    """A default as people read it: a computed one names where it comes from."""
    if value in ("", False):
        return "no" if value is False else NO_DEFAULT
    made = re.sub(r"\{%.*?%\}|'[^']*'", "", str(value))
    if "_folder_name" in made:
        return "derived from the name of the project's folder"
    sources = [name for name in re.findall(r"[a-z_]+", made) if name in NAMES] if "{{" in made else []
    return f"derived from `{sources[0]}`" if sources else f"`{value}`"


def condition(text: str) -> str:
    """`{{ a }}`, `{{ a == 'b' }}`, `{{ a != 'b' }}`, or some of them with `and`, as prose."""
    return " and ".join(map(comparison, text.strip("{} ").split(" and ")))


def comparison(text: str) -> str:
    """One part of a condition as prose; a bare name is a question of yes or no."""
    left, operator, right = text.split() if " " in text else (text, "==", "yes")
    return f"`{left}` is {'not ' if operator == '!=' else ''}`{right.strip(chr(39))}`"


# --- quotations


def quotations() -> dict[str, str]:
    """What the documents quote, by name."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "my-model"
        copier.run_copy(str(ROOT), project, defaults=True, quiet=True, vcs_ref="HEAD")
        return {"tasks": tasks(project)}


def tasks(project: Path) -> str:
    """What `make help` prints in the project."""
    printed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    return f"```text\n{printed.rstrip()}\n```"


def transcript() -> str:
    """What `make new` prints."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["make", "--no-print-directory", "new", "DEST=../my-model"]
        clone = Path(folder) / "copier-mlops"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = os.environ | {"COLUMNS": "110"}
        run = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True, env=environment)
    lines = "\n".join(line.rstrip() for line in run.stdout.strip().splitlines())
    return f"```text\n$ make new DEST=../my-model\n{lines}\n```"


def quote(text: str, parts: dict[str, str]) -> str:
    """The text with every quoted part replaced by what it should be."""
    for name, part in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        if begin in text:
            before, _, rest = text.partition(begin)
            text = f"{before}{begin}{part}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    main()
