"""Files: documents within bounds of size, and temporary ones, which no process leaves behind for long."""

import atexit
import functools
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

BLOCK = 2**22  # bytes that are copied at once
LARGEST, LARGEST_TOML = 2**24, 2**20  # bytes of a document
SCRATCH = ".tabserve-"  # the beginning of names of folders in which files are made
LOCK = "lock"


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new folder for this process; those of processes that were killed are removed."""
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix=SCRATCH, ignore_cleanup_errors=True) as name,
        ExitStack() as held,
    ):
        folder = Path(name)
        with suppress(OSError):  # some volumes have no locks
            held.enter_context(_locked(folder))
        for left in parent.glob(f"{SCRATCH}*"):
            with suppress(OSError):
                # One without a lock is not ours, or is being made; somebody else's may hold a link in its place.
                ours = (left / LOCK).is_file() and left.lstat().st_uid == folder.stat().st_uid
                if left != folder and ours:
                    with _locked(left):
                        shutil.rmtree(left, ignore_errors=True)
        yield folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder; `OSError` where another process does. The lock of a process ends with it."""
    lock, new = folder / LOCK, folder / f"new-{LOCK}"
    if sys.platform == "win32":
        lock.unlink(missing_ok=True)  # fails while it is open
        with lock.open("a"):
            yield
    else:
        with (lock if lock.exists() else new).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                new.rename(lock)  # it is held before others see it
            yield


@functools.cache
def _temporary_folder() -> Path:
    folder = ExitStack()
    atexit.register(folder.close)
    return folder.enter_context(scratch(Path(tempfile.gettempdir())))


def temporary(suffix: str) -> Path:
    """A new empty file, deleted when the process ends, or by the next one if it is killed."""
    handle, name = tempfile.mkstemp(dir=_temporary_folder(), suffix=suffix)
    os.close(handle)
    return Path(name)


def start(path: Path, size: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)


def text_of(path: Path, largest: int = LARGEST) -> str:
    """The text of a file in UTF-8; `ValueError` if it is too large, or not valid."""
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest:,} bytes")
    return content.decode().replace("\r\n", "\n")


def toml(path: Path) -> dict[str, Any]:
    """A TOML file; `ValueError` if it is not valid."""
    try:
        return tomllib.loads(text_of(path, LARGEST_TOML))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
