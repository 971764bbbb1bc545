"""Batch scoring reads a file in chunks: ten times the rows, about the same memory."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.project.conftest import Prepared


def peak(project: Path, source: Path) -> int:
    """The peak of the memory that scoring a file needs for itself, in kilobytes.

    Pages of the file that is read are not counted: the system keeps them as long as it has room.
    """
    command = (".venv/bin/python", "-m", "loan_offers", "predict", str(source), str(source.with_suffix(".out.csv")))
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    highest = 0
    while process.poll() is None:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        highest = max(highest, int(found[1]) if found else 0)
        time.sleep(0.01)
    assert process.returncode == 0
    return highest


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which only Linux has")
def test_memory_is_flat(prepared: Prepared, tmp_path: Path) -> None:
    project = prepared()
    header, *rows = (project / "data/loans.csv").read_text().splitlines()
    sizes = {}
    for times in (50, 500):
        source = tmp_path / f"{times}.csv"
        with source.open("w") as file:
            file.write(header + "\n")
            for _ in range(times):
                file.write("\n".join(rows) + "\n")
        sizes[times] = peak(project, source)
    assert sizes[500] < 1.5 * sizes[50], sizes
