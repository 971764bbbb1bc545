"""From typed values to the float32 matrix that the model reads; the only place that knows its columns.

    integer, number   the number; NaN when missing
    boolean           1 or 0; NaN when missing
    category          a code: 0 missing, 1 to k the categories in contract order, k + 1 any other value
    date              days since 1970-01-01, month (1-12), ISO weekday (1-7); NaN when missing
    datetime          the same, days with their fraction, and the hour (0-23); in UTC
    time              hours since midnight with their fraction; NaN when missing
    text              how many words it has, NaN when missing; and how often words of each of 64 buckets occur

`encode_rows` serves the API, `encode_table` training and batch scoring; tests hold them equal.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tabserve.contract.model import Column, Contract, label_text

if TYPE_CHECKING:
    import polars as pl

Matrix = NDArray[np.float32]
Encoder = Callable[[Any], tuple[float, ...]]

EPOCH = dt.datetime(1970, 1, 1)
EPOCH_DAY = EPOCH.toordinal()
DAY = 86_400.0
HOUR = 3.6e9  # microseconds
BUCKETS = 64
AS_IT_IS = ("integer", "number", "boolean")  # NumPy makes NaN of None, 1 and 0 of true and false
PARTS = {
    "date": ("days", "month", "weekday"),
    "datetime": ("days", "month", "weekday", "hour"),
    "time": ("hours",),
    "text": ("words", *(f"bucket_{number:02}" for number in range(BUCKETS))),
}
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Layout:
    """What stands in which column of the matrix.

    Attributes:
        names: a name for each matrix column, `column` or `column.part`.
        sources: for each matrix column, the column of the contract it comes from.
        numeric: positions of numbers, booleans and parts of dates.
        categorical: positions of category codes.
        codes: for each categorical position, every code that can occur.
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    numeric: list[int]
    categorical: list[int]
    codes: tuple[tuple[float, ...], ...]

    def code_arrays(self) -> list[Matrix]:
        """`codes` as `OneHotEncoder(categories=...)` takes them."""
        return [np.array(codes, dtype=np.float32) for codes in self.codes]


def layout(contract: Contract) -> Layout:
    """The matrix columns of a contract."""
    parts = [(name, part) for name, column in contract.features.items() for part in _parts(column)]
    kinds = [contract.features[name].type for name, _ in parts]
    categorical = [i for i, kind in enumerate(kinds) if kind == "category"]
    return Layout(
        names=tuple(f"{name}.{part}" if part else name for name, part in parts),
        sources=tuple(name for name, _ in parts),
        numeric=[i for i, kind in enumerate(kinds) if kind != "category"],
        categorical=categorical,
        codes=tuple(_codes(contract.features[parts[i][0]]) for i in categorical),
    )


def _parts(column: Column) -> tuple[str, ...]:
    return PARTS.get(column.type or "", ("",))


def _codes(column: Column) -> tuple[float, ...]:
    return tuple(float(code) for code in range(len(column.categories) + 2))


def encode_rows(contract: Contract, rows: Sequence[Mapping[str, Any]]) -> Matrix:
    """Encode rows that `schema.row_type` has validated.

    Returns:
        float32 array of shape (rows, matrix columns).
    """
    return row_encoder(contract)(rows)


def row_encoder(contract: Contract) -> Callable[[Sequence[Mapping[str, Any]]], Matrix]:
    """`encode_rows` for one contract: what every request needs of it is prepared once."""
    features = contract.features
    numbers = [name for name, column in features.items() if column.type in AS_IT_IS]
    encoders = [(name, _encoder(column)) for name, column in features.items() if column.type not in AS_IT_IS]
    written = [(name, part) for name in (*numbers, *dict(encoders)) for part in _parts(features[name])]
    place = {pair: position for position, pair in enumerate(written)}
    order = [place[name, part] for name, column in features.items() for part in _parts(column)]
    in_order = itemgetter(*order) if len(order) > 1 else list

    def encode(rows: Sequence[Mapping[str, Any]]) -> Matrix:
        values = [
            in_order([*map(row.get, numbers), *[part for name, encoder in encoders for part in encoder(row.get(name))]])
            for row in rows
        ]
        return np.array(values, dtype=np.float32).reshape(len(rows), len(order))

    return encode


