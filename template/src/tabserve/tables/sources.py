"""Open a table, a file or an address, as a plain local CSV or Parquet file: itself or a converted copy."""

import codecs
import functools
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal
from urllib.parse import unquote, urlsplit

from tabserve.errors import USER, UserError, one_line, without_credentials
from tabserve.files import BLOCK, start, temporary
from tabserve.tables import confined, converters, credentials

Source = str | os.PathLike[str]
Kind = Literal["CSV", "Parquet", "Excel", "JSON lines"]

ENDINGS: dict[Kind, tuple[str, ...]] = {
    "CSV": (".csv", ".tsv", ".txt", ".tab", ".psv", ".data", ".dat"),
    "Parquet": (".parquet", ".pq"),
    "Excel": (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
    "JSON lines": (".jsonl", ".ndjson", ".json"),
}
COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
UNPACKED_BYTES, MOST_TIMES, MOST_LAYERS = 64 * 2**20, 200, 4  # of compressed files
# How often the bytes of a file before and after it was decompressed may be in memory: a cell takes 16 bytes.
MOST_PACKED, MOST_PLAIN = 1_000, {"CSV": 50, "JSON lines": 50, "Parquet": MOST_TIMES, "Excel": MOST_TIMES}
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
OLD_EXCEL = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class Plain:
    """A table as a file that Polars reads."""

    path: Path  # the local file, UTF-8 if it is a CSV
    kind: Kind  # `CSV` or `Parquet`
    original: Path  # the file before it was decompressed and converted
    most: int  # bytes that it may take in memory
    remarks: tuple[str, ...] = ()  # what users should know about how it was read


def is_address(source: Source) -> bool:
    """Whether this is an address, as `https://...` or `s3://...`, and no file."""
    return "://" in os.fspath(source)


def is_same_file(source: Source, path: Path) -> bool:
    """Whether a table is read from this file: by another spelling, by a link, or as `file://`."""
    parts = [re.sub(r"^(file|local):(//)?", "", part) for part in os.fspath(source).split("::")]
    found = [Path(name) for part in parts for name in (part, unquote(part))]
    real = path.resolve()
    return any(each.exists() and real.exists() and each.samefile(real) for each in found)


def kind_by_name(source: Source) -> Kind | None:
    """The kind that the ending of the name stands for, if any."""
    name = urlsplit(os.fspath(source)).path if is_address(source) else os.fspath(source)
    endings = [ending.lower() for ending in PurePosixPath(name).suffixes]
    while endings and endings[-1] in COMPRESSED_ENDINGS:
        endings.pop()
    return next((kind for kind, known in ENDINGS.items() if endings and endings[-1] in known), None)


def plain(source: Source) -> Plain:
    """The table as a plain local file; raises `UserError` if it is missing, unreadable or no table."""
    name = os.fspath(source)
    try:
        if is_address(name):
            return _plain(name)
        found = Path(name).stat()
        return _plain(name, found.st_mtime_ns, found.st_size, found.st_ino)
    except FileNotFoundError:
        raise UserError(f"{name} does not exist") from None
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{name} cannot be read: {getattr(error, 'strerror', None) or one_line(error)}") from None


@functools.lru_cache(maxsize=16)
def _plain(name: str, *version: int) -> Plain:
    """`plain` of one version of a file: a file that changes is read again, an address is fetched once."""
    original = Path(name) if version else _fetched(name)
    if original.is_dir():
        raise UserError(f"{name} is a folder: name a file in it")
    if not original.is_file():
        raise UserError(f"{name} is a pipe or a device, not a file: save it to a file first")
    decompressed = _decompressed(original, name, original.stat().st_size)
    kind = _kind(name, start(decompressed, 4096))
    most = max(
        UNPACKED_BYTES, min(MOST_PLAIN[kind] * decompressed.stat().st_size, MOST_PACKED * original.stat().st_size)
    )
    if kind == "CSV":
        path, remarks = converters.from_csv(decompressed, name)
        return Plain(path, kind, original, most, remarks)
    path = decompressed if kind == "Parquet" else temporary(".parquet")
    return Plain(path, "Parquet", original, most, confined.convert(kind, decompressed, name, path, most))


def _fetched(address: str) -> Path:
    path, complete = temporary(".fetched"), credentials.complete(address)
    try:
        try:
            _fetch(complete, path)
        except Exception as error:
            if not _is_denied(error) or without_credentials(address) != address:
                raise
            _fetch(credentials.complete(credentials.with_user(address)), path)
    except UserError:
        raise
    except (ImportError, ValueError) as error:
        hint = "; add it with `uv add --group table NAME`" if isinstance(error, ImportError) else ""
        raise UserError(f"{address} cannot be read: {one_line(error)}{hint}") from None
    except Exception as error:  # each kind of store has its own errors
        if _is_denied(error):
            raise credentials.missing(address, "rejects these credentials") from None
        first = _first(error)
        reason = "there is no such file" if isinstance(first, FileNotFoundError) else one_line(first)
        if USER.search(address) and without_credentials(address).count("@") > 1:
            reason += "; in a password, write @ as %40 and / as %2F"
        raise UserError(f"{address} cannot be fetched: {reason}") from None
    return path


def _fetch(address: str, path: Path) -> None:
    import fsspec

    with fsspec.open(address, "rb") as remote, path.open("wb") as local:
        shutil.copyfileobj(remote, local, BLOCK)


def _is_denied(error: Exception) -> bool:
    first = _first(error)
    return getattr(first, "status", None) in (401, 403) or isinstance(first, PermissionError)


def _first(error: BaseException) -> Exception:
    """What caused an error in the first place."""
    while error.__cause__:
        error = error.__cause__
    return error  # type: ignore[return-value]


def _decompressed(path: Path, name: str, compressed_size: int, depth: int = 0) -> Path:
    """The file, or a decompressed copy; `compressed_size` is the size of the file that holds all."""
    begin = start(path, 8)
    compression = next((name for magic, name in COMPRESSIONS.items() if begin.startswith(magic)), None)
    if compression is None:
        return path
    if depth == MOST_LAYERS:
        raise UserError(f"{name} is compressed more than {MOST_LAYERS} times over: decompress it first")
    is_workbook, copy = compression == "zip" and _is_workbook(path), temporary(".decompressed")
    try:
        if is_workbook:
            _check_workbook(path, name)
            return path
        with _content(path, compression) as content, copy.open("wb") as out:
            for block in _bounded([content], name, compressed_size):
                out.write(block)
    except UserError:
        raise
    except Exception as error:  # each compression has its own errors
        raise UserError(f"{name} cannot be decompressed: {one_line(error)}") from None
    return _decompressed(copy, name, compressed_size, depth + 1)


def _bounded(contents: Iterable[IO[bytes]], name: str, compressed_size: int) -> Iterator[bytes]:
    """The blocks of decompressed contents; `UserError` where they grow as only an attack does."""
    size = 0
    for content in contents:
        while block := content.read(BLOCK):
            size += len(block)
            if size > max(UNPACKED_BYTES, MOST_TIMES * compressed_size):
                raise UserError(
                    f"{name} grows more than {MOST_TIMES} times when decompressed: if you trust it, decompress it first"
                )
            yield block


def _check_workbook(path: Path, name: str) -> None:
    with zipfile.ZipFile(path) as archive:
        members = (archive.open(member) for member in archive.infolist())
        for _ in _bounded(members, name, path.stat().st_size):
            pass


@contextmanager
def _content(path: Path, compression: str) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a file; of an archive, those of its only file."""
    from fsspec.compression import compr

    if compression == "zip":
        with zipfile.ZipFile(path) as archive:
            # A member is read, never extracted: its name cannot leave a folder.
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/") and not name.endswith("/")]
            if len(names) != 1:
                raise UserError(f"{path} holds {len(names)} files: extract them and name one")
            with archive.open(names[0]) as content:
                yield content
    elif compression in compr:
        with path.open("rb") as raw, compr[compression](raw, mode="rb") as content:
            yield content
    else:
        raise UserError(f"{path} is compressed with {compression}, which is not installed: decompress it first")


def _is_workbook(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.startswith("xl/workbook") for name in names) or "mimetype" in names


def _kind(name: str, begin: bytes) -> Kind:
    """The kind of the content, which must not contradict the ending of the name."""
    if not begin.strip():
        raise UserError(f"{name} is empty")
    if begin.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{name} is a web page or XML, not a table")
    text = begin.removeprefix(codecs.BOM_UTF8).removeprefix(codecs.BOM_UTF16_LE).replace(b"\0", b"")
    kind: Kind = "JSON lines" if b"".join(text.split()).startswith((b"{", b"[{")) else "CSV"
    if begin.startswith(b"PAR1"):
        kind = "Parquet"
    if begin.startswith((b"PK\x03\x04", OLD_EXCEL)):
        kind = "Excel"
    expected = kind_by_name(name)
    if expected in ("Parquet", "Excel") and kind != expected:
        raise UserError(f"{name} cannot be read as {expected}: its content has another format")
    if kind == "CSV" and expected == "JSON lines":
        raise UserError(f"{name} cannot be read as JSON lines: a line must be an object, with a value for each column")
    return kind
