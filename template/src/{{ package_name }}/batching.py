"""No-wait batching: the rows that wait while the model is busy are predicted together, and nothing waits for company.

What the model does within two milliseconds runs in the event loop: in the next turn, for all requests that arrived in
this one. What takes longer runs in a thread of its own, in batches that take from its queue what is there when the
thread becomes free. That queue is bounded by the time it would take.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from .encode import Matrix
from .model import Prediction

TURN = 0.002  # seconds that inference may hold up the event loop
BATCH = 0.05  # seconds that a batch in the thread may take, unless one request alone takes longer
REPEATS, ENOUGH = 5, 0.05  # how often the cost is measured, and the seconds after which that is enough

Predict = Callable[[Matrix], Prediction]
Done = Callable[[Prediction | Exception], None]


class BusyError(Exception):
    """The queue is full.

    Attributes:
        seconds: until it will be worked off.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server is busy: try again in {math.ceil(seconds)} s")
        self.seconds = seconds


class Cost(NamedTuple):
    """Seconds that one inference takes: of one row, and of each further row."""

    first: float
    further: float

    def seconds(self, rows: int) -> float:
        """Of so many rows at once."""
        return self.first + self.further * (rows - 1) if rows else 0.0


def measure(predict: Predict, row: Matrix) -> Cost:
    """The cost of a model's inference, from the quickest of a few runs.

    Args:
        row: a matrix of one row.
    """
    predict(row)
    one = _quickest(predict, row)
    rows = 32 if one < BATCH / 2 else 2
    several = _quickest(predict, np.repeat(row, rows, axis=0))
    return Cost(one, max(several - one, 0.0) / (rows - 1))


def _quickest(predict: Predict, matrix: Matrix) -> float:
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < ENOUGH:
        started = time.perf_counter()
        predict(matrix)
        taken.append(time.perf_counter() - started)
    return min(taken)


class _Request(NamedTuple):
    matrix: Matrix
    done: Done


class Batcher:
    """Predicts for many requests at once.

    Args:
        cost: what an inference costs.
        longest_wait: seconds of work that may be queued for the thread.
        loop: the event loop that it is used from.
    """

    def __init__(self, predict: Predict, cost: Cost, longest_wait: float, loop: asyncio.AbstractEventLoop) -> None:
        self.predict, self.cost, self.longest_wait = predict, cost, longest_wait
        self._quick: deque[_Request] = deque()
        self._slow: deque[_Request] = deque()
        self._slow_rows = 0  # queued or being predicted
        self._worker: asyncio.Task[None] | None = None
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, "inference")

    async def predicted(self, matrix: Matrix) -> Prediction:
        """The prediction for a matrix of shape (rows, matrix columns).

        Raises:
            BusyError: the queue is full.
        """
        answer: asyncio.Future[Prediction | Exception] = asyncio.get_running_loop().create_future()
        self.submit(matrix, lambda outcome: None if answer.done() else answer.set_result(outcome))
        outcome = await answer
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def submit(self, matrix: Matrix, done: Done, alone: bool = False) -> None:
        """Queue a matrix; `done` is called in the event loop, with its prediction or with what went wrong.

        Args:
            alone: that no other request can arrive in this turn of the event loop.

        Raises:
            BusyError: the queue is full.
        """
        request = _Request(matrix, done)
        if self.cost.seconds(len(matrix)) > TURN:
            self._submit_slow(request)
        else:
            self._quick.append(request)
            if alone:
                self._turn()
            elif len(self._quick) == 1:
                self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Predict for what arrived in the last turn of the event loop, or as much of it as a turn can take."""
        if not self._quick:
            return
        batch = self._take(self._quick, TURN)
        if self._quick:
            self._loop.call_soon(self._turn)
        try:
            prediction = self._predicted(batch)
        except Exception as error:
            _fail(batch, error)
        else:
            _resolve(batch, prediction)

    def check(self) -> None:
        """Refuse a request before it is read, where every request waits for the thread.

        Raises:
            BusyError: the queue is full.
        """
        if self.cost.first > TURN:
            self._check_queue()

    def _check_queue(self) -> None:
        wait = self.cost.seconds(self._slow_rows)
        if wait > self.longest_wait:
            raise BusyError(wait)

    def _submit_slow(self, request: _Request) -> None:
        self._check_queue()
        self._slow.append(request)
        self._slow_rows += len(request.matrix)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        """Predict in the thread until nothing waits."""
        while self._slow:
            batch = self._take(self._slow, BATCH)
            try:
                prediction = await self._loop.run_in_executor(self._thread, self._predicted, batch)
            except Exception as error:
                _fail(batch, error)
            else:
                _resolve(batch, prediction)
            self._slow_rows -= sum(len(request.matrix) for request in batch)

    def _predicted(self, batch: list[_Request]) -> Prediction:
        matrices = [request.matrix for request in batch]
        return self.predict(np.concatenate(matrices) if len(batch) > 1 else matrices[0])

    def _take(self, queue: deque[_Request], seconds: float) -> list[_Request]:
        """The first request, and those after it as long as all together take no longer than this."""
        batch = [queue.popleft()]
        rows = len(batch[0].matrix)
        while queue and self.cost.seconds(rows + len(queue[0].matrix)) <= seconds:
            rows += len(queue[0].matrix)
            batch.append(queue.popleft())
        return batch


def _resolve(batch: list[_Request], prediction: Prediction) -> None:
    if len(batch) == 1:
        batch[0].done(prediction)
        return
    start = 0
    for request in batch:
        end = start + len(request.matrix)
        request.done(prediction.rows(start, end))
        start = end


def _fail(batch: list[_Request], error: Exception) -> None:
    for request in batch:
        request.done(error)
