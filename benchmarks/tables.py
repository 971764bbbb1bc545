"""How contract, training and scoring grow with a table's rows and columns, and how fast scoring is beside ONNX Runtime.

    python benchmarks/tables.py ../my-model

The project must be set up (`make setup`); its own files stay as they are. Needs Linux (/proc), about 1 GB of disk in
the temporary folder and up to an hour. Columns are numbers, whole numbers, categories and dates by turns. A command
that takes longer than LIMIT is ended and its seconds are shown as inf; what would come after it is left out.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROWS = (1_000, 10_000, 100_000, 1_000_000)
COLUMNS = (20, 200, 2_000)
COLUMNS_OF_ROWS, ROWS_OF_COLUMNS = 20, 2_000
LIMIT = 1_200.0  # seconds
HERE = Path(__file__).resolve().parent
ONE_CORE = {max(os.sched_getaffinity(0))}
COMMANDS = (
    ("contract", "contract", "in.csv", "--target", "y", "--write"),
    ("train", "train"),
    ("predict", "predict", "in.csv", "out.csv"),
)
Cost = tuple[float, float]


def main() -> None:
    """Measure and print."""
    project = Path(sys.argv[1]).resolve()
    grown(project, [(rows, COLUMNS_OF_ROWS) for rows in ROWS], "rows")
    grown(project, [(ROWS_OF_COLUMNS, columns) for columns in COLUMNS], "columns")


def grown(project: Path, sizes: Sequence[tuple[int, int]], what: str) -> None:
    """Print the cost of each command for tables of these sizes, and how often that of the size before."""
    print(f"{'rows':>10} {'columns':>8}   {'command':<10} {'s':>8} {'x':>6} {'own MB':>8} {'x':>6}")
    before: dict[str, Cost] = {}
    for rows, columns in sizes:
        with tempfile.TemporaryDirectory() as folder:
            make(project, Path(folder), rows, columns)
            for name, *arguments in COMMANDS:
                cost = measured(project, arguments, Path(folder))
                size = f"{rows:>10,} {columns:>8,}   {name:<10}"
                print(f"{size} {described(cost, before.get(name))}", flush=True)
                before[name] = cost
                if math.isinf(cost[0]):
                    return
            if what == "rows" and rows == max(ROWS):
                compare(project, Path(folder), rows)
    print()


def described(cost: Cost, before: Cost | None) -> str:
    """Seconds and megabytes, with how often those before they are."""
    times = [f"{now / then:>6.1f}" for now, then in zip(cost, before, strict=True)] if before else [f"{'':>6}"] * 2
    return f"{cost[0]:>8.1f} {times[0]} {cost[1]:>8.0f} {times[1]}"


def make(project: Path, folder: Path, rows: int, columns: int) -> None:
    """A folder with a generated table in it, and with nothing that the settings would be read from."""
    inside(project, "make", str(folder / "in.csv"), str(rows), str(columns))


def inside(project: Path, *arguments: str, cores: set[int] | None = None) -> str:
    """What the script beside this one prints in the project's environment."""
    command = [str(project / ".venv/bin/python"), str(HERE / "tables_inside.py"), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=surroundings(cores)).stdout


def measured(project: Path, arguments: Sequence[str], folder: Path, cores: set[int] | None = None) -> Cost:
    """Seconds and peak memory in MB, without the pages of the files, of one command."""
    package = next(project.glob("src/*/__main__.py")).parent.name
    command = [str(project / ".venv/bin/python"), "-m", package, *arguments]
    started, highest = time.perf_counter(), 0.0
    with (folder / "said.txt").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=surroundings(cores))
        os.sched_setaffinity(process.pid, cores or os.sched_getaffinity(0))
        while process.poll() is None:
            found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            highest = max(highest, int(found[1]) / 1_000 if found else 0.0)
            time.sleep(0.01)
            if time.perf_counter() - started > LIMIT:
                process.kill()
                process.wait()
                return math.inf, highest
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{(folder / 'said.txt').read_text()[-2_000:]}")
    return time.perf_counter() - started, highest


def surroundings(cores: set[int] | None) -> dict[str, str]:
    """The environment, with as many threads of Polars as there are cores to run on, and byte code as everywhere."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | ({"POLARS_MAX_THREADS": str(len(cores))} if cores else {})


def compare(project: Path, folder: Path, rows: int) -> None:
    """Print rows per second on one core: scoring the file, ONNX Runtime alone, and reading the file alone."""
    seconds = measured(project, ("predict", "in.csv", "out.csv"), folder, ONE_CORE)[0]
    package = next(project.glob("src/*/__main__.py")).parent.name
    alone = json.loads(inside(project, "time", package, str(folder), cores=ONE_CORE))
    print(f"\n{rows:,} rows on one core{'':<14} {'s':>8} {'rows/s':>12} {'x':>6}")
    for what, took in {"predict": seconds, **alone}.items():
        print(f"{what:<32} {took:>8.1f} {rows / took:>12,.0f} {seconds / took:>6.2f}")


if __name__ == "__main__":
    main()
