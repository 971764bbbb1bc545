"""Where a table comes from: a file or an address, packed or not, made a plain local CSV or Parquet file.

What is one already is read where it is. Everything else (addresses, gzip, Excel, JSON lines, other encodings) is
turned into one, piece by piece, in a folder that goes when the process ends.
"""

from __future__ import annotations

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
PACKINGS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
OLD_EXCEL = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class Plain:
    """A table as a file that Polars reads.

    Attributes:
        path: the local file, UTF-8 where it is a CSV.
        kind: `CSV` or `Parquet`.
        original: the bytes as they came, before they were unpacked or converted.
        remarks: what a person should know of how it was read.
    """

    path: Path
    kind: Kind
    original: Path
    remarks: tuple[str, ...] = ()


def is_address(source: Source) -> bool:
    """Whether this is an address, as `https://...` or `s3://...`, and not a file's name."""
    return "://" in os.fspath(source)


def kind_by_name(source: Source) -> Kind | None:
    """What the ending of the name promises; None when it promises nothing."""
    name = urlsplit(os.fspath(source)).path if is_address(source) else os.fspath(source)
    endings = [ending.lower() for ending in PurePosixPath(name).suffixes]
    while endings and endings[-1] in PACKED_ENDINGS:
        endings.pop()
    return next((kind for kind, known in ENDINGS.items() if endings and endings[-1] in known), None)


def plain(source: Source) -> Plain:
    """The table as a plain local file.

    Raises:
        UserError: it is not there, cannot be fetched, unpacked or decoded, or is no table.
    """
    name = os.fspath(source)
    if is_address(name):
        return _plain(name, None)
    try:
        found = Path(name).stat()
    except FileNotFoundError:
        raise UserError(f"{name} does not exist") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from None
    return _plain(name, (found.st_mtime_ns, found.st_size, found.st_ino))


@functools.lru_cache(maxsize=16)
def _plain(name: str, stamp: tuple[int, ...] | None) -> Plain:
    try:
        original = _fetched(name) if stamp is None else Path(name)
        if original.is_dir():
            raise UserError(f"{name} is a folder: name a file in it")
        if not original.is_file():
            raise UserError(f"{name} is no file but a pipe or a device: save it to a file first")
        unpacked = _unpacked(original)
        kind = _kind(name, unpacked)
        path, remarks = CONVERTERS[kind](unpacked, name)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise UserError(f"{name} cannot be read: {reason}") from None
    return Plain(path, "CSV" if kind == "CSV" else "Parquet", original, remarks)


# --- bytes


def _fetched(address: str) -> Path:
    import fsspec

    try:
        with fsspec.open(address, "rb") as remote, temporary(".fetched") as path, path.open("wb") as local:
            shutil.copyfileobj(remote, local, BLOCK)
            return path
    except ImportError as error:
        raise UserError(
            f"{address} cannot be read: {one_line(error)}; add it with `uv add --group table NAME`"
        ) from None
    except ValueError as error:
        raise UserError(f"{address} cannot be read: {one_line(error)}") from None
    except FileNotFoundError as error:
        reason = one_line(error.__cause__) if isinstance(error.__cause__, Exception) else "there is no such file"
        raise UserError(f"{address} cannot be fetched: {reason}") from None
    except Exception as error:  # each kind of store has errors of its own
        raise UserError(f"{address} cannot be fetched: {one_line(error)}") from None


def _unpacked(path: Path) -> Path:
    """The file, or what is packed in it."""
    packing = next((name for magic, name in PACKINGS.items() if start(path, 8).startswith(magic)), None)
    if packing is None or (packing == "zip" and _is_workbook(path)):
        return path
    with temporary(".unpacked") as unpacked, unpacked.open("wb") as out:
        try:
            with _packed(path, packing) as content:
                shutil.copyfileobj(content, out, BLOCK)
        except UserError:
            raise
        except Exception as error:  # each packing has errors of its own
            raise UserError(f"{path} cannot be unpacked: {one_line(error)}") from None
        out.flush()
        return _unpacked(unpacked)


@contextmanager
def _packed(path: Path, packing: str) -> Iterator[IO[bytes]]:
    """What is packed in a file; of an archive, its only file."""
    from fsspec.compression import compr

    if packing == "zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/") and not name.endswith("/")]
            if len(names) != 1:
                raise UserError(f"{path} packs {len(names)} files: unpack it and name one of them")
            with archive.open(names[0]) as content:
                yield content
        return
    if packing not in compr:
        raise UserError(f"{path} is packed with {packing}, which is not installed: unpack it first")
    with path.open("rb") as raw, compr[packing](raw, mode="rb") as content:
        yield content


def _is_workbook(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.startswith("xl/workbook") for name in names) or "mimetype" in names


def _kind(name: str, path: Path) -> Kind:
    """What the bytes are; the ending of the name must not promise anything else."""
    begun = start(path, 4096)
    if not begun.strip():
        raise UserError(f"{name} is empty")
    if begun.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{name} is a web page or XML, no table")
    promised, kind = kind_by_name(name), _kind_of_bytes(begun)
    if promised in ("Parquet", "Excel") and kind != promised:
        raise UserError(f"{name} cannot be read as {promised}: its content is none")
    if kind == "CSV" and promised == "JSON lines":
        raise UserError(f"{name} cannot be read as JSON lines: a line must be an object, with a value for each column")
    return kind


def _kind_of_bytes(begun: bytes) -> Kind:
    if begun.startswith(b"PAR1"):
        return "Parquet"
    if begun.startswith((b"PK\x03\x04", OLD_EXCEL)):
        return "Excel"
    text = begun.removeprefix(codecs.BOM_UTF8).removeprefix(codecs.BOM_UTF16_LE).replace(b"\0", b"").lstrip()
    if text.startswith(b"{") or text.replace(b" ", b"").replace(b"\n", b"").replace(b"\r", b"").startswith(b"[{"):
        return "JSON lines"
    return "CSV"
