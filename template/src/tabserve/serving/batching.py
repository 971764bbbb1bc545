"""Batching without a window: the rows that wait while the model is busy are predicted together.

What the model does within two milliseconds runs in the event loop: in the next turn, for all requests that arrived in
this one. What takes longer runs in a thread of its own, in batches that take from its queue what is there when the
thread becomes free. That queue is bounded by the time it would take.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from tabserve.contract.schema import Row
from tabserve.inference.model import Answer
from tabserve.serving.scheduling import BusyError, Turn

TURN = 0.002  # seconds that inference may hold up the event loop
BATCH = 0.05  # seconds that a batch in the thread may take, unless one request alone takes longer
MOST = 2**40  # rows: as good as any number of them
REPEATS, ENOUGH = 5, 0.05  # how often the cost is measured, and the seconds after which that is enough

Predict = Callable[[list[Row]], list[Answer]]  # one for each row
Future = asyncio.Future[list[Answer]]
Request = tuple[list[Row], Future]


class Cost(NamedTuple):
    """Seconds that one inference takes: of one row, and of each further row."""

    first: float
    further: float

    def seconds(self, rows: int) -> float:
        """Of so many rows at once."""
        return self.first + self.further * (rows - 1) if rows else 0.0

    def rows(self, seconds: float) -> int:
        """The most rows that together take no longer than this."""
        if self.first > seconds:
            return 0
        return 1 + int(min((seconds - self.first) / self.further, MOST)) if self.further else MOST


def measure(predict: Predict, row: Row) -> Cost:
    """The cost of inference with encoding and formatting, the least of a few runs."""
    predict([row])
    one = quickest(lambda: predict([row]))
    rows = 32 if one < BATCH / 2 else 2
    several = quickest(lambda: predict([row] * rows))
    return Cost(one, max(several - one, 0.0) / (rows - 1))


def quickest(work: Callable[[], Any]) -> float:
    """Seconds that some work takes, the least of a few times."""
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < ENOUGH:
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


class Batcher:
    """Predicts for many requests at once; up to `longest_wait` seconds are queued."""

    def __init__(self, predict: Predict, cost: Cost, longest_wait: float, turn: Turn) -> None:
        self.predict, self.cost = predict, cost
        self.most_in_turn = cost.rows(TURN)  # rows; more are predicted in the thread
        self.most_in_queue = cost.rows(longest_wait)  # rows after which no request is taken
        self._quick: deque[Request] = deque()
        self._quick_rows = 0
        self._slow: deque[Request] = deque()
        self._slow_rows = 0  # queued or being predicted
        self._worker: asyncio.Task[None] | None = None
        self.loop = turn.loop
        self._turn = turn
        turn.ends.append(self._predict_quick)
        self._thread = ThreadPoolExecutor(1, "inference")

    def submit(self, rows: list[Row], answers: Future, alone: bool = False) -> None:
        """Queue validated rows for `answers`, or raise `BusyError`.

        One that is `alone`, with no other on its way, does not wait for the turn's end.
        """
        if len(rows) > self.most_in_turn:
            self._check_queue(self._slow_rows)
            self._slow.append((rows, answers))
            self._slow_rows += len(rows)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work())
        else:
            self._check_queue(self._quick_rows)
            self._quick.append((rows, answers))
            self._quick_rows += len(rows)
            if alone:
                self._predict_quick()
            elif not self._turn.began:
                self._turn.begin()

    def _predict_quick(self) -> None:
        """Predict for what arrived in the last turn, as much as a turn can take."""
        if not self._quick:
            return
        batch = self._take(self._quick, self.most_in_turn)
        self._quick_rows -= sum([len(rows) for rows, _ in batch]) if self._quick else self._quick_rows
        if self._quick and not self._turn.began:
            self._turn.begin()
        _settle(batch, partial(self._predicted, batch))

    def check(self) -> None:
        """Raise `BusyError` before a request is read, where all wait for the thread."""
        if not self.most_in_turn:
            self._check_queue(self._slow_rows)

    def _check_queue(self, rows: int) -> None:
        if rows > self.most_in_queue:
            raise BusyError(self.cost.seconds(rows))

    async def _work(self) -> None:
        """Predict in the thread until nothing waits."""
        while self._slow:
            batch = self._take(self._slow, self.cost.rows(BATCH))
            working = self.loop.run_in_executor(self._thread, self._predicted, batch)
            await asyncio.wait([working])
            _settle(batch, working.result)
            self._slow_rows -= sum(len(rows) for rows, _ in batch)

    def _predicted(self, batch: list[Request]) -> list[Answer]:
        return self.predict(batch[0][0] if len(batch) == 1 else [row for rows, _ in batch for row in rows])

    def _take(self, queue: deque[Request], most: int) -> list[Request]:
        """The first request, and those after it up to so many rows in all."""
        batch = [queue.popleft()]
        count = len(batch[0][0])
        while queue and (count := count + len(queue[0][0])) <= most:
            batch.append(queue.popleft())
        return batch


def _settle(batch: list[Request], predicted: Callable[[], list[Answer]]) -> None:
    """Give each request its answers, or all the error; one given up is done already."""
    try:
        answers, start = predicted(), 0
    except Exception as error:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)
        return
    for rows, future in batch:
        end = start + len(rows)
        if not future.done():
            future.set_result(answers[start:end])
        start = end
