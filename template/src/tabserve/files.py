"""Writing files so that nobody ever sees half of one, and files that go when the process ends."""

from __future__ import annotations

import atexit
import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tabserve.errors import UserError

BLOCK = 2**22


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


# --- files of this process


@functools.cache
def folder() -> Path:
    """A folder that goes when the process ends."""
    made = Path(tempfile.mkdtemp(prefix="table-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@contextmanager
def temporary(ending: str) -> Iterator[Path]:
    """A file of this process; it does not stay when it cannot be completed."""
    handle, name = tempfile.mkstemp(dir=folder(), suffix=ending)
    os.close(handle)
    try:
        yield Path(name)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def start(path: Path, size: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)
