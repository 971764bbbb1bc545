"""Atomic writes, and temporary files of this process."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tabserve.errors import UserError

BLOCK = 2**22  # bytes that are copied at once


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn an `OSError` while `path` is written into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def write_atomically(contents: Mapping[Path, bytes]) -> None:
    """Write all files beside their paths, then rename them: readers see old files or new ones, never half of one.

    Nothing is renamed before everything is written, so a full disk changes nothing. Files keep their modes, and links
    stay links. Raises `UserError`.
    """
    with ExitStack() as cleanup:
        written = {}
        for link, content in contents.items():
            path = link.resolve()
            with writable(link):
                if path.exists() and not path.is_file():
                    raise OSError("it is not a regular file")
                path.parent.mkdir(parents=True, exist_ok=True)
                folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
                written[path] = Path(cleanup.enter_context(folder)) / path.name
                with written[path].open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                if path.exists():
                    shutil.copymode(path, written[path])
        for path, complete in written.items():
            with writable(path):
                complete.replace(path)


def temporary(suffix: str) -> Path:
    """A new empty file, deleted when the process ends."""
    handle, name = tempfile.mkstemp(prefix="table-", suffix=suffix)
    os.close(handle)
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)


def start(path: Path, size: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)
