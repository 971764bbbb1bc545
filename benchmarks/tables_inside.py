"""For tables.py, in the project's environment: makes a table, or times ONNX Runtime and the reader alone."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

PIECE = 50_000  # rows that ONNX Runtime gets at once
MADE = 100_000  # rows that are made at once
NUMPY, POLARS = import_module("numpy"), import_module("polars")


def make(path: Path, rows: int, columns: int) -> None:
    """Write a table whose target depends on some of its columns; a few values are missing."""
    random = NUMPY.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, MADE):
            table = piece(random, min(MADE, rows - start), columns)
            table.write_csv(file, include_header=start == 0)


def piece(random: Any, rows: int, columns: int) -> Any:
    """Some rows."""
    kinds = (number, whole, category, date)
    values = {f"c{position}": kinds[position % 4](random, rows) for position in range(columns)}
    score = values["c0"].fill_null(0) / 25 + (values["c2"] == "green") + random.normal(size=rows) / 2
    return POLARS.DataFrame(values | {"y": POLARS.Series(score > 0.5).replace_strict({True: "yes", False: "no"})})


def number(random: Any, rows: int) -> Any:
    """Numbers with two decimals, a twentieth missing."""
    values = POLARS.Series(random.normal(0, 25, rows).round(2))
    return values.set(POLARS.Series(random.random(rows) < 0.05), None)


def whole(random: Any, rows: int) -> Any:
    """Whole numbers."""
    return POLARS.Series(random.poisson(40, rows))


def category(random: Any, rows: int) -> Any:
    """One of eight words."""
    words = POLARS.Series(["red", "green", "blue", "white", "black", "grey", "brown", "pink"])
    return words.gather(random.integers(0, 8, rows))


def date(random: Any, rows: int) -> Any:
    """Days of ten years, as text."""
    return POLARS.Series(random.integers(15_000, 18_650, rows)).cast(POLARS.Date).cast(POLARS.String)


def times(package: str, folder: Path) -> dict[str, float]:
    """Seconds that reading the file takes, and predicting from the ready matrix, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    read, table = timed(lambda: POLARS.read_csv(folder / "in.csv", infer_schema=False))
    loaded = import_module("tabserve.inference.model").load(folder / "model/model.onnx", 1)
    typed = import_module("tabserve.tables.casting").typed(loaded.contract, table).table
    matrix = import_module("tabserve.contract.encoding").encode_table(loaded.contract, typed)
    name = loaded.session.get_inputs()[0].name
    pieces = [matrix[start : start + PIECE] for start in range(0, len(matrix), PIECE)]
    run, _ = timed(lambda: [loaded.session.run(None, {name: rows}) for rows in pieces])
    return {"session.run on the ready matrix": run, "polars.read_csv": read}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        print(json.dumps(times(sys.argv[2], Path(sys.argv[3]))))
