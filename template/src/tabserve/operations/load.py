"""Load for a server, and what became of it; `container.py` runs this file beside the server, in the same network.

It reads commands, one JSON object a line, and answers each with one. It needs the standard library only: the image
has nothing else. Connections stay open, and bytes are all that is made of HTTP: no client in Python is quick enough.
"""

import asyncio
import json
import math
import os
import random
import selectors
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

HOST = "127.0.0.1"
LOST = 0  # the status of a request without an answer
GOOD = 200
PAUSE = 0.05  # seconds after another status, so that refusals do not become the load
DRAIN = 10.0  # seconds for the answers that are due at the end
HEAD = b"\r\n\r\n"
CLOSING = b"\r\nconnection: close"
LENGTH = b"\r\ncontent-length:"


def message(path: str, body: bytes | None = None) -> bytes:
    """A request as it is sent."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: {HOST}\r\n"
    if body is not None:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + (body or b"")


def answer_in(received: bytes) -> tuple[int, bytes] | None:
    """Status and body of an answer, or None before its end; `ValueError` without a length."""
    end = received.find(HEAD)
    if end < 0:
        return None
    head = received[: end + 2].lower()
    status = int(received[9:12])
    place = head.index(LENGTH) + len(LENGTH)
    start = end + len(HEAD)
    length = int(head[place : head.index(b"\r", place)])
    return (status, received[start : start + length]) if len(received) >= start + length else None


class Connection(asyncio.Protocol):
    """A connection that is kept open; it has one request at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; `LOST` where the connection closes."""
        self.received, self.answer = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self.received += data
        try:
            found = answer_in(self.received)
        except ValueError:
            found = None
            self.transport.abort()
        if found and self.answer and not self.answer.done():
            self.answer.set_result(found)
            if CLOSING in self.received.partition(HEAD)[0].lower():
                self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed, by whichever side."""
        if self.answer and not self.answer.done():
            self.answer.set_result((LOST, b""))


async def connect(port: int) -> Connection | None:
    """A connection, or None where nobody listens."""
    try:
        async with asyncio.timeout(DRAIN):
            return (await asyncio.get_running_loop().create_connection(Connection, HOST, port))[1]
    except OSError:
        return None


class Load:
    """The same request many times: `rate` a second whatever the server does, or at 0 when a connection is free."""

    def __init__(self, port: int, request: bytes, connections: int, rate: float) -> None:
        self.port, self.request = port, request
        self.connections, self.rate = connections, rate
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.open: set[Connection] = set()
        self.deadline = math.inf

    async def run(self, seconds: float) -> dict[str, Any]:
        """Load the server for so long; returns what was measured."""
        connections = await asyncio.gather(*(self._connect() for _ in range(self.connections)))
        used, idle, started = time.process_time(), idle_seconds(), time.perf_counter()
        self.deadline = started + seconds + DRAIN
        ending = asyncio.get_running_loop().call_later(seconds + DRAIN, self._abort)
        due = self._due(started, seconds)
        await asyncio.gather(*(self._work(connection, due) for connection in connections))
        ending.cancel()
        taken, latencies = time.perf_counter() - started, sorted(self.latencies)
        own = (time.process_time() - used) / taken
        unused = (idle_seconds() - idle) / taken
        self._abort()
        await asyncio.sleep(0)  # what is aborted closes in the next turn
        shares = {"own": own, "idle": unused, "p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99)}
        return {"seconds": taken, "statuses": {str(key): count for key, count in self.statuses.items()}} | shares

    def _due(self, started: float, seconds: float) -> Iterator[float]:
        """When requests are due: at once, or by chance, as from many people."""
        if self.rate:
            chance, count = random.Random(0), max(round(self.rate * seconds), 1)
            yield from sorted(started + chance.uniform(0, seconds) for _ in range(count))
        else:
            while (now := time.perf_counter()) < started + seconds:
                yield now

    async def _work(self, connection: Connection | None, times: Iterator[float]) -> None:
        """Send a request whenever one is due: connections share the times."""
        for due in times:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if connection is None or connection.transport.is_closing():
                connection = await self._connect()
            status, _ = await connection.ask(self.request) if connection else (LOST, b"")
            self.latencies.append(time.perf_counter() - due)  # waiting included
            self.statuses[status] += 1
            if status != GOOD and not self.rate:
                await asyncio.sleep(PAUSE)

    async def _connect(self) -> Connection | None:
        connection = await connect(self.port) if time.perf_counter() < self.deadline else None
        self.open |= {connection} if connection else set()
        if time.perf_counter() > self.deadline:
            self._abort()
        return connection

    def _abort(self) -> None:
        for connection in self.open:
            connection.transport.abort()


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share does not exceed: one that was measured."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0


def idle_seconds() -> float:
    """Seconds that all cores of the machine together had nothing to do."""
    return int(Path("/proc/stat").read_text(encoding="ascii").split()[4]) / os.sysconf("SC_CLK_TCK")


async def fetch(port: int, request: bytes, timeout: float) -> dict[str, Any]:
    """One answer: its status, 0 where there is none, and its body."""
    status, body, connection = LOST, b"", await connect(port)
    if connection:
        asyncio.get_running_loop().call_later(timeout, connection.transport.abort)
        status, body = await connection.ask(request)
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
    """Run it in an event loop that wakes in time: select(2) waits for microseconds."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(work)


def main(commands: TextIO, answers: TextIO) -> None:
    """Obey until the commands end."""
    for line in commands:
        print(json.dumps(obey(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
