"""Tables of other kinds made plain CSV files in UTF-8, or Parquet files, in the folder of this process."""

from __future__ import annotations

import codecs
import io
import shutil
from pathlib import Path

import polars as pl

from .errors import UserError, one_line
from .files import BLOCK, start, temporary

BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NAMES = {"cp1252": "Windows-1252 (Latin-1 and a few letters more)", "latin-1": "Latin-1"}


def _from_csv(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The file itself where it is UTF-8 with usual line ends, else a copy that is."""
    encoding = _encoding(path, name)
    old_lines = encoding == "utf-8" and b"\n" not in (begun := start(path, BLOCK)) and b"\r" in begun
    if encoding == "utf-8" and not old_lines:
        return path, ()
    with temporary(".csv") as copy, copy.open("w", encoding="utf-8", newline="") as out:
        with path.open(encoding=encoding, newline=None if old_lines else "") as text:
            shutil.copyfileobj(text, out, BLOCK)
        said = NAMES.get(encoding, encoding.upper())
        return copy, () if old_lines else (f"{name} is read as {said}",)


def _encoding(path: Path, name: str) -> str:
    """By its byte order mark, else UTF-8 if it is, else by its zeros, else the encoding of old Windows files."""
    begun = start(path, BLOCK)
    marked: str | None = next((encoding for bom, encoding in BOMS.items() if begun.startswith(bom)), None)
    if marked is not None and marked != "utf-8" and _decodes(path, marked):
        return marked
    zeros = [begun[:4096:2].count(0), begun[1:4096:2].count(0)]
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
        raise UserError(f"{name} cannot be read as Excel: {one_line(error)}") from None
    with temporary(".csv") as copy:
        table.write_csv(copy, include_header=False)
        first, *others = book.sheet_names
        remark = f"{name} has {len(others) + 1} sheets; {first!r}, the first, is read"
        return copy, (remark,) if others else ()


def _from_json(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    try:
        with temporary(".parquet") as copy:
            if start(path, 4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                pl.read_json(io.BytesIO(path.read_bytes()), infer_schema_length=None).write_parquet(copy)
            else:
                pl.scan_ndjson(path, infer_schema_length=None).sink_parquet(copy)
            return copy, ()
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{name} cannot be read as JSON lines: {one_line(error)}") from None


def _from_parquet(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    return path, ()


CONVERTERS = {"CSV": _from_csv, "Excel": _from_excel, "JSON lines": _from_json, "Parquet": _from_parquet}
