"""Outputs: written whole or not at all, and never over a file that the same task of this project did not write."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tabserve.errors import UserError
from tabserve.files import scratch

LISTS = ".tabserve"  # a folder beside outputs: for each, a file with its writer and the digests of two versions


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn an `OSError` while `path` is written into a `UserError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 raise the second one for a loop of links
        raise UserError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def check_ours(*paths: Path, writer: str, force: bool = False) -> None:
    """`UserError` if a file exists that `writer` did not write, or that was changed since; unless `force`."""
    for path in paths:
        with writable(path):
            real = path.resolve()  # a/../b is b, also where there is no a
            if real.exists() and not real.is_file():
                raise OSError("it is not a regular file")
            if real.exists() and not force and _digest(real) not in _digests(real, writer):
                raise UserError(
                    f"{path} was not written by `{writer}`, or was changed since: move it away, choose another file, "
                    "or replace it with --force (make: FORCE=1)"
                )


def discard(path: Path, writer: str) -> None:
    """Remove an output, unless it is not the writer's or was changed."""
    with suppress(UserError), writable(path):
        check_ours(path, writer=writer)
        path.resolve().unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(path: Path, writer: str) -> list[str]:
    """The digests of the last two versions of an output of this writer."""
    list_ = _list(path)
    if list_.parent.is_symlink() or not list_.is_file():
        return []
    try:
        first, *digests = list_.read_text(encoding="utf-8").splitlines()
    except ValueError:
        return []
    return digests[:2] if first == writer else []


def _list(path: Path) -> Path:
    return path.parent / LISTS / path.name


def _check_list(path: Path, writer: str) -> None:
    folder = _list(path).parent
    if writer and os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise OSError(f"{folder} is in the way: remove it")


@contextmanager
def outputs(*paths: Path, writer: str, force: bool = False) -> Iterator[list[Path]]:
    """For each path a file to write, which does not exist yet: in the end they take the paths, all of them or none.

    A path whose file was not written stays as it is. Files keep their modes, and links stay links. Every output
    of this project goes through here. Raises `UserError`, also as `check_ours`.

    Args:
        writer: the project and the task; empty for a file of people that a task edits, after it has checked itself
            that nothing is lost.
    """
    check_ours(*paths, writer=writer, force=force or not writer)
    with ExitStack() as cleanup:
        written = []
        for path in paths:
            with writable(path):
                path.resolve().parent.mkdir(parents=True, exist_ok=True)
                _check_list(path.resolve(), writer)
                folder = cleanup.enter_context(scratch(path.resolve().parent)) / "new"
                folder.mkdir()
                written.append(folder / path.name)
        yield written
        check_ours(*paths, writer=writer, force=force or not writer)
        for path, new in zip(paths, written, strict=True):
            with writable(path):
                _prepare(path.resolve(), new, writer)
        for path, new in zip(paths, written, strict=True):
            with writable(path):
                if new.exists():
                    new.replace(path.resolve())


def _prepare(path: Path, new: Path, writer: str) -> None:
    """Give a new file the mode of the old one, and list its digest.

    Before it takes the path, so that a process that is killed leaves either version as one of the writer's.
    """
    if not new.exists():
        return
    if path.exists():
        shutil.copymode(path, new)
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    if not writer:
        return
    _check_list(path, writer)
    _list(path).parent.mkdir(exist_ok=True)
    before = [_digest(path)] if path.exists() else []
    draft = new.parent.with_name("list")
    draft.write_text("\n".join([writer, _digest(new), *before]) + "\n", encoding="utf-8")
    draft.replace(_list(path))


def write_atomically(contents: Mapping[Path, bytes], writer: str, force: bool = False) -> None:
    """Write all files or none, see `outputs`: readers see old files or new ones, never half of one."""
    with outputs(*contents, writer=writer, force=force) as written:
        for path, new in zip(contents, written, strict=True):
            with writable(path):
                new.write_bytes(contents[path])
