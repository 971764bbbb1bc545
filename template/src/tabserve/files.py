"""Files: written whole or not at all, never over one that this project did not write; documents read within bounds."""

import atexit
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tabserve.errors import UserError

if sys.platform != "win32":
    import fcntl

BLOCK = 2**22  # bytes that are copied at once
LARGEST, LARGEST_TOML = 2**24, 2**20  # bytes of a document
OUTPUTS = ".outputs"  # a folder beside outputs: for each, a file with its digest and that of the version before
SCRATCH = ".tabserve-"  # the beginning of names of folders in which files are made
LOCK = "lock"


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn an `OSError` while `path` is written into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def check_ours(*paths: Path, force: bool = False) -> None:
    """`UserError` if a file exists that this project did not write, or that was changed since; unless `force`."""
    for path in paths:
        with writable(path):
            real = path.resolve()  # a/../b is b, also where there is no a
            if real.exists() and not real.is_file():
                raise OSError("it is not a regular file")
            if real.exists() and not force and _digest(real) not in _digests(real):
                raise UserError(
                    f"{path} was not written by this project, or was changed since: move it away, choose another file, "
                    "or replace it with --force (make: FORCE=1)"
                )


def discard(path: Path) -> None:
    """Remove an output, unless it is not ours or was changed."""
    with suppress(UserError), writable(path):
        check_ours(path)
        path.resolve().unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(path: Path) -> list[str]:
    """The digests of the last two versions of an output."""
    try:
        return (path.parent / OUTPUTS / path.name).read_text(encoding="utf-8").split()[:2]
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return []


@contextmanager
def outputs(*paths: Path, force: bool = False, listed: bool = True) -> Iterator[list[Path]]:
    """For each path a file to write, which does not exist yet: in the end they take the paths, all of them or none.

    A path whose file was not written stays as it is. Files keep their modes, and links stay links. Every output
    of this project goes through here. Raises `UserError`, also as `check_ours`.

    Args:
        listed: False for files of people that a task edits: the caller has checked that nothing is lost.
    """
    check_ours(*paths, force=force or not listed)
    with ExitStack() as cleanup:
        written = []
        for path in paths:
            with writable(path):
                path.resolve().parent.mkdir(parents=True, exist_ok=True)
                folder = cleanup.enter_context(_scratch(path.resolve().parent))
                written.append(folder / path.name)
        yield written
        check_ours(*paths, force=force or not listed)
        for path, new in zip(paths, written, strict=True):
            with writable(path):
                _prepare(path.resolve(), new, listed)
        for path, new in zip(paths, written, strict=True):
            with writable(path):
                if new.exists():
                    new.replace(path.resolve())


def _prepare(path: Path, new: Path, listed: bool) -> None:
    """Give a new file the mode of the old one, and list its digest.

    Before it takes the path, so that a process that is killed leaves either version as one of ours.
    """
    if not new.exists():
        return
    if path.exists():
        shutil.copymode(path, new)
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    if not listed:
        return
    digests = path.parent / OUTPUTS / path.name
    digests.parent.mkdir(exist_ok=True)
    draft = new.parent / "digests"
    draft.write_text("\n".join([_digest(new), *_digests(path)][:2]) + "\n", encoding="utf-8")
    draft.replace(digests)


def write_atomically(contents: Mapping[Path, bytes], force: bool = False, listed: bool = True) -> None:
    """Write all files or none, see `outputs`: readers see old files or new ones, never half of one."""
    with outputs(*contents, force=force, listed=listed) as written:
        for path, new in zip(contents, written, strict=True):
            with writable(path):
                new.write_bytes(contents[path])


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
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
    return folder.enter_context(_scratch(Path(tempfile.gettempdir())))


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
