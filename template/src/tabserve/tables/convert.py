"""Tables of other kinds made plain CSV files in UTF-8, or Parquet files, in the folder of this process."""

from __future__ import annotations

import codecs
import io
import re
import shutil
from pathlib import Path

import polars as pl

from tabserve.errors import UserError, one_line
from tabserve.files import BLOCK, start, temporary
from tabserve.tables import dialect as dialects

BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
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
    if _decodes(path, "utf-8"):
        return "utf-8"
    _check_not_nearly_utf8(path, name)
    return "cp1252" if _decodes(path, "cp1252") else "latin-1"


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


def _check_not_nearly_utf8(path: Path, name: str) -> None:
    """Refuse a file that is UTF-8 but for a few bytes: in another encoding all its other letters would be wrong."""
    right = wrong = first = 0
    with path.open(encoding="utf-8", errors="replace") as text:
        for number, line in enumerate(text, start=1):
            broken = line.count("\ufffd")
            right += sum(map(len, NOT_ASCII.findall(line))) - broken
            first = first or (number if broken else 0)
            wrong += broken
    if right > wrong:
        raise UserError(f"{name} is UTF-8 but for {wrong:,} bytes, the first in line {first}: mend or save it again")


def _from_excel(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The first sheet, with the types of its cells; texts stay texts."""
    import fastexcel

    try:
        book = fastexcel.read_excel(path.read_bytes())
        above, names = _header_of_sheet(pl.DataFrame(book.load_sheet(0, header_row=None, dtypes="string")))
        if not names:
            raise UserError(f"{name}: {book.sheet_names[0]!r}, its first sheet, is empty")
        table = pl.DataFrame(book.load_sheet(0, header_row=None, skip_rows=above + 1, schema_sample_rows=None))
    except fastexcel.FastExcelError as error:
        raise UserError(f"{name} cannot be read as Excel: {one_line(error)}") from None
    with temporary(".parquet") as copy:
        named = dict(zip(table.columns, dialects.distinct(names), strict=False))
        _clocks(table.rename(named)).write_parquet(copy)
        return copy, _remarks(name, book.sheet_names, above)


def _header_of_sheet(texts: pl.DataFrame) -> tuple[int, list[str]]:
    """How many rows are above the header of a sheet, and its cells."""
    cells = [[cell or "" for cell in row] for row in texts.head(dialects.RECORDS).rows()]
    records = [(number, row) for number, row in enumerate(cells) if any(map(str.strip, row))]
    above, names = dialects.header(records)
    return above, [name.strip() for name in names]


def _clocks(table: pl.DataFrame) -> pl.DataFrame:
    """Times of day where all moments of a column are on the day that Excel counts from."""
    moments = [column for column in table if column.dtype == pl.Datetime]
    clocks = [column.dt.time() for column in moments if column.dt.year().drop_nulls().eq(1899).all()]
    return table.with_columns(clock for clock in clocks if clock.len() > clock.null_count())


def _remarks(name: str, sheets: list[str], above: int) -> tuple[str, ...]:
    first, *others = sheets
    many = f"{name} has {len(others) + 1} sheets; {first!r}, the first, is read"
    lines = f"{name}: {above} row{'s' * (above > 1)} above the header are left out"
    return (*([many] if others else []), *([lines] if above else []))


def _from_json(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    decoded, remarks = _from_csv(_without_mark(path), name)
    try:
        with temporary(".parquet") as copy:
            if start(decoded, 4096).lstrip().startswith(b"["):
                pl.read_json(io.BytesIO(decoded.read_bytes()), infer_schema_length=None).write_parquet(copy)
            else:
                pl.scan_ndjson(decoded, infer_schema_length=None).sink_parquet(copy)
            return copy, remarks
    except pl.exceptions.PolarsError as error:
        hint = "; NaN and Infinity are no JSON, write null" if b"NaN" in start(decoded, BLOCK) else ""
        raise UserError(f"{name} cannot be read as JSON lines: {one_line(error)}{hint}") from None


def _without_mark(path: Path) -> Path:
    """The file, or a copy without the byte order mark of UTF-8, which JSON does not allow."""
    if start(path, 3) != codecs.BOM_UTF8:
        return path
    with temporary(".json") as copy, path.open("rb") as marked, copy.open("wb") as out:
        marked.seek(3)
        shutil.copyfileobj(marked, out, BLOCK)
        return copy


def _from_parquet(path: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    return path, ()


CONVERTERS = {"CSV": _from_csv, "Excel": _from_excel, "JSON lines": _from_json, "Parquet": _from_parquet}
