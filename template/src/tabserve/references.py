"""What a project hands over by reference, `package.module:name`: importing it, and saying what is wrong with it."""

from __future__ import annotations

import importlib.util
import pkgutil
import traceback
from pathlib import Path
from typing import Any

from tabserve.errors import UserError


def handed_over(reference: str) -> Any:
    """What a reference of a project names.

    Raises:
        UserError: it cannot be imported, whatever a person wrote there.
    """
    try:
        return pkgutil.resolve_name(reference)
    except (Exception, SystemExit) as error:
        file, name = _place(reference)
        if isinstance(error, AttributeError) and not _frames(error, source(reference)):
            raise UserError(f"{file} has no {name}") from None
        raise UserError(f"{file} cannot be imported: {described(error, source(reference))}") from error


def application(reference: str, settings: Any) -> Any:
    """The application that a function makes.

    Raises:
        UserError: the function cannot be imported or called, or makes something else.
    """
    create = handed_over(reference)
    file, name = _place(reference)
    try:
        made = create(settings)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{file}: {name}() fails: {described(error, source(reference))}") from error
    if not callable(made) or isinstance(made, type):
        raise UserError(f"{file}: {name}() must return the application, not {made!r}")
    return made


def _place(reference: str) -> tuple[str, str]:
    """The name of the file, and the name in it."""
    module, _, name = reference.partition(":")
    return f"{module.rpartition('.')[2]}.py", name


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
