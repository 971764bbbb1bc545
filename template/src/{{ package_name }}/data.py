"""Reading table files, CSV and Parquet, whole or in pieces.

Everything in a CSV is text until the contract says what it is (`columns.py`), so a postcode keeps its leading zero.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import polars as pl

from .errors import UserError

CSV_ENDINGS = (".csv", ".tsv", ".txt")
PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = CSV_ENDINGS + PARQUET_ENDINGS
BATCH_ROWS = 50_000
BATCH_BYTES = 8 * 2**20
RECORD_BYTES = 64 * 2**20
SEPARATORS = ",;\t|"
QUOTED_LINES = 100


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading `path` into one line.

    Raises:
        UserError: whatever Polars or the system said about the file.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (pl.exceptions.ComputeError, pl.exceptions.ShapeError, pl.exceptions.SchemaError, csv.Error) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"{path} cannot be read as {kind_of(path)}: {_odd_record(path) or said}") from None
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as {kind_of(path)}: {reason}") from None


def _odd_record(path: Path) -> str | None:
    """Where a CSV file has a record with more fields than its header, which no reader can make sense of."""
    if kind_of(path) != "CSV":
        return None
    separator, names = _header(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        before = 0
        for record in reader:
            if len(record) > len(names):
                return f"the record in line {before + 1} has {len(record)} fields, the header has {len(names)}"
            if reader.line_num - before > QUOTED_LINES:
                return f"a quote that is opened in line {before + 1} is closed {reader.line_num - before} lines later"
            before = reader.line_num
    return None


def kind_of(path: Path) -> str:
    """`CSV` or `Parquet`, by the ending of the file's name.

    Raises:
        UserError: the ending is neither.
    """
    if path.suffix.lower() in PARQUET_ENDINGS:
        return "Parquet"
    if path.suffix.lower() in CSV_ENDINGS:
        return "CSV"
    raise UserError(f"{path}: unknown kind of file; use one that ends in {', '.join(ENDINGS)}")


def scan(path: Path) -> pl.LazyFrame:
    """The file as a lazy table: columns of a CSV are text; blanks around column names are cut.

    Raises:
        UserError: the file is missing, empty, or no table.
    """
    kind = kind_of(path)
    with readable(path):
        if not path.is_file():
            raise FileNotFoundError
        if kind == "Parquet":
            return pl.scan_parquet(path, glob=False)
        separator, names = _header(path)
        table = pl.scan_csv(
            path, glob=False, separator=separator, infer_schema=False, with_column_names=lambda _: names
        )
        table.collect_schema()
        return table


def _header(path: Path) -> tuple[str, list[str]]:
    """The separator, which is the one that splits the header into the most cells, and the names of the columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(1_000_000)
    headers = {separator: next(csv.reader(io.StringIO(start), delimiter=separator), []) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda separator: len(headers[separator]))
    return separator, _distinct([name.strip() for name in headers[separator]])


def _distinct(names: list[str]) -> list[str]:
    """The names, with a number behind those that are empty or stand twice."""
    given: dict[str, None] = {}
    for position, name in enumerate(names, start=1):
        candidates = (
            name or f"column_{position}",
            *(f"{name or 'column'}_{number}" for number in range(2, len(names) + 2)),
        )
        given[next(candidate for candidate in candidates if candidate not in given)] = None
    return list(given)


def read(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """The whole file, or just these columns of it.

    Raises:
        UserError: the file cannot be read, or lacks one of the columns.
    """
    lazy = scan(path)
    with readable(path):
        missing = [name for name in columns or [] if name not in lazy.collect_schema()]
        if missing:
            raise UserError(f"{path} has no column {', '.join(map(repr, missing))}; it has {_named(lazy)}")
        return (lazy.select(columns) if columns else lazy).collect()


def _named(lazy: pl.LazyFrame) -> str:
    return ", ".join(map(repr, lazy.collect_schema().names()))


def batches(path: Path) -> Iterator[pl.DataFrame]:
    """The file in pieces, in order, with flat memory.

    Polars would read a CSV ahead into memory as fast as the disk gives it, so each piece is handed to it by itself.

    Raises:
        UserError: the file cannot be read.
    """
    lazy = scan(path)
    with readable(path):
        if kind_of(path) == "CSV":
            yield from _csv_batches(path)
            return
        rows = lazy.select(pl.len()).collect().item()
        for start in range(0, rows, BATCH_ROWS):
            yield lazy.slice(start, BATCH_ROWS).collect()


def _csv_batches(path: Path) -> Iterator[pl.DataFrame]:
    separator, names = _header(path)
    with path.open("rb") as file:
        for number, block in enumerate(whole_records(file, BATCH_BYTES)):
            yield pl.read_csv(block, has_header=number == 0, separator=separator, new_columns=names, infer_schema=False)


def whole_records(file: BinaryIO, size: int) -> Iterator[bytes]:
    """A CSV file in blocks of about `size` bytes that end where a record ends.

    A newline ends a record when an even number of quotes stands before it (RFC 4180: quotes inside are doubled).

    Raises:
        UserError: a record is longer than `RECORD_BYTES`: a quote was opened and never closed.
    """
    rest, inside = b"", False
    while read := file.read(size):
        inside ^= bool(read.count(b'"') % 2)
        cut = _last_record_end(read, inside)
        if cut:
            yield rest + read[:cut]
            rest = read[cut:]
        else:
            rest += read
        if len(rest) > RECORD_BYTES:
            raise UserError(f"a record is longer than {RECORD_BYTES:,} bytes: a quote is opened and never closed")
    if rest:
        yield rest


def _last_record_end(read: bytes, inside: bool) -> int:
    """Where the last record ends in `read`, or 0; `inside` says whether its end lies between quotes."""
    end = len(read)
    while (newline := read.rfind(b"\n", 0, end)) >= 0:
        inside ^= bool(read.count(b'"', newline, end) % 2)
        if not inside:
            return newline + 1
        end = newline
    return 0


def sha256(path: Path) -> str:
    """The hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
