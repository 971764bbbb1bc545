"""How batch scoring grows with the file: seconds and peak memory at 1, 10 and 20 times 200,000 rows, as ratios.

    python benchmarks/batch.py ../my-model

The project must be trained. Needs Linux (/proc) and about 400 MB of disk in the temporary folder.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE_ROWS = 200_000
FACTORS = (1, 10, 20)


def main() -> None:
    """Measure and print."""
    project = Path(sys.argv[1]).resolve()
    print(f"{'rows':>12} {'s':>8} {'x':>6} {'rows/s':>10} {'own MB':>8} {'x':>6}")
    first: tuple[float, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for factor in FACTORS:
            source = grown(project / "data/loans.csv", Path(folder) / "in.csv", BASE_ROWS * factor)
            seconds, memory = score(project, source, Path(folder) / "out.csv")
            first = first or (seconds, memory)
            rows = BASE_ROWS * factor
            speed = f"{seconds:>8.1f} {seconds / first[0]:>6.1f} {rows / seconds:>10,.0f}"
            print(f"{rows:>12,} {speed} {memory:>8.0f} {memory / first[1]:>6.2f}")


def grown(sample: Path, path: Path, rows: int) -> Path:
    """A file with the sample's rows again and again."""
    header, *lines = sample.read_text().splitlines()
    with path.open("w") as file:
        file.write(header + "\n")
        for _ in range(rows // len(lines)):
            file.write("\n".join(lines) + "\n")
    return path


def score(project: Path, source: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB, without the pages of the files, of scoring `source`."""
    package = next(project.glob("src/*/__main__.py")).parent.name
    command = [str(project / ".venv/bin/python"), "-m", package, "predict", str(source), str(out)]
    started, highest = time.perf_counter(), 0.0
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        highest = max(highest, int(found[1]) / 1_000 if found else 0.0)
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"scoring failed with code {process.returncode}")
    return time.perf_counter() - started, highest


if __name__ == "__main__":
    main()
