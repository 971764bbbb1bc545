"""Reading tables, whole, a sample of their rows, or in pieces.

Everything in a CSV is text until the contract says what it is (`columns.py`), so a postcode keeps its leading zero.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from tabserve.errors import UserError
from tabserve.tables import dialect as dialects
from tabserve.tables.dialect import Dialect, dialect
from tabserve.tables.sources import ENDINGS, Kind, Plain, Source, is_address, kind_by_name, plain

BATCH_ROWS = 50_000
BATCH_BYTES = 8 * 2**20
RECORD_BYTES = 64 * 2**20
WRITABLE: tuple[Kind, ...] = ("CSV", "Parquet")


@contextmanager
def readable(source: Source) -> Iterator[Plain]:
    """The table as a plain file; what goes wrong while it is read becomes one line.

    Raises:
        UserError: whatever Polars or the system said about the file.
    """
    table = plain(source)
    name = f"{os.fspath(source)} cannot be read as {table.kind}"
    try:
        yield table
    except (pl.exceptions.ComputeError, pl.exceptions.ShapeError, pl.exceptions.SchemaError, csv.Error) as error:
        said = str(error).strip().splitlines()[0]
        odd = dialects.odd_record(table.path, dialect(table.path)) if table.kind == "CSV" else None
        raise UserError(f"{name}: {odd or said}") from None
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: {reason}") from None
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def writable_kind(path: Path) -> Kind:
    """`CSV` or `Parquet`, by the ending of the name of a file to write.

    Raises:
        UserError: the ending is neither.
    """
    kind = kind_by_name(path)
    if kind not in WRITABLE or is_address(path) or path.suffix.lower() not in (endings := ENDINGS[kind]):
        endings = (*ENDINGS["CSV"][:2], *ENDINGS["Parquet"])
        raise UserError(f"{path}: unknown kind of file to write; use one that ends in {', '.join(endings)}")
    return kind


def names(source: Source) -> list[str]:
    """The names of the columns, blanks around them cut.

    Raises:
        UserError: the file is missing, empty, or no table.
    """
    return _scan(source).collect_schema().names()


def remarks(source: Source) -> list[str]:
    """What a person should know of how the file is read: encoding, sheet, separator, lines above the header."""
    with readable(source) as table:
        written = dialects.remarks(dialect(table.path), os.fspath(source)) if table.kind == "CSV" else []
        return [*table.remarks, *written]


def _scan(source: Source) -> pl.LazyFrame:
    """The file as a lazy table; columns of a CSV are text."""
    with readable(source) as table:
        if table.kind == "Parquet":
            lazy = pl.scan_parquet(table.path, glob=False)
            found = lazy.collect_schema().names()
            given = dialects.distinct([name.strip() for name in found])
            return lazy if given == found else lazy.rename(dict(zip(found, given, strict=True)))
        written = dialect(table.path)
        lazy = pl.scan_csv(
            table.path,
            glob=False,
            separator=written.separator,
            skip_lines=written.above,
            infer_schema=False,
            with_column_names=lambda _: written.names,
        )
        lazy.collect_schema()
        return lazy


def sample(source: Source, rows: int, columns: Sequence[str] = (), seed: int = 0) -> tuple[pl.DataFrame, int]:
    """At most this many rows of the file, drawn at random and in order, and how many it has.

    The file is read in pieces, so memory depends on the sample and not on the file.

    Args:
        columns: the ones to read, all when empty.

    Raises:
        UserError: the file cannot be read, or lacks one of the columns.

    Source: random-tag sampling, an exact sample without replacement in one pass (Vitter 1985, Random sampling with
        a reservoir, names it as the method of keeping the rows with the smallest tags).
    """
    random = np.random.default_rng(seed)
    kept: list[pl.DataFrame] = []
    seen = held = 0
    for piece in batches(source, columns):
        tags = pl.Series(_TAG, random.random(piece.height))
        kept.append(piece.with_columns(tags).with_row_index(_ROW, offset=seen))
        seen, held = seen + piece.height, held + piece.height
        if held > 2 * rows:
            kept, held = [_lowest(kept, rows)], rows
    table = _lowest(kept, rows) if held > rows else pl.concat(kept)
    return table.sort(_ROW).drop(_ROW, _TAG), seen


_ROW, _TAG = "\0row", "\0tag"


def _lowest(pieces: Sequence[pl.DataFrame], rows: int) -> pl.DataFrame:
    return pl.concat(pieces).bottom_k(rows, by=_TAG)


def read(source: Source, columns: Sequence[str] = ()) -> pl.DataFrame:
    """The whole file, or just these columns of it.

    Raises:
        UserError: the file cannot be read, or lacks one of the columns.
    """
    return pl.concat(batches(source, columns))


def batches(source: Source, columns: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
    """The file in pieces, in order, with flat memory; one empty piece where it has no rows.

    Polars would read a CSV ahead into memory as fast as the disk gives it, so each piece is handed to it by itself.

    Args:
        columns: the ones to read, all when empty.

    Raises:
        UserError: the file cannot be read, or lacks one of the columns.
    """
    lazy = _scan(source)
    present = lazy.collect_schema().names()
    if missing := [name for name in columns if name not in present]:
        raise UserError(f"{os.fspath(source)} has no column {shown(missing)}; it has {shown(present)}")
    with readable(source) as table:
        wanted = list(columns) or present
        pieces = _csv_batches(table.path) if table.kind == "CSV" else _slices(lazy, wanted)
        empty = True
        for piece in pieces:
            empty = False
            yield piece.select(wanted)
        if empty:
            yield lazy.select(wanted).head(0).collect()


def shown(names: Sequence[str], most: int = 30) -> str:
    """Names as a message shows them."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _slices(lazy: pl.LazyFrame, columns: list[str]) -> Iterator[pl.DataFrame]:
    rows = lazy.select(pl.len()).collect().item()
    for start in range(0, rows, BATCH_ROWS):
        yield lazy.select(columns).slice(start, BATCH_ROWS).collect()


def _csv_batches(path: Path) -> Iterator[pl.DataFrame]:
    written = dialect(path)
    with path.open("rb") as file:
        for number, block in enumerate(whole_records(file, BATCH_BYTES)):
            yield _csv_piece(block, written, number == 0)


def _csv_piece(block: bytes, written: Dialect, first: bool) -> pl.DataFrame:
    return pl.read_csv(
        block,
        has_header=first,
        separator=written.separator,
        skip_lines=written.above if first else 0,
        new_columns=written.names,
        infer_schema=False,
    )


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
        if records := (rest + read[:cut]).rstrip(b"\r\n") if cut else b"":
            yield records + b"\n"
            blank = (rest + read[:cut])[len(records) :].removeprefix(b"\r").removeprefix(b"\n")
            rest = blank + read[cut:]  # blank lines belong to what follows, if anything does
        else:
            rest += read
        if len(rest) > RECORD_BYTES:
            raise UserError(f"a record is longer than {RECORD_BYTES:,} bytes: a quote is opened and never closed")
    if rest.strip(b"\r\n"):
        yield rest.rstrip(b"\r\n") + b"\n"


def _last_record_end(read: bytes, inside: bool) -> int:
    """Where the last record ends in `read`, or 0; `inside` says whether its end lies between quotes."""
    end = len(read)
    while (newline := read.rfind(b"\n", 0, end)) >= 0:
        inside ^= bool(read.count(b'"', newline, end) % 2)
        if not inside:
            return newline + 1
        end = newline
    return 0


def sha256(source: Source) -> str:
    """The hex digest of the file's bytes, as they came."""
    with plain(source).original.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
