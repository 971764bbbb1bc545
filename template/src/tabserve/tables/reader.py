"""Read tables as a sample of their rows, or in batches.

All cells of a CSV are text until they are cast (`casting.py`), so that a postcode keeps its leading zero.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from tabserve.errors import UserError, first_line, suggestion
from tabserve.tables import dialect as dialects
from tabserve.tables import parquet
from tabserve.tables.cells import unmarked
from tabserve.tables.dialect import dialect
from tabserve.tables.sources import ENDINGS, Kind, Plain, Source, plain

BATCH_ROWS = 50_000
BATCH_BYTES = 8 * 2**20
CELL_BYTES = 16  # of a text in memory
RECORD_BYTES = 64 * 2**20
_ROW, _TAG = "\0row", "\0tag"


@contextmanager
def readable(source: Source) -> Iterator[Plain]:
    """The table as a plain file; errors while it is read become a `UserError`."""
    table = plain(source)
    name = f"{os.fspath(source)} cannot be read as {table.kind}"
    try:
        yield table
    except pl.exceptions.PolarsError as error:
        malformed = dialects.malformed_record(table.path, dialect(table.path)) if table.kind == "CSV" else None
        raise UserError(f"{name}: {malformed or first_line(error)}") from None
    except (OSError, UnicodeDecodeError, UserError) as error:
        raise UserError(f"{name}: {first_line(error)}") from None


def writable_kind(path: Path) -> Kind:
    """`CSV` or `Parquet`, by the ending of a file to write; raises `UserError` for others."""
    if path.suffix.lower() in ENDINGS["CSV"]:
        return "CSV"
    if path.suffix.lower() in ENDINGS["Parquet"]:
        return "Parquet"
    endings = (*ENDINGS["CSV"][:2], *ENDINGS["Parquet"])
    raise UserError(f"{path}: unknown kind of file to write; use one that ends in {', '.join(endings)}")


def names(source: Source) -> list[str]:
    """The names of the columns; raises `UserError` if the file is missing, empty or no table."""
    return _scan(source).collect_schema().names()


def remarks(source: Source) -> list[str]:
    """What users should know about how the file is read, as its encoding or separator."""
    with readable(source) as table:
        found = list(table.remarks)
        written = dialect(table.path) if table.kind == "CSV" else None
    if written and written.separator != ",":
        found.append(f"{source}: {dialects.SEPARATORS[written.separator]} separate the columns")
    if written and written.above:
        found.append(f"{source}: {written.above} line{'s' * (written.above > 1)} above the header are skipped")
    return found


def _scan(source: Source) -> pl.LazyFrame:
    """The file as a lazy table; columns of a CSV are text."""
    with readable(source) as table:
        if table.kind == "Parquet":
            lazy = pl.scan_parquet(table.path, glob=False)
            found = lazy.collect_schema().names()
            unique = dialects.distinct(found)
            return lazy if unique == found else lazy.rename(dict(zip(found, unique, strict=True)))
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
    """A random sample of at most `rows` rows, in the order of the file, and the number of rows of the file.

    The file is read in batches, so memory depends on the sample and not on the file. Raises `UserError` as `batches`.

    Source: keeping the rows with the smallest random tags (Vitter 1985, Random sampling with a reservoir).
    """
    random = np.random.default_rng(seed)
    kept, total = pl.DataFrame(), 0
    for batch in batches(source, columns):
        tags = pl.Series(_TAG, random.random(batch.height))
        tagged = batch.with_columns(tags).with_row_index(_ROW, offset=total)
        total += batch.height
        kept = pl.concat([kept, tagged]) if kept.width else tagged
        with readable(source) as table:
            _check_size(parquet.weight(kept), table)
        if kept.height > 2 * rows:
            kept = kept.bottom_k(rows, by=_TAG)
    drawn = kept.bottom_k(rows, by=_TAG) if kept.height > rows else kept
    return drawn.sort(_ROW).drop(_ROW, _TAG), total


def batches(source: Source, columns: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
    """All columns of the file, or some, in batches, in order, with flat memory; one empty batch if it has no rows.

    Raises `UserError` if the file cannot be read, or lacks one of the columns.
    """
    # Polars reads ahead in a CSV as fast as the disk allows, so it gets one block at a time.
    lazy = _scan(source)
    present = lazy.collect_schema().names()
    if missing := [name for name in columns if name not in present]:
        near = suggestion(missing[0], present)
        raise UserError(f"{os.fspath(source)} has no column {shown(missing)}{near}; it has {shown(present)}")
    wanted = list(columns) or present
    with readable(source) as table:
        if table.kind == "CSV":
            yield from _csv_batches(table, wanted)
        else:
            yield from parquet.batches(lazy.select(wanted), BATCH_ROWS, BATCH_BYTES)


def shown(names: Sequence[str], most: int = 30) -> str:
    """Names as messages show them."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _check_size(taken: int, table: Plain) -> None:
    """Reject rows that take far more memory than their file has; `taken` as `parquet.weight`."""
    if taken > table.most:
        raise UserError(
            f"it takes more than {table.most:,} bytes of memory: if you trust it, save a CSV with all cells"
        )


def _csv_batches(table: Plain, wanted: Sequence[str]) -> Iterator[pl.DataFrame]:
    written = dialect(table.path)
    # Each block gets a header, as its first record may be shorter than others.
    header = written.separator.join(map(str, range(len(written.names)))).encode() + b"\n"
    with table.path.open("rb") as file:
        for number, block in enumerate(whole_records(file, BATCH_BYTES)):
            _check_size(CELL_BYTES * block.count(b"\n") * len(written.names), table)  # records may lack cells
            batch = pl.read_csv(
                header + block if number else block,
                separator=written.separator,
                skip_lines=0 if number else written.above,
                new_columns=written.names,
                infer_schema=False,
            )
            yield unmarked(batch.select(wanted))


def whole_records(file: BinaryIO, size: int) -> Iterator[bytes]:
    """A CSV file in blocks of about `size` bytes that end at the end of a record.

    A newline ends a record when the number of quotes before it is even (RFC 4180: quotes inside are doubled). Raises
    `UserError` for a record that is longer than `RECORD_BYTES`: a quote was opened and never closed.
    """
    longest, blank = size + RECORD_BYTES, b""  # lines that belong to what follows, if anything does
    while read := file.read(size):
        block, inside = bytearray(blank + read), read.count(b'"') % 2
        while (inside or not block.endswith(b"\n")) and len(block) <= longest and (line := file.readline(size)):
            block += line
            inside ^= line.count(b'"') % 2
        if len(block) > longest:
            raise UserError(f"a record is longer than {RECORD_BYTES:,} bytes: a quote or a line does not end")
        records = bytes(block.rstrip(b"\r\n"))
        blank = bytes(block[len(records) :])
        if records:
            yield records + b"\n"
            blank = blank.removeprefix(b"\r").removeprefix(b"\n")


def sha256(source: Source) -> str:
    """The hex digest of the file's original bytes."""
    with plain(source).original.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
