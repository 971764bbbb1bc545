"""Open a table: a file or an address, compressed or not, as a plain local CSV or Parquet file.

Plain files are read where they are. All others (addresses, gzip, Excel, JSON lines, other encodings) are converted
block by block into a folder that is deleted when the process ends.
"""

import codecs
import functools
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal
from urllib.parse import urlsplit

from tabserve.errors import UserError, one_line
from tabserve.files import BLOCK, start, temporary
from tabserve.tables.convert import CONVERTERS

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
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
OLD_EXCEL = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class Plain:
    """A table as a file that Polars reads."""

    path: Path  # the local file, UTF-8 if it is a CSV
    kind: Kind  # `CSV` or `Parquet`
    original: Path  # the file before it was decompressed and converted
    remarks: tuple[str, ...] = ()  # what users should know about how it was read


def is_address(source: Source) -> bool:
    """Whether this is an address, as `https://...` or `s3://...`, and not the name of a file."""
    return "://" in os.fspath(source)


def kind_by_name(source: Source) -> Kind | None:
    """The kind that the ending of the name stands for, if any."""
    name = urlsplit(os.fspath(source)).path if is_address(source) else os.fspath(source)
    endings = [ending.lower() for ending in PurePosixPath(name).suffixes]
    while endings and endings[-1] in COMPRESSED_ENDINGS:
        endings.pop()
    return next((kind for kind, known in ENDINGS.items() if endings and endings[-1] in known), None)


def plain(source: Source) -> Plain:
    """The table as a plain local file; raises `UserError` if it does not exist, cannot be read, or is not a table."""
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
    decompressed = _decompressed(original)
    kind = _kind(name, start(decompressed, 4096))
    path, remarks = CONVERTERS[kind](decompressed, name)
    return Plain(path, "CSV" if kind == "CSV" else "Parquet", original, remarks)


def _fetched(address: str) -> Path:
    import fsspec

    path = temporary(".fetched")
    try:
        with fsspec.open(address, "rb") as remote, path.open("wb") as local:
            shutil.copyfileobj(remote, local, BLOCK)
    except (ImportError, ValueError) as error:
        hint = "; add it with `uv add --group table NAME`" if isinstance(error, ImportError) else ""
        raise UserError(f"{address} cannot be read: {one_line(error)}{hint}") from None
    except FileNotFoundError as error:
        reason = one_line(error.__cause__) if isinstance(error.__cause__, Exception) else "there is no such file"
        raise UserError(f"{address} cannot be fetched: {reason}") from None
    except Exception as error:  # each kind of store has its own errors
        raise UserError(f"{address} cannot be fetched: {one_line(error)}") from None
    return path


def _decompressed(path: Path) -> Path:
    """The file, or a decompressed copy."""
    begin = start(path, 8)
    compression = next((name for magic, name in COMPRESSIONS.items() if begin.startswith(magic)), None)
    if compression is None or (compression == "zip" and _is_workbook(path)):
        return path
    copy = temporary(".decompressed")
    try:
        with _content(path, compression) as content, copy.open("wb") as out:
            shutil.copyfileobj(content, out, BLOCK)
    except UserError:
        raise
    except Exception as error:  # each compression has its own errors
        raise UserError(f"{path} cannot be decompressed: {one_line(error)}") from None
    return _decompressed(copy)


@contextmanager
def _content(path: Path, compression: str) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a file; of an archive, those of its only file."""
    from fsspec.compression import compr

    if compression == "zip":
        with zipfile.ZipFile(path) as archive:
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
