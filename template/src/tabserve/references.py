"""Import what a project names by reference, `package.module:name`, and say what is wrong with it."""

import importlib.util
import pkgutil
import traceback
from pathlib import Path
from typing import Any

from tabserve.errors import UserError, printable


def handed_over(reference: str) -> Any:
    """The object that a reference names; raises `UserError` if it cannot be imported."""
    file, name = _file_and_name(reference)
    try:
        return pkgutil.resolve_name(reference)
    except (Exception, SystemExit) as error:
        if isinstance(error, AttributeError) and not _own_frames(error, source(reference)):
            raise UserError(f"{file} has no {name}") from None
        raise UserError(f"{file} cannot be imported: {described(error, source(reference))}") from error


def application(reference: str, settings: Any) -> Any:
    """The application that a function returns; raises `UserError` if it fails or returns something else."""
    create = handed_over(reference)
    file, name = _file_and_name(reference)
    try:
        made = create(settings)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{file}: {name}() fails: {described(error, source(reference))}") from error
    if not callable(made) or isinstance(made, type):
        raise UserError(f"{file}: {name}() must return the application, not {made!r}")
    return made


def _file_and_name(reference: str) -> tuple[str, str]:
    module, _, name = reference.partition(":")
    return f"{module.rpartition('.')[2]}.py", name


def source(reference: str) -> Path | None:
    """The file that defines a reference, if it can be found."""
    try:
        found = importlib.util.find_spec(reference.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin else None


def described(error: BaseException, file: Path | None) -> str:
    """An error, with the last line in the package of `file` that raised it, if any."""
    frames = _own_frames(error, file)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(printable(str(error), lines=True).split())[:300]}{where}"


def _own_frames(error: BaseException, file: Path | None) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if file and Path(frame.filename).is_relative_to(file.parent)]
