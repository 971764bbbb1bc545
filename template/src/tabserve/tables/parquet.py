"""Read Parquet in parts: dictionaries, repeated values and lists may expand to any size."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from tabserve.errors import UserError

FIRST_ROWS, FASTER = 1, 16  # rows of the first batch, and how many times more the next one may have
MOST_ROWS, ROWS_PER_BYTE = 10_000_000, 100  # of a file that may be what it seems
FIXED = 8  # a number takes so many bytes, and may be stored in a bit


def batches(lazy: pl.LazyFrame, rows: int, size: int) -> Iterator[pl.DataFrame]:
    """The rows in batches of at most `rows` rows and about `size` bytes; one empty batch if there are none."""
    start, next_, total = 0, FIRST_ROWS, lazy.select(pl.len()).collect().item()
    while start < max(total, 1):
        batch = lazy.slice(start, next_).collect()
        yield batch
        start += next_
        fit = next_ * size // max(int(batch.estimated_size()), 1)
        next_ = max(1, min(fit, FASTER * next_, rows))


def weight(frame: pl.DataFrame) -> int:
    """Bytes in memory, of which those of numbers count less: a number was stored for each, if only in a bit."""
    sizes = ((column.dtype, int(column.estimated_size())) for column in frame)
    return sum(size // FIXED if dtype.is_numeric() or dtype.is_temporal() else size for dtype, size in sizes)


def check(path: Path, name: str, size: int, most: int) -> None:
    """Reject a file whose rows take much memory; `size` is that of its batches, `most` that of one of them."""
    lazy = pl.scan_parquet(path, glob=False)
    total = lazy.select(pl.len()).collect().item()
    if total > max(MOST_ROWS, ROWS_PER_BYTE * path.stat().st_size):
        raise UserError(f"{name} has {total:,} rows, far more than the file: if you trust it, save a CSV")
    loose = [name for name, dtype in lazy.collect_schema().items() if not (dtype.is_numeric() or dtype.is_temporal())]
    for batch in batches(lazy.select(loose), MOST_ROWS, size) if loose else ():
        if weight(batch) > most:
            raise UserError(f"{name} takes more than {most:,} bytes of memory: if you trust it, save a CSV")
