"""Where a table comes from: a file or an address, packed or not, made a plain local CSV or Parquet file.

What is one already is read where it is. Everything else (addresses, gzip, Excel, JSON lines, other encodings) is
turned into one, piece by piece, in a folder that goes when the process ends.
"""

from __future__ import annotations

import atexit
import codecs
import functools
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import polars as pl

from .errors import UserError

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
BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NAMES = {"cp1252": "Windows-1252 (Latin-1 and a few letters more)", "latin-1": "Latin-1"}
BLOCK = 2**22


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


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="table-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _new_file(ending: str) -> Iterator[Path]:
    """A file of this process; it does not stay when it cannot be completed."""
    handle, name = tempfile.mkstemp(dir=_folder(), suffix=ending)
    os.close(handle)
    try:
        yield Path(name)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
        unpacked = _unpacked(original)
        kind = _kind(name, unpacked)
        path, remarks = CONVERTERS[kind](unpacked, name)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise UserError(f"{name} cannot be read: {reason}") from None
    return Plain(path, "Parquet" if kind in ("Parquet", "JSON lines") else "CSV", original, remarks)


# --- bytes


def _fetched(address: str) -> Path:
    import fsspec

    try:
        with fsspec.open(address, "rb") as remote, _new_file(".fetched") as path, path.open("wb") as local:
            shutil.copyfileobj(remote, local, BLOCK)
            return path
    except ImportError as error:
        raise UserError(f"{address} cannot be read: {_line(error)}; add it with `uv add --group table NAME`") from None
    except ValueError as error:
        raise UserError(f"{address} cannot be read: {_line(error)}") from None
    except FileNotFoundError:
        raise UserError(f"{address} cannot be fetched: there is no such file") from None
    except Exception as error:  # each kind of store has errors of its own
        raise UserError(f"{address} cannot be fetched: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _unpacked(path: Path) -> Path:
    """The file, or what is packed in it."""
    packing = next((name for magic, name in PACKINGS.items() if _start(path, 8).startswith(magic)), None)
    if packing is None or (packing == "zip" and _is_workbook(path)):
        return path
    import fsspec

    if packing == "zip" and len(names := zipfile.ZipFile(path).namelist()) != 1:
        raise UserError(f"{path} packs {len(names)} files: unpack it and name one of them")
    try:
        with _new_file(".unpacked") as unpacked, unpacked.open("wb") as out:
            with fsspec.open(path.as_posix(), "rb", compression=packing) as packed:
                shutil.copyfileobj(packed, out, BLOCK)
            return _unpacked(unpacked)
    except ValueError:
        raise UserError(f"{path} is packed with {packing}, which is not installed: unpack it first") from None


def _is_workbook(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.startswith("xl/workbook") for name in names) or "mimetype" in names


def _start(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _kind(name: str, path: Path) -> Kind:
    """What the bytes are; the ending of the name must not promise anything else."""
    start = _start(path, 4096)
    if not start.strip():
        raise UserError(f"{name} is empty")
    promised, kind = kind_by_name(name), _kind_of_bytes(start)
    if promised in ("Parquet", "Excel") and kind != promised:
        raise UserError(f"{name} cannot be read as {promised}: its content is none")
    if kind == "CSV" and promised == "JSON lines":
        raise UserError(f"{name} cannot be read as JSON lines: a line must be an object, with a value for each column")
    return kind


def _kind_of_bytes(start: bytes) -> Kind:
    if start.startswith(b"PAR1"):
        return "Parquet"
    if start.startswith((b"PK\x03\x04", OLD_EXCEL)):
        return "Excel"
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"{") or text.replace(b" ", b"").replace(b"\n", b"").replace(b"\r", b"").startswith(b"[{"):
        return "JSON lines"
    return "CSV"


# --- to CSV in UTF-8, or to Parquet


def _from_csv(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The file itself where it is UTF-8 with usual line ends, else a copy that is."""
    encoding = _encoding(path, name)
    old_lines = encoding == "utf-8" and b"\n" not in (start := _start(path, BLOCK)) and b"\r" in start
    if encoding == "utf-8" and not old_lines:
        return path, ()
    with _new_file(".csv") as copy, copy.open("w", encoding="utf-8", newline="") as out:
        with path.open(encoding=encoding, newline=None if old_lines else "") as text:
            shutil.copyfileobj(text, out, BLOCK)
        said = NAMES.get(encoding, encoding.upper())
        return copy, () if old_lines else (f"{name} is read as {said}",)


def _encoding(path: Path, name: str) -> str:
    """By its byte order mark, else UTF-8 if it is, else by its zeros, else the encoding of old Windows files."""
    start = _start(path, BLOCK)
    marked: str | None = next((encoding for bom, encoding in BOMS.items() if start.startswith(bom)), None)
    if marked is not None and marked != "utf-8" and _decodes(path, marked):
        return marked
    zeros = [start[:4096:2].count(0), start[1:4096:2].count(0)]
    wide = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    if max(zeros) > 4 * (min(zeros) + 1) and _decodes(path, wide):
        return wide
    if max(zeros):
        raise UserError(f"{name} is no table: it holds zero bytes; use CSV, Parquet, Excel or JSON lines")
    return next(encoding for encoding in ("utf-8", "cp1252", "latin-1") if _decodes(path, encoding))


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _from_excel(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The first sheet as CSV: numbers as digits, dates as ISO 8601."""
    import fastexcel

    try:
        book = fastexcel.read_excel(path.read_bytes())
        sheet = book.load_sheet(0, header_row=None, dtypes="string")
        table = pl.DataFrame(sheet)
    except fastexcel.FastExcelError as error:
        raise UserError(f"{name} cannot be read as Excel: {_line(error)}") from None
    with _new_file(".csv") as copy:
        table.write_csv(copy, include_header=False)
        first, *others = book.sheet_names
        remark = f"{name} has {len(others) + 1} sheets; {first!r}, the first, is read"
        return copy, (remark,) if others else ()


def _from_json(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    try:
        with _new_file(".parquet") as copy:
            if _start(path, 4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                pl.read_json(io.BytesIO(path.read_bytes()), infer_schema_length=None).write_parquet(copy)
            else:
                pl.scan_ndjson(path, infer_schema_length=None).sink_parquet(copy)
            return copy, ()
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{name} cannot be read as JSON lines: {_line(error)}") from None


def _from_parquet(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    return path, ()


CONVERTERS = {"CSV": _from_csv, "Excel": _from_excel, "JSON lines": _from_json, "Parquet": _from_parquet}
