"""What the template renders with a project's answers, in two versions. Runs where copier is installed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import copier
import yaml

from tabserve.errors import UserError

ANSWERS = ".copier-answers.yml"
SOURCE = re.compile(r"^_src_path: .*$", re.MULTILINE)


def answers_of(project: Path) -> dict[str, Any]:
    """The answers of a project, with copier's own under names that begin with `_`."""
    found: dict[str, Any] = yaml.safe_load((project / ANSWERS).read_text(encoding="utf-8"))
    return found


def render(
    template: Path, version: str, answers: Mapping[str, Any], folder: Path, source: str, asks: bool = False
) -> None:
    """Render a version; a question that has no answer gets its default, or is asked.

    Args:
        template: a clone of the template.
        source: what the answers of the render name as the template's address.
        asks: whether a person answers the questions that have no answer.
    """
    data = {name: value for name, value in answers.items() if not name.startswith("_")}
    try:
        _copy(template, version, data, folder, asks)
    except (ValueError, TypeError) as error:  # of the type of a question
        given = ", ".join(f"{name}={value}" for name, value in data.items() if f"'{value}'" in str(error))
        raise UserError(f"{given} does not fit its question: {error}" if given else str(error)) from None
    name_source(folder, source)


def _copy(template: Path, version: str, data: dict[str, Any], folder: Path, asks: bool) -> None:
    copier.run_copy(
        str(template),
        folder,
        data=data,
        vcs_ref=version,
        defaults=not asks,
        quiet=True,
        skip_tasks=True,
        overwrite=True,
    )


def name_source(render: Path, source: str) -> None:
    """Write the template's address into the answers of a render."""
    path = render / ANSWERS
    line = yaml.safe_dump({"_src_path": source}, width=10**6, allow_unicode=True).strip()
    path.write_text(SOURCE.sub(lambda _: line, path.read_text(encoding="utf-8")), encoding="utf-8")


def new_questions(before: Mapping[str, Any], after: Path) -> dict[str, Any]:
    """The answers of a render to questions that had none before."""
    return {name: value for name, value in answers_of(after).items() if name not in before and not name.startswith("_")}
