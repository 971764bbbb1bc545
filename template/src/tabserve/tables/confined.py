"""Convert a file in a process with bounded memory: readers of Excel and JSON hold all that a file expands to."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tabserve.errors import UserError, say
from tabserve.tables import converters
from tabserve.tables.converters import Remarks

THREADS = 2
THREAD_BYTES = 2**24  # that a thread may reserve and hardly uses
SECONDS, BYTES_PER_SECOND = 30, 2**21  # how long it may take
CONVERTERS = {"Excel": converters.from_excel, "JSON lines": converters.from_json}


def convert(kind: str, path: Path, name: str, copy: Path, most: int) -> Remarks:
    """Write a file as Parquet to `copy`; raises `UserError` if that takes more than twice `most` bytes, or very long.

    Only Linux bounds the memory of a process.
    """
    found = [part or str(Path.cwd()) for part in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found), "POLARS_MAX_THREADS": str(THREADS)}
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps([kind, str(path), name, str(copy), 2 * most]),  # a list of processes would show arguments
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
    raise UserError(f"{name} takes too much memory or time to read as {kind}: save it as CSV or Parquet")


def main() -> None:
    """Convert the file that standard input names."""
    kind, path, name, copy, most = json.load(sys.stdin)
    _limit_memory(most)
    try:
        say(json.dumps({"remarks": CONVERTERS[kind](Path(path), name, Path(copy))}))
    except UserError as error:
        say(json.dumps({"error": str(error)}))


def _limit_memory(most: int) -> None:
    """End the process when it takes so many more bytes."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])
        taken = pages * resource.getpagesize() + (THREADS + (os.cpu_count() or 1)) * THREAD_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (taken + most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    main()
