"""Load for a server, and what became of it; `container.py` runs this file beside the server, in the same network.

It reads commands, one JSON object a line, and answers each with one. It needs the standard library only: the image
has nothing else. Connections stay open, and bytes are all that is made of HTTP: no client in Python is quick enough.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import selectors
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

HOST = "127.0.0.1"
LOST = 0  # the status of a request that got no answer
GOOD = 200
AT_ONCE = 16  # requests that are late are sent together, so many before answers are read again
PAUSE = 0.05  # seconds that a connection waits after another status, so that refusals do not become the load
DRAIN = 10.0  # seconds for the answers that are due at the end
HEAD = b"\r\n\r\n"
CLOSING = b"\r\nconnection: close"
LENGTH = b"\r\ncontent-length:"


def message(path: str, body: bytes | None = None) -> bytes:
    """A request, as it is sent."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: {HOST}\r\n"
    if body is not None:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + (body or b"")


def answer_in(received: bytes) -> tuple[int, bytes] | None:
    """Status and body of an answer, or None as long as it is not complete.

    Raises:
        ValueError: it is none, or does not say how long it is.
    """
    end = received.find(HEAD)
    if end < 0:
        return None
    head = received[: end + 2].lower()
    status, place = int(received[9:12]), head.index(LENGTH) + len(LENGTH)
    start, length = end + len(HEAD), int(head[place : head.index(b"\r", place)])
    return (status, received[start : start + length]) if len(received) >= start + length else None


