"""Convert a file to UTF-8 CSV or to Parquet, which Polars reads in parts."""

import codecs
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from tabserve.errors import UserError, one_line
from tabserve.files import BLOCK, start, temporary
from tabserve.tables import dialect as dialects

Remarks = tuple[str, ...]  # on how a file was read

LONGEST_ROW, MOST_COLUMNS, DEEPEST = 2**22, 100_000, 20  # bytes of a row in JSON, columns, nested types
SPARSE_ROWS, MOST_EMPTY = 10_000, 200  # rows of a large sheet, and how many of them for each that is not empty
BOMS = {"utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
NAMES = {"cp1252": "Windows-1252 (Latin-1 with a few more letters)", "latin-1": "Latin-1"}


def from_csv(path: Path, name: str) -> tuple[Path, Remarks]:
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


def from_excel(path: Path, name: str, copy: Path) -> Remarks:
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
    filled = table.select(pl.any_horizontal(pl.all().is_not_null()).sum()).item()
    if table.height > max(SPARSE_ROWS, MOST_EMPTY * filled):
        raise UserError(f"{name} has cells far from all others: delete the rows and columns beside the table")
    _with_times(table.rename(dict(zip(table.columns, names, strict=False)))).write_parquet(copy)
    remarks = [f"{name} has {len(others) + 1} sheets; {sheet!r}, the first, is read"] if others else []
    if above:
        remarks.append(f"{name}: {above} row{'s' * (above > 1)} above the header are skipped")
    return tuple(remarks)


def _sheet_header(texts: pl.DataFrame) -> tuple[int, list[str]]:
    """The number of rows above the header of a sheet, and the names in it."""
    cells = [[cell or "" for cell in row] for row in texts.head(dialects.RECORDS).rows()]
    above, names = dialects.header([(number, row) for number, row in enumerate(cells) if any(map(str.strip, row))])
    return above, dialects.distinct(names)


def _with_times(table: pl.DataFrame) -> pl.DataFrame:
    """The table with timestamps as times of day if all are on the day that Excel counts from."""
    timestamps = [column for column in table if column.dtype == pl.Datetime and column.count()]
    return table.with_columns(column.dt.time() for column in timestamps if column.drop_nulls().dt.year().eq(1899).all())


def from_json(path: Path, name: str, copy: Path) -> Remarks:
    """Objects, one in a line or all in a list."""
    if start(path, 3) == codecs.BOM_UTF8:  # which JSON does not allow
        path = _utf8_copy(path, "utf-8-sig")
    decoded, remarks = from_csv(path, name)
    try:
        if start(decoded, 4096).lstrip().startswith(b"["):
            _check_rows(decoded, name)
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
        raise UserError(f"{name} cannot be read as JSON lines: {_bad_line(decoded) or one_line(error)}{hint}") from None
    return remarks


def _bad_line(path: Path) -> str:
    """Which line is not valid JSON, if the file has a value on each."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line.strip() or b"null")
            except (ValueError, RecursionError) as error:
                return f"line {number} is not valid JSON: {one_line(error)}" if number > 1 else ""
    return ""


def _check_rows(path: Path, name: str) -> None:
    """Reject a list with a long row, as far as a text without a bracket shows one."""
    with path.open("rb") as file:
        for block in iter(lambda: file.read(LONGEST_ROW), b""):
            if len(block) == LONGEST_ROW and b"}" not in block:
                raise UserError(f"{name}: a row is longer than {LONGEST_ROW:,} bytes")


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
