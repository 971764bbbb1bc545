"""What the process may use up: open connections, and lines that wait for who reads its output."""

import asyncio
import io
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from prometheus_client import Counter

CONNECTIONS = 1024  # open at once, and as many that wait to be accepted
RESERVE = 64  # descriptors for all else: the model, the log, files and connections of your code
WAITING = 2**20  # bytes of output
LAST = 1.0  # seconds for the output at the end

LOST = Counter("log_lines_lost", "Lines of output that nobody read in time, or that failed.", registry=None)
FULL = Counter("connections_limit_reached", "Seconds with as many connections as may be open.", registry=None)


def connections() -> int:
    """How many connections may be open at once: without a descriptor for it, none can be accepted."""
    if sys.platform == "win32":  # it has no such limit
        return CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, soft - RESERVE))


async def watch(most: int, seconds: float = 1) -> None:
    """Count the seconds in which `most` connections are open, where the system lists descriptors."""
    with suppress(OSError):
        before = _descriptors()
        while True:
            await asyncio.sleep(seconds)
            FULL.inc(_descriptors() - before >= most)


def _descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


class Output(io.TextIOBase):
    """A text file that never blocks or fails: a thread writes it, and what that cannot write is lost and counted."""

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._parts: deque[bytes] = deque()
        self._waiting = 0  # bytes, of what is being written too
        threading.Thread(target=self._work, name="output", daemon=True).start()

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Let it wait, if there is room."""
        part = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if fits := self._waiting + len(part) <= WAITING:
                self._parts.append(part)
                self._waiting += len(part)
                self._changed.notify_all()
        if not fits:
            LOST.inc(text.count("\n"))
        return len(text)

    def finish(self) -> None:
        """Wait until all is written, but not for long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, LAST)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._parts)
                data = memoryview(b"".join(self._parts))
                self._parts.clear()
            size = len(data)
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                LOST.inc(bytes(data).count(b"\n"))
            with self._changed:
                self._waiting -= size
                self._changed.notify_all()


def unblock_output() -> None:
    """Give the process outputs that never block, also for your code's `print`."""
    sys.stdout, sys.stderr = Output(1), Output(2)


def finish_output() -> None:
    """Write what waits."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Output):
            stream.finish()


def end(code: int = 0) -> NoReturn:
    """End the process now, whatever its threads do."""
    finish_output()
    os._exit(code)
