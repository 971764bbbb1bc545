"""Read a file in a process with bounded memory: readers of Excel, JSON and Parquet hold all that it expands to."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tabserve.errors import UserError, one_line
from tabserve.tables import converters, parquet
from tabserve.tables.converters import Remarks

THREADS = 2
THREAD_BYTES = 2**24  # that a thread may reserve and hardly uses
SECONDS, BYTES_PER_SECOND = 20, 2**24  # how long it may take
CONVERTERS = {"Excel": converters.from_excel, "JSON lines": converters.from_json}


def convert(kind: str, path: Path, name: str, copy: Path, most: int) -> Remarks:
    """Write a file as Parquet to `copy`, or only read it if it is Parquet already.

    Raises `UserError` if that takes more than twice `most` bytes, or very long. Only Linux bounds the memory.
    """
    found = [part or str(Path.cwd()) for part in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found), "POLARS_MAX_THREADS": str(THREADS)}
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps([kind, str(path), name, str(copy), most]),  # a list of processes would show arguments
            capture_output=True,
            encoding="utf-8",
            env=environment,
            timeout=SECONDS + most / BYTES_PER_SECOND,
        )
        if done.returncode == 0:
            answer = json.loads(done.stdout)
            if "error" in answer:
                raise UserError(answer["error"])
            return tuple(answer["remarks"])
    raise UserError(f"{name} takes too much memory or time to read as {kind}: save it as CSV")


def main() -> None:
    """Convert the file that standard input names."""
    kind, path, name, copy, most = json.load(sys.stdin)
    _limit_memory(2 * most)
    answer: dict[str, object]
    try:
        answer = {"remarks": _converted(kind, Path(path), name, Path(copy), most)}
    except UserError as error:
        answer = {"error": str(error)}
    except Exception as error:
        answer = {"error": f"{name} cannot be read as {kind}: {one_line(error)}"}
    json.dump(answer, sys.stdout)


def _converted(kind: str, path: Path, name: str, copy: Path, most: int) -> Remarks:
    if kind in CONVERTERS:
        return CONVERTERS[kind](path, name, copy)
    parquet.check(path, name, most // 8, most)
    return ()


def _limit_memory(most: int) -> None:
    """End the process when it takes so many more bytes."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])
        taken = pages * resource.getpagesize() + (THREADS + (os.cpu_count() or 1)) * THREAD_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (taken + most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    main()
