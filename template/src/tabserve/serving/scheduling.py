"""Bodies are read in slices of time, and rejections are sent one at a time."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

SLICE = 0.003  # seconds of reading in one turn of the event loop; a single body may take longer
# Seconds before a rejection, between two, and at most: who goes away meanwhile keeps a connection for so long.
PAUSE, NEXT, LONGEST = 0.1, 0.005, 0.25

Work = Callable[[], None]


class BusyError(Exception):
    """The queue is full, and will be worked off in so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server is busy: try again in {math.ceil(seconds)} s")
        self.seconds = seconds


class Turn:
    """A turn of the event loop, from its first use to the next turn, and what is done then."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.began = 0.0  # on the clock of `time.perf_counter`; 0 before
        self.ends: list[Work] = []

    def begin(self) -> None:
        """Only where it has not begun."""
        self.began = time.perf_counter()
        self.loop.call_soon(self._over)

    def _over(self) -> None:
        self.began = 0.0
        for work in self.ends:
            work()


class Slices:
    """Does work in its order, in each turn of the event loop up to a slice.

    A byte of work costs `cost` seconds; `longest_wait` seconds of work may wait.
    """

    def __init__(self, cost: float, longest_wait: float, turn: Turn) -> None:
        self.cost = cost
        self.longest_wait = longest_wait
        self._turn = turn
        self._waiting: deque[tuple[Work, int]] = deque()
        self._bytes = 0  # that wait
        self._resting = False
        turn.ends.append(self._next_turn)

    def is_open(self) -> bool:
        """Whether work can be done at once: none waits, and this turn has room."""
        turn = self._turn
        if not turn.began:
            turn.begin()
            return not self._waiting
        return not self._waiting and time.perf_counter() - turn.began < SLICE

    def add(self, work: Work, size: int) -> None:
        """Let work of so many bytes wait; `BusyError` where too much waits."""
        if (wait := self._bytes * self.cost) > self.longest_wait:
            raise BusyError(wait)
        self._waiting.append((work, size))
        self._bytes += size

    def _next_turn(self) -> None:
        """Where work waits, every other turn is left to all else: new connections, say."""
        if not self._waiting:
            return
        if not self._turn.began:
            self._turn.begin()
        self._resting = not self._resting
        while not self._resting and self._waiting and time.perf_counter() - self._turn.began < SLICE:
            work, size = self._waiting.popleft()
            self._bytes -= size
            work()


class RetryPacer:
    """When to answer a rejected client: one that retries at once takes the others' time."""

    def __init__(self) -> None:
        self._last = 0.0

    def next(self, now: float) -> float:
        """Seconds until the next rejection is sent: after a pause, and one by one."""
        self._last = min(max(now + PAUSE, self._last + NEXT), now + LONGEST)
        return self._last - now


class Deadlines:
    """Cancels tasks after so many seconds; `asyncio.timeout` takes ten times as long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[asyncio.Task[Any], float] = {}  # in the order of their times
        self._loop: asyncio.AbstractEventLoop | None = None  # in which the timer runs, if it does

    def start(self) -> asyncio.Task[Any]:
        """The time of the current task begins; returns the task."""
        task = asyncio.current_task(self._loop) if self._loop else None  # Python 3.11 is slow to find it
        if task is None:  # no timer runs in this loop: an application may start twice
            task = asyncio.current_task()
            self._loop = asyncio.get_running_loop()
            self._loop.call_later(self.seconds, self._cancel)
        assert task
        self._due[task] = time.monotonic() + self.seconds
        return task

    def stop(self, task: asyncio.Task[Any]) -> bool:
        """Its time ends; returns whether that was before it was cancelled."""
        return self._due.pop(task, None) is not None

    def age(self, task: asyncio.Task[Any]) -> float:
        """The seconds since its time began."""
        return time.monotonic() + self.seconds - self._due.get(task, 0)

    def give_up(self, task: asyncio.Task[Any]) -> None:
        """Cancel it before its time ends."""
        if self.stop(task):
            task.cancel()

    def _cancel(self) -> None:
        now = time.monotonic()
        for task in [task for task, due in self._due.items() if due <= now]:
            del self._due[task]
            task.cancel()
        first, loop, self._loop = next(iter(self._due.values()), None), self._loop, None
        if first is not None and loop:
            self._loop = loop
            loop.call_later(max(first - now, 0), self._cancel)
