"""Reading tables: CSV and Parquet files into columns of the contract's types.

Everything in a CSV is text until the contract says what it is, so a postcode keeps its leading zero and
training, batch scoring and the inference of a contract read the same value from the same cell.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from .contract import FLOAT32_MAX, Column, Contract, label_text
from .errors import UserError

CSV_ENDINGS = (".csv", ".tsv", ".txt")
PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = CSV_ENDINGS + PARQUET_ENDINGS
BATCH_ROWS = 50_000
BATCH_BYTES = 8 * 2**20
SEPARATORS = ",;\t|"
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "-", "?", "<NA>", "#N/A")
BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
DATETIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
)
ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")


@dataclass(frozen=True)
class Typed:
    """A table as the contract describes it.

    Attributes:
        table: feature columns, and the target where the file has it, with the contract's types;
            a cell that breaks the contract is null.
        rejected: for each row, whether any feature breaks the contract.
    """

    table: pl.DataFrame
    rejected: pl.Series


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
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError, csv.Error) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as {kind_of(path)}: {reason}") from None


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
            return pl.scan_parquet(path)
        separator, names = _header(path)
        table = pl.scan_csv(path, separator=separator, infer_schema=False, with_column_names=lambda _: names)
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
    """
    rest = b""
    while read := file.read(size):
        block = rest + read
        cut = block.rfind(b"\n") + 1
        while cut and block.count(b'"', 0, cut) % 2:
            cut = block.rfind(b"\n", 0, cut - 1) + 1
        rest = block[cut:]
        if cut:
            yield block[:cut]
    if rest:
        yield rest


def sha256(path: Path) -> str:
    """The hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clean(series: pl.Series) -> pl.Series:
    """A column with every missing value as null; text loses the blanks around it."""
    if series.dtype == pl.String:
        stripped = series.str.strip_chars()
        return stripped.set(stripped.is_in(MISSING), None)
    return series.fill_nan(None) if series.dtype.is_float() else series


def typed(contract: Contract, table: pl.DataFrame) -> Typed:
    """Give each feature its type, and mark the rows that the contract refuses."""
    columns, rejected = [], pl.repeat(False, table.height, dtype=pl.Boolean, eager=True)
    for name, column in contract.features.items():
        values, bad = typed_column(column, table[name])
        columns.append(values)
        rejected = rejected | bad
    target = contract.target
    if target in table.columns:
        columns.append(typed_column(contract.columns[target], table[target])[0])
    return Typed(pl.DataFrame(columns), rejected)


def typed_column(column: Column, raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """One column with its type, and for each row whether it breaks the contract (its value is then null)."""
    present = clean(raw)
    values = _parsed(column, present)
    allowed = _allowed(column, values).fill_null(False)
    bad = present.is_not_null() & ~allowed
    if not column.missing:
        bad = bad | present.is_null()
    return values.set(~allowed, None).alias(raw.name), bad


def _parsed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in ("integer", "number"):
        return _numbers(values)
    if column.type == "boolean":
        return booleans(values)
    if column.type == "category":
        return texts(values)
    read = moments(values, column.format)
    return read.dt.date() if column.type == "date" else read


def _numbers(values: pl.Series) -> pl.Series:
    if values.dtype.is_temporal():
        return pl.repeat(None, values.len(), dtype=pl.Float64, eager=True)
    return values.cast(pl.Float64, strict=False)


def booleans(values: pl.Series) -> pl.Series:
    """True and false in any of the spellings of `BOOLEANS`; null where it is none of them."""
    if values.dtype == pl.Boolean:
        return values
    return texts(values).str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)


def texts(values: pl.Series) -> pl.Series:
    """Labels as text, whole numbers without a decimal point, as `contract.label_text` writes them."""
    if values.dtype.is_float() and (values.drop_nulls() == values.drop_nulls().floor()).all():
        values = values.cast(pl.Int64, strict=False)
    return values.cast(pl.String)


def moments(values: pl.Series, format: str | None) -> pl.Series:
    """Moments in UTC without a zone; null where the text is no date or time of the format."""
    if values.dtype == pl.String:
        formats = (format,) if format else DATETIME_FORMATS
        zoned = () if format else ZONED_FORMATS
        readings = [_moment(f) for f in formats] + [_moment(f).dt.replace_time_zone(None) for f in zoned]
        return values.to_frame("value").select(pl.coalesce(readings)).to_series()
    if isinstance(values.dtype, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if values.dtype.time_zone else values
        return utc.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us"))
    return pl.repeat(None, values.len(), dtype=pl.Datetime("us"), eager=True)


def _moment(format: str) -> pl.Expr:
    zoned = format in ZONED_FORMATS
    dtype = pl.Datetime("us", "UTC") if zoned else pl.Datetime("us")
    return pl.col("value").str.strptime(dtype, format, strict=False)


def _allowed(column: Column, values: pl.Series) -> pl.Series:
    if column.type in ("integer", "number"):
        lowest, highest = column.range or (-FLOAT32_MAX, FLOAT32_MAX)
        inside = values.is_between(lowest, highest)
        return inside & (values == values.floor()) if column.type == "integer" else inside
    if column.type == "category" and not column.other:
        return values.is_in([label_text(label) for label in column.categories])
    return values.is_not_null()


def number(value: str) -> float | str:
    """The text as a number where it is one."""
    try:
        return float(value)
    except ValueError:
        return value
