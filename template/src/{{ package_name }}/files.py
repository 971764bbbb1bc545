"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing `path` into one line.

    Raises:
        UserError: whatever the system said.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def write_atomically(contents: Mapping[Path, bytes]) -> None:
    """Write beside each path, then rename: a reader sees old files or new ones, whole.

    Nothing is renamed before everything is written, so a full disk or a folder that is none changes nothing.

    Raises:
        UserError: a folder or a file cannot be written.
    """
    written: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with writable(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                written[path] = _written_beside(path, content)
        for path, temporary in written.items():
            with writable(path):
                temporary.replace(path)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)


def _written_beside(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