class Connection(asyncio.Protocol):
    """One connection that is kept open; it has one request at a time."""

    def __init__(self, answered: Callable[[Connection, int, bytes], None]) -> None:
        self.answered = answered
        self.since = 0.0  # when the request should have been sent
        self.waiting = self.closed = False
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, request: bytes, since: float) -> None:
        """Send a request."""
        self.since, self.waiting, self._received = since, True, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._received += data
        try:
            answer = answer_in(self._received)
        except ValueError:
            self.transport.abort()
            return
        if answer and self.waiting:
            self.waiting = False
            if CLOSING in self._received.partition(HEAD)[0].lower():
                self.closed = True
                self.transport.abort()
            self.answered(self, *answer)

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed, by whichever side."""
        self.closed = True
        if self.waiting:
            self.waiting = False
            self.answered(self, LOST, b"")


async def connect(port: int, answered: Callable[[Connection, int, bytes], None]) -> Connection | None:
    """A connection, or None where nobody listens."""
    try:
        _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(answered), HOST, port)
    except OSError:
        return None
    return connection


class Load:
    """Requests that are all the same, and what became of them.

    Args:
        connections: how many there are at most.
        rate: requests a second, whenever answers come; 0 sends a request on each connection as soon as it is free.
        seed: of the times at which requests come.
    """

    def __init__(self, port: int, request: bytes, connections: int, rate: float, seed: int = 0) -> None:
        self.port, self.request, self.most, self.rate = port, request, connections, rate
        self.chance = random.Random(seed)
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.free: list[Connection] = []
        self.open: set[Connection] = set()
        self.opening = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.backlog: deque[float] = deque()  # when requests were due that no connection was free for
        self.end = math.inf

    async def run(self, seconds: float) -> dict[str, Any]:
        """Load the server for so long; returns what `summary` makes of it."""
        for _ in range(self.most):
            await self._connect()
        used, idle, started = time.process_time(), idle_seconds(), time.perf_counter()
        self.end = started + seconds
        await (self._by_the_clock(started) if self.rate else self._as_answers_come(started))
        await self._drained()
        taken = time.perf_counter() - started
        cores = {"own": (time.process_time() - used) / taken, "idle": (idle_seconds() - idle) / taken}
        await self._close()
        return summary(self.latencies, self.statuses, taken) | cores

    async def _close(self) -> None:
        for task in list(self.tasks):  # they open connections
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for connection in self.open:
            connection.transport.abort()
        await asyncio.sleep(0)  # what is aborted closes in the next turn

    async def _as_answers_come(self, started: float) -> None:
        """Each answer brings the next request, see `_answered`."""
        for _ in range(len(self.free)):
            self._use(started)
        await asyncio.sleep(self.end - time.perf_counter())

    async def _by_the_clock(self, started: float) -> None:
        """Requests come by chance (as a Poisson process), as they do from many people.

        The latency counts from when they were due: a server that makes requests wait does not hide it.
        """
        seconds = self.end - started
        moments = sorted(self.chance.uniform(0, seconds) for _ in range(max(round(self.rate * seconds), 1)))
        for count, moment in enumerate(moments):
            wait = started + moment - time.perf_counter()
            if wait > 0 or count % AT_ONCE == 0:
                await asyncio.sleep(max(wait, 0))
            self._use(started + moment)

    def _use(self, due: float) -> None:
        while self.free:
            connection = self.free.pop()
            if not connection.closed:
                connection.send(self.request, due)
                return
            self._replace(connection, 0)
        self.backlog.append(due)

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        self.latencies.append(now - connection.since)
        self.statuses[status] += 1
        if connection.closed:
            self._replace(connection, PAUSE if status == LOST else 0)
        elif status != GOOD and not self.rate:
            asyncio.get_running_loop().call_later(PAUSE, self._freed, connection)
        else:
            self._freed(connection)

    def _freed(self, connection: Connection) -> None:
        now = time.perf_counter()
        self.free.append(connection)
        if self.backlog:
            self._use(self.backlog.popleft())
        elif not self.rate and now < self.end:
            self._use(now)

    def _replace(self, connection: Connection, pause: float) -> None:
        self.open.discard(connection)
        task = asyncio.get_running_loop().create_task(self._again(pause))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _again(self, pause: float) -> None:
        await asyncio.sleep(pause)
        while time.perf_counter() < self.end and not await self._connect():
            await asyncio.sleep(PAUSE)

    async def _connect(self) -> bool:
        connection = await connect(self.port, self._answered)
        if connection:
            self.open.add(connection)
            self._freed(connection) if self.end < math.inf else self.free.append(connection)
        return connection is not None

    async def _drained(self) -> None:
        """Until nothing is due any more; what gets no answer is lost."""
        deadline = time.perf_counter() + DRAIN
        while (self.backlog or any(one.waiting for one in self.open)) and time.perf_counter() < deadline:
            await asyncio.sleep(0.002)
        now = time.perf_counter()
        lost = [*self.backlog, *(one.since for one in self.open if one.waiting)]
        self.latencies += [now - since for since in lost]
        self.statuses[LOST] += len(lost)
        for connection in self.open:
            connection.waiting = False


def summary(latencies: Sequence[float], statuses: Mapping[int, int], taken: float) -> dict[str, Any]:
    """What is told of a load that took so many seconds."""
    ordered = sorted(latencies)
    return {
        "seconds": taken,
        "statuses": {str(status): count for status, count in statuses.items() if count},
        "p50": percentile(ordered, 0.5),
        "p99": percentile(ordered, 0.99),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share does not exceed: one that was measured."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0


def idle_seconds() -> float:
    """Seconds that all cores of the machine together had nothing to do; not a number where Linux does not tell."""
    try:
        total = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return math.nan
    return int(total.split()[4]) / os.sysconf("SC_CLK_TCK")


async def fetch(port: int, request: bytes, timeout: float) -> dict[str, Any]:
    """One answer: its status, 0 where there is none, and its body."""
    done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    connection = await connect(port, lambda _, *answer: None if done.done() else done.set_result(answer))
    if connection is None:
        return {"status": LOST, "body": ""}
    connection.send(request, 0)
    try:
        status, body = await asyncio.wait_for(done, timeout)
    except TimeoutError:
        status, body = LOST, b""
    connection.transport.abort()
    return {"status": status, "body": body.decode(errors="replace")}


def obey(command: dict[str, Any]) -> dict[str, Any]:
    """Do what one command says: fetch a path, or load it."""
    body = command.get("body")
    request = message(command["path"], None if body is None else body.encode())
    if "connections" not in command:
        return run(fetch(command["port"], request, command.get("timeout", 5.0)))
    load = Load(command["port"], request, command["connections"], command.get("rate", 0.0))
    return run(load.run(command["seconds"]))


def run(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run it in an event loop that wakes in time: select(2) waits for microseconds, the default for milliseconds."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(work)


def main(commands: TextIO, answers: TextIO) -> None:
    """Obey until the commands end."""
    for line in commands:
        print(json.dumps(obey(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
