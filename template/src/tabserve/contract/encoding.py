"""Encode typed values as the float32 matrix that the model reads.

    integer, number   the number; NaN when missing
    boolean           1 or 0; NaN when missing
    category          a code: 0 missing, 1 to k the categories in contract order, k + 1 any other value
    date              days since 1970-01-01, month (1-12), ISO weekday (1-7); NaN when missing
    datetime          the same, with fractional days, and the hour (0-23); in UTC
    time              hours since midnight, with fractions; NaN when missing
    text              the number of words, NaN when missing; and the number of words in each of 64 hash buckets

`row_encoder` serves the API, `encode_table` training and batch scoring; tests hold them equal.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from tabserve.contract.model import Column, Contract, label_text
from tabserve.errors import UserError, suggestion

if TYPE_CHECKING:
    import polars as pl

Matrix = NDArray[np.float32]
Row = Mapping[str, Any]
Encoder = Callable[[Any], tuple[float, ...]]

EPOCH = dt.datetime(1970, 1, 1)
DAY = 8.64e10  # microseconds
HOUR = 3.6e9  # microseconds
BUCKETS = 64
PARTS = {
    "date": ("days", "month", "weekday"),
    "datetime": ("days", "month", "weekday", "hour"),
    "time": ("hours",),
    "text": ("words", *(f"bucket_{number:02}" for number in range(BUCKETS))),
}
WORD = re.compile(r"\w+")


class Names(tuple[str, ...]):
    """Names whose `index` raises `UserError` for an unknown one."""

    def index(self, name: str, *between: SupportsIndex) -> int:
        """The position of a column of the matrix."""
        if name not in self:
            raise UserError(
                f"pipeline.py: there is no column {name!r}{suggestion(name, self)}; it has {', '.join(self)}"
            )
        return super().index(name, *between)


@dataclass(frozen=True)
class Layout:
    """The columns of the matrix."""

    names: Names  # a name for each matrix column, `column` or `column.part`
    sources: tuple[str, ...]  # for each matrix column, the contract column that it comes from
    numeric: list[int]  # positions of numbers, booleans and parts of dates
    categorical: list[int]  # positions of category codes
    codes: tuple[tuple[float, ...], ...]  # for each categorical position, all possible codes

    def code_arrays(self) -> list[Matrix]:
        """`codes` as `OneHotEncoder(categories=...)` takes them."""
        return [np.array(codes, dtype=np.float32) for codes in self.codes]


def layout(contract: Contract) -> Layout:
    """The matrix columns of a contract."""
    features = contract.features
    parts = [(name, part) for name, column in features.items() for part in PARTS.get(column.type or "", ("",))]
    columns = [features[name] for name, _ in parts]
    categorical = [i for i, column in enumerate(columns) if column.type == "category"]
    return Layout(
        names=Names(f"{name}.{part}" if part else name for name, part in parts),
        sources=tuple(name for name, _ in parts),
        numeric=[i for i, column in enumerate(columns) if column.type != "category"],
        categorical=categorical,
        codes=tuple(tuple(map(float, range(len(columns[i].categories) + 2))) for i in categorical),
    )


def row_encoder(contract: Contract) -> Callable[[Sequence[Row]], Matrix]:
    """A function that encodes validated rows as float32 of shape (rows, matrix columns)."""
    width = len(layout(contract).names)
    encoders = [(name, _encoder(column)) for name, column in contract.features.items()]

    def encode(rows: Sequence[Row]) -> Matrix:
        values: list[Any] = []
        for row in rows:
            for name, encoder in encoders:
                if encoder is None:
                    values.append(row.get(name))
                else:
                    values += encoder(row.get(name))
        return np.array(values, dtype=np.float32).reshape(len(rows), width)

    return encode


def _encoder(column: Column) -> Encoder | None:
    """The parts of a value; None where NumPy converts the value itself."""
    if column.type in ("integer", "number", "boolean"):
        return None
    if column.type != "category":
        encode, missing = ENCODERS[column.type or ""]
        return lambda value: missing if value is None else encode(value)
    codes = {label_text(label): (float(code),) for code, label in enumerate(column.categories, start=1)}
    missing, other = (0.0,), (float(len(column.categories) + 1),)
    if all(isinstance(label, str) for label in column.categories):
        of_text: dict[str | None, tuple[float]] = {None: missing} | codes
        return lambda value: of_text.get(value, other)
    return lambda value: missing if value is None else codes.get(label_text(value), other)


def _date(value: dt.date) -> tuple[float, ...]:
    return (value.toordinal() - EPOCH.toordinal(), value.month, value.isoweekday())


def _datetime(value: dt.datetime) -> tuple[float, ...]:
    days = (value - EPOCH) / dt.timedelta(days=1)
    return (days, value.month, value.isoweekday(), value.hour)


def _time(value: dt.time) -> tuple[float, ...]:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return ((seconds * 1_000_000 + value.microsecond) / HOUR,)


def _text(value: str) -> tuple[float, ...]:
    """The number of words, in all and in each bucket.

    Source: feature hashing (Weinberger et al. 2009), without signs; CRC-32 is the same on all machines.
    """
    words = WORD.findall(value.lower())
    counts = [0.0] * BUCKETS
    for word in words:
        counts[_bucket(word)] += 1
    return (len(words), *counts)


@functools.lru_cache(maxsize=100_000)
def _bucket(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS


ENCODERS: dict[str, tuple[Encoder, tuple[float, ...]]] = {
    "date": (_date, (math.nan,) * 3),
    "datetime": (_datetime, (math.nan,) * 4),
    "time": (_time, (math.nan,)),
    "text": (_text, (math.nan, *(0.0,) * BUCKETS)),
}


def encode_table(contract: Contract, table: pl.DataFrame) -> Matrix:
    """A typed table as float32 of shape (rows, matrix columns)."""
    matrix = np.empty((table.height, len(layout(contract).names)), dtype=np.float32)
    parts = (part for name, column in contract.features.items() for part in _table_parts(column, table[name]))
    for position, part in enumerate(parts):
        matrix[:, position] = part
    return matrix


def _table_parts(column: Column, series: pl.Series) -> Iterable[NDArray[Any]]:
    import polars as pl

    if column.type == "category":
        texts = [label_text(label) for label in column.categories]
        codes = series.replace_strict(texts, range(1, len(texts) + 1), default=len(texts) + 1, return_dtype=pl.Int32)
        return [codes.set(series.is_null(), 0).to_numpy()]
    if column.type == "text":
        encode, missing = ENCODERS["text"]
        rows = (missing if value is None else encode(value) for value in series.to_list())
        return np.fromiter(rows, dtype=(np.float32, BUCKETS + 1), count=series.len()).T
    parts = [series]
    if column.type == "time":
        parts = [(series.cast(pl.Int64) // 1_000).cast(pl.Float64) / HOUR]
    elif column.type in ("date", "datetime"):
        days = series.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / DAY
        parts = [days, series.dt.month(), series.dt.weekday()]
    if column.type == "datetime":
        parts.append(series.dt.hour())
    return [part.cast(pl.Float64).fill_null(math.nan).to_numpy() for part in parts]
