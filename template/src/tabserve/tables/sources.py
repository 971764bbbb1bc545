"""Open a table, a file or an address, as a plain local CSV or Parquet file: itself or a converted copy."""

import codecs
import functools
import io
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

import polars as pl

from tabserve.errors import UserError, one_line, without_credentials
from tabserve.files import BLOCK, start, temporary
from tabserve.tables import credentials
from tabserve.tables import dialect as dialects

Source = str | os.PathLike[str]
Kind = Literal["CSV", "Parquet", "Excel", "JSON lines"]
Converted = tuple[Path, tuple[str, ...]]  # a CSV or Parquet file, and remarks on how it was read

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
MOST_CELLS = 10_000_000
LONGEST_ROW, MOST_COLUMNS, DEEPEST = 2**22, 100_000, 20  # bytes of a row in JSON, columns, nested types
CELL = re.compile(rb'\br="([A-Z]{1,3})(\d{1,7})"')
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
OLD_EXCEL = b"\xd0\xcf\x11\xe0"
BOMS = {"utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
NAMES = {"cp1252": "Windows-1252 (Latin-1 with a few more letters)", "latin-1": "Latin-1"}


@dataclass(frozen=True)
class Plain:
    """A table as a file that Polars reads."""

    path: Path  # the local file, UTF-8 if it is a CSV
    kind: Kind  # `CSV` or `Parquet`
    original: Path  # the file before it was decompressed and converted
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
    path, remarks = CONVERTERS[kind](decompressed, name)
    return Plain(path, "CSV" if kind == "CSV" else "Parquet", original, remarks)


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
    """Reject a workbook that only an attacker writes: its reader would hold all that is in it, and each empty cell."""
    with zipfile.ZipFile(path) as archive:
        members = (archive.open(member) for member in archive.infolist())
        last_row = last_column = cells = 0
        for block in _bounded(members, name, path.stat().st_size):
            for column, row in CELL.findall(block):
                cells += 1
                last_row, last_column = max(last_row, int(row)), max(last_column, len(column))
    if last_row * 26**last_column > max(MOST_CELLS, MOST_TIMES * 26 * cells):
        raise UserError(f"{name} has cells far from all others: delete the rows and columns beside the table")


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


def _from_csv(path: Path, name: str) -> Converted:
    """The file if it is UTF-8 with usual line ends, else a copy that is."""
    encoding = _encoding(path, name)
    begin = start(path, BLOCK)
    carriage_returns = encoding == "utf-8" and b"\n" not in begin and b"\r" in begin  # as line ends
    if encoding == "utf-8" and not carriage_returns:
        return path, ()
    copy = _utf8_copy(path, encoding, newline=None if carriage_returns else "")
    return copy, () if carriage_returns else (f"{name} is read as {NAMES.get(encoding, encoding.upper())}",)


def _utf8_copy(path: Path, encoding: str, newline: str | None = "") -> Path:
    copy = temporary(".csv")
    with path.open(encoding=encoding, newline=newline) as text, copy.open("w", encoding="utf-8", newline="") as out:
        shutil.copyfileobj(text, out, BLOCK)
    return copy


def _encoding(path: Path, name: str) -> str:
    """By byte order mark, else by zero bytes, else UTF-8 if valid, else that of old Windows files."""
    begin = start(path, BLOCK)
    marked = next((encoding for encoding, marks in BOMS.items() if begin.startswith(marks)), None)
    if marked is not None and _decodes(path, marked):
        return marked
    even, odd = begin[:4096:2].count(0), begin[1:4096:2].count(0)
    wide = "utf-16-le" if odd > even else "utf-16-be"
    if max(even, odd) > 4 * (min(even, odd) + 1) and _decodes(path, wide):
        return wide
    if even or odd:
        raise UserError(f"{name} is not a table: it holds NUL bytes; use CSV, Parquet, Excel or JSON lines")
    if _decodes(path, "utf-8"):
        return "utf-8"
    _check_not_damaged_utf8(path, name)
    return "cp1252" if _decodes(path, "cp1252") else "latin-1"


def _decodes(path: Path, encoding: str) -> bool:
    try:
        with path.open(encoding=encoding, newline="") as text:
            while text.read(BLOCK):
                pass
    except UnicodeError:
        return False
    return True


def _check_not_damaged_utf8(path: Path, name: str) -> None:
    """Reject UTF-8 with a few other bytes: another encoding would change all its other letters."""
    valid = invalid = first = 0
    with path.open(encoding="utf-8", errors="replace") as text:
        for number, line in enumerate(text, start=1):
            replaced = line.count("\ufffd")
            valid += sum(map(len, NOT_ASCII.findall(line))) - replaced
            invalid += replaced
            first = first or number * bool(replaced)
    if valid > invalid:
        raise UserError(f"{name} is UTF-8 except for {invalid:,} bytes, the first in line {first}: save it again")


def _from_excel(path: Path, name: str) -> Converted:
    """The first sheet, with the types of its cells; texts stay texts."""
    import fastexcel

    try:
        book = fastexcel.read_excel(path.read_bytes())
        sheet, *others = book.sheet_names
        texts = pl.DataFrame(book.load_sheet(0, header_row=None, dtypes="string"))
        above, names = _sheet_header(texts)
        if not names:
            raise UserError(f"{name}: {sheet!r}, its first sheet, is empty")
        table = pl.DataFrame(book.load_sheet(0, header_row=None, skip_rows=above + 1, schema_sample_rows=None))
    except fastexcel.FastExcelError as error:
        raise UserError(f"{name} cannot be read as Excel: {one_line(error)}") from None
    copy = temporary(".parquet")
    _with_times(table.rename(dict(zip(table.columns, names, strict=False)))).write_parquet(copy)
    remarks = [f"{name} has {len(others) + 1} sheets; {sheet!r}, the first, is read"] if others else []
    if above:
        remarks.append(f"{name}: {above} row{'s' * (above > 1)} above the header are skipped")
    return copy, tuple(remarks)


def _sheet_header(texts: pl.DataFrame) -> tuple[int, list[str]]:
    """The number of rows above the header of a sheet, and the names in it."""
    cells = [[cell or "" for cell in row] for row in texts.head(dialects.RECORDS).rows()]
    above, names = dialects.header([(number, row) for number, row in enumerate(cells) if any(map(str.strip, row))])
    return above, dialects.distinct(names)


def _with_times(table: pl.DataFrame) -> pl.DataFrame:
    """The table with timestamps as times of day if all are on the day that Excel counts from."""
    timestamps = [column for column in table if column.dtype == pl.Datetime and column.count()]
    return table.with_columns(column.dt.time() for column in timestamps if column.drop_nulls().dt.year().eq(1899).all())


def _from_json(path: Path, name: str) -> Converted:
    if start(path, 3) == codecs.BOM_UTF8:  # which JSON does not allow
        path = _utf8_copy(path, "utf-8-sig")
    decoded, remarks = _from_csv(path, name)
    copy = temporary(".parquet")
    try:
        if start(decoded, 4096).lstrip().startswith(b"["):
            begin = start(decoded, LONGEST_ROW)
            if len(begin) == LONGEST_ROW and b"}" not in begin:
                raise UserError(f"{name}: a row is longer than {LONGEST_ROW:,} bytes")
            table = pl.read_json(io.BytesIO(decoded.read_bytes()), infer_schema_length=None)
            _check_schema(table.schema, name)
            table.write_parquet(copy)
        else:
            _check_lines(decoded, name)
            lines = pl.scan_ndjson(decoded, infer_schema_length=None)
            _check_schema(lines.collect_schema(), name)
            lines.sink_parquet(copy)
    except pl.exceptions.PolarsError as error:
        hint = "; NaN and Infinity are not valid JSON, write null" if b"NaN" in start(decoded, BLOCK) else ""
        raise UserError(f"{name} cannot be read as JSON lines: {one_line(error)}{hint}") from None
    return copy, remarks


def _check_lines(path: Path, name: str) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_ROW + 1), b""), start=1):
            if len(line) > LONGEST_ROW:
                raise UserError(
                    f"{name}: line {number} is longer than {LONGEST_ROW:,} bytes: write a line for each row"
                )


def _check_schema(schema: pl.Schema, name: str) -> None:
    if len(schema) > MOST_COLUMNS:
        raise UserError(f"{name} has {len(schema):,} columns, and at most {MOST_COLUMNS:,} are read: name fewer")
    if any(_depth(dtype) > DEEPEST for dtype in schema.values()):
        raise UserError(f"{name} is nested more than {DEEPEST} deep: a column holds one value a row")


def _depth(dtype: pl.DataType) -> int:
    inner: list[Any] = [field.dtype for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
    if isinstance(dtype, (pl.List, pl.Array)):
        inner = [dtype.inner]
    return 1 + max(map(_depth, inner), default=0)


CONVERTERS: dict[str, Callable[[Path, str], Converted]] = {
    "CSV": _from_csv,
    "Excel": _from_excel,
    "JSON lines": _from_json,
    "Parquet": lambda path, name: (path, ()),
}
