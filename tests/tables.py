"""Hand-made hostile tables: files as people really have them, each with what must become of it.

`write` makes a file in a folder; a table that can be learned says the roles and types of its columns, another one what
the error says. Files are made of the same rows where that does not matter: `size` and `colour` decide over `bought`.
"""

from __future__ import annotations

import bz2
import gzip
import json
import math
import os
import random
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xlsxwriter
import yaml

DRIVE = Path(__file__).with_name("drive.py")
ROWS = 160
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Hostile:
    """A file, and what must become of it.

    Attributes:
        name: of the file.
        write: writes it.
        target: the column to predict.
        columns: for some columns what the contract must say: `type`, or `ignored`; with `=` the value of a field.
        task: what must be learned.
        error: what the one line of the error must say; empty where the table can be learned.
        says: what `contract` must print.
    """

    name: str
    write: Callable[[Path], None]
    target: str = "bought"
    columns: Mapping[str, str] = field(default_factory=dict)
    task: str = "classification"
    error: str = ""
    says: str = ""


def rows(count: int = ROWS, seed: int = 7) -> Rows:
    """Rows with a number, a category, a date and a target that depends on the first two."""
    chance, made = random.Random(seed), []
    for number in range(count):
        size, colour = chance.uniform(1_000, 9_000), chance.choice(["red", "green", "blue"])
        likely = 1 / (1 + math.exp(-(size - 5_000) / 700 - (colour == "red")))
        made.append(
            {
                "order_id": 5_000 + number * 3,
                "size": round(size, 2),
                "colour": colour,
                "day": f"2024-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
                "bought": "yes" if chance.random() < likely else "no",
            }
        )
    return made


def text(table: Rows, separator: str = ",", header: bool = True, end: str = "\n") -> str:
    """The rows as a CSV, quoted where they must be."""
    lines = [list(table[0])] if header else []
    lines += [[str(value) for value in row.values()] for row in table]
    return "".join(separator.join(quoted(cell, separator) for cell in line) + end for line in lines)


def quoted(cell: str, separator: str) -> str:
    """A cell, between quotes where it needs them."""
    needs = any(mark in cell for mark in (separator, '"', "\n"))
    doubled = cell.replace('"', '""')
    return f'"{doubled}"' if needs else cell


def saved(content: str | bytes, encoding: str = "utf-8") -> Callable[[Path], None]:
    """A function that writes this content."""
    data = content if isinstance(content, bytes) else content.encode(encoding)

    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def changed(change: Callable[[int, dict[str, Any]], dict[str, Any]], count: int = ROWS) -> Rows:
    """The rows, each with some of its columns changed or added; a column that becomes None goes."""
    made = [{**row, **change(number, row)} for number, row in enumerate(rows(count))]
    return [{name: value for name, value in row.items() if value is not None} for row in made]


def edited(change: Callable[[int, dict[str, Any]], dict[str, Any]], count: int = ROWS) -> Callable[[Path], None]:
    """A function that writes the rows with some of their columns changed or added, as a plain CSV."""
    return saved(text(changed(change, count)))


def german(row: Mapping[str, Any]) -> dict[str, Any]:
    """Decimal commas, points between thousands, days first."""
    whole, cents = f"{row['size']:,.2f}".split(".")
    year, month, day = row["day"].split("-")
    return {"size": f"{whole.replace(',', '.')},{cents}", "day": f"{day}.{month}.{year}"}


def workbook(path: Path) -> None:
    """An Excel file with a title above the header, numbers, dates, and a second sheet."""
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd"}) as book:
        sheet = book.add_worksheet("Orders")
        sheet.write_row(0, 0, ["Orders of 2024"])
        sheet.write_row(2, 0, list(rows()[0]))
        for number, row in enumerate(rows(), start=3):
            sheet.write_row(number, 0, list(row.values()))
        book.add_worksheet("Notes").write(0, 0, "nothing")


