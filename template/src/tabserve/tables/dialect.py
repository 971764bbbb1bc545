"""How a CSV file is written: what separates its cells, where its header is, and the names in it."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tabserve.errors import UserError

SEPARATORS = ",;\t|"
WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
START = 1_000_000  # bytes to look at
RECORDS = 200  # to look at
MOST_ABOVE = 20  # lines above the header, as titles and notes
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?")
FRACTION = re.compile(r"[+-]?\d*[.,]\d+([eE][+-]?\d+)?")
ESCAPED = re.compile(r'[,;\t|\n]"[^"\n]*\\"(?=[^",;\t|\r\n])')
YEAR = re.compile(r"(19|20)\d\d")
QUOTED_LINES = 100
DECLARED = re.compile(rf'"?sep=([{re.escape(SEPARATORS)}])"?[\r\n]')  # as Excel writes it above the header


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes:
        separator: between cells.
        above: how many lines stand above the header.
        names: of the columns; empty ones and repeated ones have a number behind them.
        first_line: the number of the header's first line, from 1.
    """

    separator: str
    above: int
    names: list[str]


def dialect(path: Path) -> Dialect:
    """How a UTF-8 file is written.

    The separator is the one that splits the most records into the same number of cells, two or more; the header is
    the first record with as many.

    Source: the consistency measure of van den Burg et al., Wrangling messy CSV files (2019), reduced to shapes.

    Raises:
        UserError: the header holds numbers in place of names.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(START)
    complete = len(start) < START
    readings = {separator: _records(start, separator, complete) for separator in SEPARATORS}
    declared = DECLARED.match(start)
    best = declared[1] if declared else max(SEPARATORS, key=lambda separator: _consistency(readings[separator]))
    _check_quotes(start)
    above, cells = header(readings[best][1:] if declared else readings[best])
    names = [name.strip() for name in cells]
    if _are_values(names):
        raise UserError(f"line {above + 1} holds {', '.join(names[:3])} where names should be: put a header on top")
    return Dialect(best if len(names) > 1 else ",", above, distinct(names))


def _check_quotes(start: str) -> None:
    """Refuse quotes that are escaped by a backslash: RFC 4180 doubles them, readers go on in the next cell."""
    if found := ESCAPED.search(start):
        line = start.count("\n", 0, found.start() + 1) + 1
        raise UserError(f'line {line} writes quotes inside a cell as \\": double them, as ""')


def _are_values(names: list[str]) -> bool:
    """Whether a header holds values: fractions, or numbers only that neither count from 0 nor are years."""
    if any(FRACTION.fullmatch(name) for name in names):
        return True
    if not names or not all(NUMBER.fullmatch(name) for name in names):
        return False
    counted = [str(position) for position in range(len(names))]
    return len(names) == 1 or (names != counted and not all(YEAR.fullmatch(name) for name in names))


Records = list[tuple[int, list[str]]]


def _records(text: str, separator: str, complete: bool) -> Records:
    """The first records that are not blank, each with the number of lines before it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    found, before = [], 0
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                found.append((before, record))
            before = reader.line_num
            if len(found) == RECORDS:
                return found
    except csv.Error:  # a cell of more than 131,072 characters: a quote that is never closed, or no table at all
        return found
    return found if complete or len(found) < 2 else found[:-1]


def _usual(records: Records) -> tuple[int, int]:
    """The number of cells that most records have, and how many have it; of equally frequent ones the larger."""
    counts = Counter(len(record) for _, record in records)
    return max(counts.items(), key=lambda pair: (pair[1], pair[0])) if counts else (0, 0)


def _consistency(records: Records) -> tuple[bool, bool, float, int]:
    """How well a separator explains the records: whether the first one is as wide as most, and how many are."""
    width, count = _usual(records)
    return width > 1, bool(records) and len(records[0][1]) == width, count / max(len(records), 1), width


def header(records: Records) -> tuple[int, list[str]]:
    """How many lines are above the header, and its cells: the first record of the usual width, or wider."""
    width, count = _usual(records)
    if count < 2:  # nothing is usual in a file of two records that differ
        return records[0] if records else (0, [])
    leading = records[:MOST_ABOVE]
    narrow = 0
    while narrow < len(leading) and _is_title(leading[narrow][1], width):
        narrow += 1
    return records[narrow] if narrow < len(leading) else records[0]


def _is_title(record: list[str], width: int) -> bool:
    """Whether a record above a table is a title or a note: one filled cell where the table has more columns."""
    return len([cell for cell in record if cell.strip()]) <= 1 < width and (len(record) < width or width > 2)


def distinct(names: list[str]) -> list[str]:
    """The names, with a number behind those that are empty or stand twice."""
    given: dict[str, None] = {}
    for position, name in enumerate(names, start=1):
        candidates = (
            name or f"column_{position}",
            *(f"{name or 'column'}_{number}" for number in range(2, len(names) + 2)),
        )
        given[next(candidate for candidate in candidates if candidate not in given)] = None
    return list(given)


def remarks(dialect: Dialect, name: str) -> list[str]:
    """What a person should know of how the file is read."""
    said = []
    if dialect.separator != ",":
        said.append(f"{name}: {WORDS[dialect.separator]} separate the columns")
    if dialect.above:
        said.append(f"{name}: {dialect.above} line{'s' * (dialect.above > 1)} above the header are left out")
    return said


def odd_record(path: Path, dialect: Dialect) -> str | None:
    """Where a file has a record with more fields than its header, which no reader can make sense of."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for _ in range(dialect.above):
            file.readline()
        reader = csv.reader(file, delimiter=dialect.separator)
        before = line = 0
        for record in reader:
            line = dialect.above + before + 1
            if len(record) > len(dialect.names):
                return f"the record in line {line} has {len(record)} fields, the header has {len(dialect.names)}"
            if reader.line_num - before > QUOTED_LINES:
                return f"a quote that is opened in line {line} is closed {reader.line_num - before} lines later"
            before = reader.line_num
    return f"a quote that is opened in line {line} is never closed" if _is_open(path, line) else None


def _is_open(path: Path, line: int) -> bool:
    """Whether a quote is open at the end of a file whose last record begins in this line."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return sum(text.count('"') for text in islice(file, max(line - 1, 0), None)) % 2 == 1