def _encoder(column: Column) -> Encoder:
    if column.type == "category":
        return _category_encoder(column)
    if column.type == "date":
        return lambda value: (math.nan,) * 3 if value is None else _date(value)
    if column.type == "datetime":
        return lambda value: (math.nan,) * 4 if value is None else _datetime(value)
    if column.type == "time":
        return lambda value: (math.nan,) if value is None else (_hours(value),)
    if column.type == "text":
        return _text
    raise AssertionError(f"{column.type} is encoded as it is")


def _category_encoder(column: Column) -> Encoder:
    codes = {label_text(label): (float(code),) for code, label in enumerate(column.categories, start=1)}
    missing, other = (0.0,), (float(len(column.categories) + 1),)
    if all(isinstance(label, str) for label in column.categories):
        of_text: dict[str | None, tuple[float]] = {None: missing} | codes
        return lambda value: of_text.get(value, other)
    return lambda value: missing if value is None else codes.get(label_text(value), other)


def _date(value: dt.date) -> tuple[float, ...]:
    return (value.toordinal() - EPOCH_DAY, value.month, value.isoweekday())


def _datetime(value: dt.datetime) -> tuple[float, ...]:
    days = (value - EPOCH) / dt.timedelta(days=1)
    return (days, value.month, value.isoweekday(), value.hour)


def _hours(value: dt.time) -> float:
    return (((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond) / HOUR


def _text(value: str | None) -> tuple[float, ...]:
    """The number of words, and how many of them fall into each bucket.

    Source: feature hashing (Weinberger et al. 2009), without signs; the hash is CRC-32, the same everywhere.
    """
    if value is None:
        return (math.nan, *(0.0,) * BUCKETS)
    words = WORD.findall(value.lower())
    counts = [0.0] * BUCKETS
    for word in words:
        counts[_bucket(word)] += 1
    return (len(words), *counts)


@functools.lru_cache(maxsize=100_000)
def _bucket(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS


def encode_table(contract: Contract, table: pl.DataFrame) -> Matrix:
    """Encode a table whose columns `columns.typed` has given the contract's types.

    Returns:
        float32 array of shape (rows, matrix columns).
    """
    matrix = np.empty((table.height, len(layout(contract).names)), dtype=np.float32)
    position = 0
    for name, column in contract.features.items():
        for block in _table_parts(column, table[name]):
            matrix[:, position] = block
            position += 1
    return matrix


def _table_parts(column: Column, series: pl.Series) -> Iterable[NDArray[Any]]:
    import polars as pl

    if column.type == "category":
        texts = [label_text(label) for label in column.categories]
        codes = series.replace_strict(texts, range(1, len(texts) + 1), default=len(texts) + 1, return_dtype=pl.Int32)
        return [codes.set(series.is_null(), 0).to_numpy()]
    if column.type == "text":
        rows = (_text(value) for value in series.to_list())
        return np.fromiter(rows, dtype=(np.float32, BUCKETS + 1), count=series.len()).T
    if column.type == "time":
        return [_floats((series.cast(pl.Int64) // 1_000).cast(pl.Float64) / HOUR)]
    if column.type not in ("date", "datetime"):
        return [_floats(series.cast(pl.Float64))]
    days = series.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / (DAY * 1e6)
    parts = [_floats(days), _floats(series.dt.month()), _floats(series.dt.weekday())]
    return [*parts, _floats(series.dt.hour())] if column.type == "datetime" else parts


def _floats(series: pl.Series) -> NDArray[np.float64]:
    import polars as pl

    return series.cast(pl.Float64).fill_null(math.nan).to_numpy()
