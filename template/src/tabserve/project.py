"""What a project hands over. Tabserve reads nothing else of the project's own package."""

from __future__ import annotations

import importlib.util
import pkgutil
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabserve.errors import UserError


@dataclass(frozen=True)
class Project:
    """References to three things, each `package.module:name` and imported only by the tasks that need it.

    The image of the server, for example, has no library that `pipelines` imports.

    Attributes:
        name: of the command.
        pipelines: a function of task, columns and seed that returns a mapping of names to unfitted pipelines.
        features: a mapping of names to derived features.
        application: a function of the server's settings that returns the FastAPI application.
    """

    name: str
    pipelines: str
    features: str
    application: str


def handed_over(reference: str) -> Any:
    """What a reference of a project names.

    Raises:
        UserError: it cannot be imported, whatever a person wrote there.
    """
    try:
        return pkgutil.resolve_name(reference)
    except Exception as error:
        module, _, name = reference.partition(":")
        file = f"{module.rpartition('.')[2]}.py"
        if isinstance(error, AttributeError) and not _frames(error, source(reference)):
            raise UserError(f"{file} has no {name}") from None
        raise UserError(f"{file} cannot be imported: {described(error, source(reference))}") from error


def source(reference: str) -> Path | None:
    """The file that a reference leads to, where there is one."""
    try:
        found = importlib.util.find_spec(reference.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin else None


def described(error: BaseException, file: Path | None) -> str:
    """What was raised, and in which line of the project's own code, as far as that is known.

    Args:
        file: whose folder is the project's own package.
    """
    lines = _frames(error, file)
    where = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def _frames(error: BaseException, file: Path | None) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if file and Path(frame.filename).is_relative_to(file.parent)]
