"""Detect the dialect of a CSV file: its separator, its header, its columns."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from tabserve.errors import UserError
from tabserve.tables.cells import unmarked_names

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
START = 1_000_000  # characters to look at
RECORDS = 200  # to look at
MOST_ABOVE = 20  # lines above the header, as titles and notes
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?")
FRACTION = re.compile(r"[+-]?\d*[.,]\d+([eE][+-]?\d+)?")
ESCAPED = re.compile(r'[,;\t|\n]"[^"\n]*\\"(?=[^",;\t|\r\n])')
YEAR = re.compile(r"(19|20)\d\d")
QUOTED_LINES = 100
DECLARED = re.compile(r'"?sep=([,;\t|])"?[\r\n]')  # as Excel writes it above the header

Record = tuple[int, list[str]]  # the number of lines before it, and its cells


@dataclass(frozen=True)
class Dialect:
    """The dialect of a CSV file."""

    separator: str  # between cells
    above: int  # the number of lines above the header
    names: list[str]  # of the columns, distinct and not empty


def dialect(path: Path) -> Dialect:
    """Detect the dialect of a UTF-8 file.

    The separator is the one that splits the most records into the same number of cells, two or more; the header is
    the first record with as many. Raises `UserError` if the header holds numbers, or backslashes escape quotes.

    Source: the consistency measure of van den Burg et al., Wrangling messy CSV files (2019), reduced to shapes.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(START)
    if len(start) == START and start.count("\n") < MOST_ABOVE and len(start) - start.rfind("\n") > START // 2:
        raise UserError(f"a line has more than {START // 2:,} characters: a table has shorter ones, with line ends")
    if found := ESCAPED.search(start):  # RFC 4180 doubles quotes; parsers would split the cell
        line = start.count("\n", 0, found.start() + 1) + 1
        raise UserError(f'line {line} writes quotes inside a cell as \\": double them, as ""')
    records = {separator: _records(start, separator) for separator in SEPARATORS}
    declared = DECLARED.match(start)
    best = declared[1] if declared else max(SEPARATORS, key=lambda separator: _consistency(records[separator]))
    above, cells = header(records[best][1:] if declared else records[best])
    names = unmarked_names([name.strip() for name in cells])
    if _are_values(names):
        raise UserError(f"line {above + 1} holds {', '.join(names[:3])} where names should be: put a header on top")
    return Dialect(best if len(names) > 1 else ",", above, distinct(names))


def _are_values(names: list[str]) -> bool:
    """Whether a header holds values: fractions, or only numbers that neither count from 0 nor are years."""
    if any(FRACTION.fullmatch(name) for name in names):
        return True
    if not names or not all(NUMBER.fullmatch(name) for name in names):
        return False
    counted = list(map(str, range(len(names))))
    return len(names) == 1 or (names != counted and not all(YEAR.fullmatch(name) for name in names))


def _records(start: str, separator: str) -> list[Record]:
    """The first records that are not blank; the last one is dropped where `start` may end inside it."""
    reader = csv.reader(io.StringIO(start, newline=""), delimiter=separator)
    found, before = [], 0
    with suppress(csv.Error):  # a cell of more than 131,072 characters: an open quote, or not a table
        for record in reader:
            if any(map(str.strip, record)):
                found.append((before, record))
            before = reader.line_num
            if len(found) == RECORDS:
                return found
        if len(start) == START and len(found) > 1:
            del found[-1]
    return found


def _usual_width(records: Sequence[Record]) -> tuple[int, int]:
    """The number of cells that most records have, of equals the larger one, and how many have it."""
    counts = Counter(len(record) for _, record in records)
    return max(counts.items(), key=lambda pair: (pair[1], pair[0]), default=(0, 0))


def _consistency(records: Sequence[Record]) -> tuple[bool, bool, float, int]:
    """How well a separator explains records: whether the first has the usual width, and how many have."""
    width, count = _usual_width(records)
    return width > 1, bool(records) and len(records[0][1]) == width, count / max(len(records), 1), width


def header(records: Sequence[Record]) -> Record:
    """The header: the first record that is not a title, with the number of lines above it."""
    if not records:
        return 0, []
    width, count = _usual_width(records)
    if count < 2:  # two records that differ have no usual width
        return records[0]
    for above, record in records[:MOST_ABOVE]:
        filled = sum(1 for cell in record if cell.strip())
        if filled > 1 or width < 2 or (width == 2 and len(record) > 1):  # else it is a title or a note
            return above, record
    return records[0]


def distinct(names: list[str]) -> list[str]:
    """The names, stripped, with a number appended to those that are empty or repeated."""
    given: dict[str, None] = {}
    for position, name in enumerate(map(str.strip, names), start=1):
        unique = name or f"column_{position}"
        numbers = count(2)
        while unique in given:
            unique = f"{name or 'column'}_{next(numbers)}"
        given[unique] = None
    return list(given)


def malformed_record(path: Path, dialect: Dialect) -> str | None:
    """Where a record has more fields than the header, or a quote is not closed, if anywhere."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file, suppress(csv.Error):
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
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        quotes = sum(text.count('"') for text in islice(file, max(line - 1, 0), None))
    return f"a quote that is opened in line {line} is never closed" if quotes % 2 else None