def packed(path: Path) -> None:
    """A zip archive of one CSV."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner/orders.csv", text(rows()))


def json_lines(table: Iterable[Mapping[str, Any]]) -> str:
    """One object a line, without what is missing."""
    return "".join(json.dumps(row) + "\n" for row in table)


def wide(columns: int) -> Rows:
    """Many columns of noise beside the ones that matter."""
    chance = random.Random(1)
    return [{**row, **{f"noise_{i}": round(chance.gauss(0, 1), 4) for i in range(columns)}} for row in rows(60)]


def comment(number: int, row: Mapping[str, Any]) -> str:
    """A sentence that tells whether the row was bought, with a line break and quotes in it."""
    words = ["lovely", "great", "fine"] if row["bought"] == "yes" else ["awful", "broken", "late"]
    return f'the {row["colour"]} one was\n"{words[number % 3]}", number {number} of my orders'


def missing_words(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Every usual spelling of a missing value, and a word that is none of them."""
    words = ["NA", "n/a", "-", "?", "null", "", "NaN", " ", "#N/A", "None"]
    return {
        "size": words[number % 10] if number % 8 == 0 else row["size"],
        "weight": "unknown" if number % 20 == 0 else -999 if number % 20 == 1 else number % 13 + 0.5,
    }


def quantity(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """A number to predict, with a few far outliers."""
    outlier = 1e6 if number % 50 == 0 else 0
    return {"bought": None, "price": round(row["size"] * 2 + 3 * (row["colour"] == "red") + outlier, 1)}


def classes(count: int) -> Callable[[int, dict[str, Any]], dict[str, Any]]:
    """A target of many classes, and one with a single row."""
    return lambda number, row: {"bought": "rarest" if number == 0 else f"class {int(row['size'] * count / 9_001):02}"}


SPELLINGS = {"yes": ("Yes", "YES", "y", "TRUE"), "no": ("No", "no", "N", "false")}
LEARNED: Sequence[Hostile] = (
    Hostile("plain.csv", saved(text(rows())), columns={"size": "number", "colour": "category", "day": "date"}),
    Hostile("semicolons.csv", saved(text(rows(), ";")), says="semicolons separate the columns"),
    Hostile("tabs.tsv", saved(text(rows(), "\t"))),
    Hostile("bars.txt", saved(text(rows(), "|"))),
    Hostile(
        "german.csv",
        saved(text(changed(lambda _, row: german(row)), ";"), "cp1252"),
        columns={"size": "number", "size=format": "1.234,5", "day": "date", "day=format": "%d.%m.%Y"},
    ),
    Hostile("mark.csv", saved(text(rows()), "utf-8-sig"), columns={"order_id": "ignored", "size": "number"}),
    Hostile(
        "latin.csv",
        saved(text(changed(lambda n, row: {"straße": ["Köln", "Málaga"][n % 2]})), "cp1252"),
        columns={"straße": "category"},
        says="Windows-1252",
    ),
    Hostile(
        "utf16.csv",
        saved(text(changed(lambda n, row: {"città": "aè"[n % 2]})), "utf-16"),
        columns={"città": "category"},
    ),
    Hostile("utf16le.csv", saved(text(rows()), "utf-16-le"), says="UTF-16-LE"),
    Hostile("windows-lines.csv", saved(text(rows(), end="\r\n"))),
    Hostile("mac-lines.csv", saved(text(rows(), end="\r"))),
    Hostile(
        "sentences.csv",
        edited(lambda n, row: {"comment": comment(n, row)}),
        columns={"comment": "text", "order_id": "ignored"},
    ),
    Hostile(
        "money.csv",
        saved(
            text(changed(lambda n, row: {"size": f"${row['size']:,.2f}", "share": f"{n % 97}%", "kg": f"{n % 9} kg"}))
        ),
        columns={"size": "number", "size=unit": "$", "share": "integer", "share=unit": "%", "kg=unit": "kg"},
    ),
    Hostile(
        "brackets.csv",
        edited(lambda n, row: {"gain": f"({row['size']:,.2f})" if n % 3 else f"{row['size']:,.2f}"}),
        columns={"gain": "number", "gain=format": "1,234.5"},
    ),
    Hostile(
        "missing.csv",
        edited(missing_words),
        columns={"size": "number", "weight": "number", "weight=na_values": "['unknown']"},
    ),
    Hostile(
        "names.csv",
        saved(text(rows()).replace("order_id,size,colour,day,bought", ", Size ,Size,, bought ")),
        columns={"column_1": "ignored", "Size": "number", "Size_2": "category", "column_4": "date"},
    ),
    Hostile(
        "index.csv",
        edited(lambda n, row: {"Unnamed: 0": (n * 37) % ROWS}),
        columns={"Unnamed: 0": "ignored"},
    ),
    Hostile("title.csv", saved("Orders of 2024\n\n" + text(rows())), says="2 lines above the header are skipped"),
    Hostile("excel-says.csv", saved("sep=;\n" + text(rows(), ";"))),
    Hostile("packed.csv.gz", lambda path: (path.write_bytes(gzip.compress(text(rows()).encode())), None)[1]),
    Hostile("packed.csv.bz2", lambda path: (path.write_bytes(bz2.compress(text(rows()).encode())), None)[1]),
    Hostile("packed.zip", packed),
    Hostile("book.xlsx", workbook, columns={"size": "number", "day": "date"}, says="2 sheets"),
    Hostile("lines.jsonl", saved(json_lines(rows())), columns={"size": "number", "colour": "category"}),
    Hostile("array.json", saved(json.dumps(rows()))),
    Hostile("no-ending", saved(text(rows()))),
    Hostile(
        "clock.csv",
        saved(
            text(
                changed(
                    lambda n, row: {
                        "time": f"{n % 24}:{n % 60:02}",
                        "seen": f"{n % 12 + 1}/{n % 28 + 1}/2023 {n % 12 + 1}:{n % 60:02} {'AP'[n % 2]}M",
                        "plain": row["day"].replace("-", ""),
                        "day": None,
                        "month": row["day"][:7],
                    }
                )
            )
        ),
        columns={
            **{"time": "time", "time=format": "%H:%M", "seen": "datetime", "seen=format": "%m/%d/%Y %I:%M %p"},
            **{"plain": "date", "plain=format": "%Y%m%d", "month": "date", "month=format": "%Y-%m"},
        },
    ),
    Hostile(
        "codes.csv",
        saved(
            text(
                changed(lambda n, row: {"zip": ["01067", "99084"][n % 2], "area_code": 30 + n % 5, "flag": "TF"[n % 2]})
            )
        ),
        columns={"zip": "category", "area_code": "category", "flag": "boolean"},
    ),
    Hostile(
        "useless.csv",
        saved(
            text(changed(lambda n, row: {"always": "x", "rare": "y" if n == 1 else "", "uuid": f"{n:08x}-{n * 7:04x}"}))
        ),
        columns={"always": "ignored", "rare": "ignored", "uuid": "ignored"},
    ),
    Hostile(
        "answer.csv",
        edited(lambda n, row: {"status": {"yes": "shipped", "no": "closed"}[row["bought"]]}),
        columns={"status": "category"},
        says="status: it alone predicts the target perfectly",
    ),
    Hostile(
        "spelled.csv",
        edited(lambda n, row: {"bought": SPELLINGS[row["bought"]][n % 4]}),
        says="spellings",
    ),
    Hostile("ones.csv", edited(lambda n, row: {"bought": int(row["bought"] == "yes")})),
    Hostile("signs.csv", edited(lambda n, row: {"bought": {"yes": "+1", "no": "-1"}[row["bought"]]})),
    Hostile("unlabelled.csv", edited(lambda n, row: {"bought": "" if n % 4 == 0 else row["bought"]})),
    Hostile("classes.csv", edited(classes(30), 900), says="'rarest'"),
    Hostile("outliers.csv", edited(quantity), target="price", task="regression"),
    Hostile("small.csv", saved(text(rows(30)))),
    Hostile("narrow.csv", saved(text([{"size": row["size"], "bought": row["bought"]} for row in rows()]))),
    Hostile("wide.csv", saved(text(wide(300)))),
)
REFUSED: Sequence[Hostile] = (
    Hostile("empty.csv", saved(b""), error="is empty"),
    Hostile("header.csv", saved(text(rows())[:30]), error="has a header but no rows"),
    Hostile("headless.csv", saved("1,2\n3,4\n5,6\n"), target="1", error="line 1 holds 1, 2 where names should be"),
    Hostile("ragged.csv", saved(text(rows()) + "1,2,3,4,5,6,7\n"), error="line 162 has 7 fields, the header has 5"),
    Hostile("open-quote.csv", saved(text(rows()) + '"1,2\n' * 501), error="quote"),
    Hostile(
        "constant.csv",
        edited(lambda n, row: {"bought": "yes"}),
        error="is always 'yes': there is nothing",
    ),
    Hostile("unique.csv", edited(lambda n, row: {"bought": f"id-{n}"}), error="identifier-like"),
    Hostile("numbered.csv", saved(text(rows())), target="order_id", error="identifier-like"),
    Hostile("absent.csv", saved(text(rows())), target="sold", error="has no column 'sold'; it has 'order_id', 'size'"),
    Hostile("blank-target.csv", edited(lambda n, row: {"bought": ""}), error="has no value in any row"),
    Hostile("singles.csv", edited(lambda n, row: {"bought": f"{n}."}, 90), error="bought"),
    Hostile("alone.csv", saved("bought\n" + "yes\nno\n" * 40), error="the target is its only column"),
    Hostile("binary.csv", saved(bytes(range(256)) * 40), error="is not a table: it holds NUL bytes"),
    Hostile("no.parquet", saved(text(rows())), error="cannot be read as Parquet"),
    Hostile("no.xlsx", saved(b"PK\x03\x04 nothing"), error="cannot be read"),
    Hostile("no.csv.gz", saved(gzip.compress(text(rows()).encode())[:300]), error="cannot be decompressed"),
    Hostile("no.json", saved('{"size": 1, "bought": \n'), error="cannot be read as JSON lines"),
    Hostile("gone.csv", lambda path: None, error="does not exist"),
)


@dataclass(frozen=True)
class Driven:
    """What became of a table.

    Attributes:
        folder: where its file, contract, model and predictions are.
        code: the exit code.
        printed: on standard output.
        errors: on standard error.
    """

    folder: Path
    code: int
    printed: str
    errors: str

    def document(self, name: str) -> Any:
        """A JSON or YAML file that was left."""
        return yaml.safe_load((self.folder / name).read_text(encoding="utf-8"))


def driven(project: Path, folder: Path, tables: Sequence[Hostile], processes: int = 2) -> dict[str, Driven]:
    """Bring each table through a project's commands, some of them side by side."""
    jobs = []
    for table in tables:
        place = folder / table.name.replace(".", "-")
        place.mkdir()
        table.write(place / table.name)
        jobs.append({"folder": str(place), "name": table.name, "target": table.target})
    package = next(project.glob("src/*/__main__.py")).parent.name
    running = []
    for number in range(processes):
        (folder / f"jobs-{number}.json").write_text(json.dumps(jobs[number::processes]))
        command = [project / ".venv/bin/python", "-P", DRIVE, package, folder / f"jobs-{number}.json"]
        environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "300"}
        running.append(subprocess.Popen(list(map(str, command)), env=environment))
    assert [process.wait(900) for process in running] == [0] * processes
    return {job["name"]: _result(Path(job["folder"])) for job in jobs}


def _result(folder: Path) -> Driven:
    return Driven(folder, **json.loads((folder / "result.json").read_text()))
