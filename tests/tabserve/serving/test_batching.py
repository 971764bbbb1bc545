import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Coroutine
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.contract.schema import Row
from tabserve.inference.model import Answer
from tabserve.serving.batching import BATCH, TURN, Batcher, Cost, measure
from tabserve.serving.scheduling import BusyError, Turn

QUICK, SLOW = Cost(1e-5, 1e-6), Cost(0.02, 0.01)


def doubled(rows: list[Row]) -> list[Answer]:
    return [(str(int(row["x"])), str(row["x"] * 2)) for row in rows]


class Recorder:
    """A model that answers each row with twice its number, and remembers how many rows it was asked at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, rows: list[Row]) -> list[Answer]:
        self.gate.wait(10)
        if any(math.isnan(row["x"]) for row in rows):
            raise ValueError("not a number")
        self.sizes.append(len(rows))
        self.threads.add(threading.current_thread().name)
        return doubled(rows)


def rows(*values: float) -> list[Row]:
    return [{"x": value} for value in values]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def predicted(batches: Batcher, rows: list[Row]) -> list[Answer]:
    answers: asyncio.Future[list[Answer]] = batches.loop.create_future()
    batches.submit(rows, answers)
    return await answers


def batcher(model: Recorder, cost: Cost, longest_wait: float = 60) -> Batcher:
    return Batcher(model.predict, cost, longest_wait, Turn(asyncio.get_running_loop()))


def test_requests_of_one_turn_are_predicted_together() -> None:
    model = Recorder()

    async def ask() -> None:
        batches = batcher(model, QUICK)
        answers = await asyncio.gather(*(predicted(batches, rows(i, i + 0.5)) for i in range(10)))
        for i, answer in enumerate(answers):
            assert answer == doubled(rows(i, i + 0.5))

    run(ask())
    assert model.sizes == [20]
    assert model.threads == {"MainThread"}


def test_a_request_waits_for_no_other() -> None:
    model = Recorder()

    async def ask() -> None:
        batches = batcher(model, QUICK)
        first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
        batches.submit(rows(1), first)
        assert not first.done()
        await asyncio.sleep(0)
        assert first.done()
        batches.submit(rows(2), second, alone=True)
        assert second.done()

    run(ask())


def test_a_turn_takes_no_longer_than_the_event_loop_may_be_held_up() -> None:
    model = Recorder()
    per_turn = int(TURN / 0.0005)

    async def ask() -> None:
        batches = batcher(model, Cost(0.0005, 0.0005))
        await asyncio.gather(*(predicted(batches, rows(i)) for i in range(10)))

    run(ask())
    assert model.sizes == [per_turn, per_turn, 10 - 2 * per_turn]


def test_a_slow_model_leaves_the_event_loop_free() -> None:
    model = Recorder()
    model.gate.clear()

    async def ask() -> None:
        batches = batcher(model, SLOW)
        first = asyncio.create_task(predicted(batches, rows(1)))
        while not batches._slow_rows:
            await asyncio.sleep(0)
        others = [asyncio.create_task(predicted(batches, rows(i))) for i in range(2, 6)]
        for _ in range(100):  # the event loop turns while the model is busy
            await asyncio.sleep(0.001)
        assert not first.done()
        model.gate.set()
        answers = await asyncio.gather(first, *others)
        assert answers == [doubled(rows(i)) for i in range(1, 6)]

    run(ask())
    assert model.sizes == [1, 4]  # what arrived meanwhile is one batch
    assert model.threads == {"inference_0"}
    assert SLOW.seconds(4) <= BATCH < SLOW.seconds(5)


def test_a_long_list_does_not_hold_up_a_short_one() -> None:
    model = Recorder()

    async def ask() -> None:
        batches = batcher(model, Cost(1e-4, 1e-4))
        model.gate.clear()
        long = asyncio.create_task(predicted(batches, rows(*range(100))))
        while not batches._slow_rows:
            await asyncio.sleep(0)
        model.gate.set()
        assert await predicted(batches, rows(3)) == doubled(rows(3))
        assert len(await long) == 100

    run(ask())
    assert model.threads == {"MainThread", "inference_0"}


def test_a_full_queue_refuses() -> None:
    model = Recorder()
    model.gate.clear()

    async def ask() -> None:
        batches = batcher(model, SLOW, longest_wait=0.1)
        accepted = [asyncio.create_task(predicted(batches, rows(i))) for i in range(20)]
        await asyncio.sleep(0.05)
        refused = [task for task in accepted if task.done() and isinstance(task.exception(), BusyError)]
        assert len(refused) == 10  # 0.02 s for the first row, 0.01 s for each further one
        assert "try again in 1 s" in str(refused[0].exception())
        model.gate.set()
        await asyncio.gather(*accepted, return_exceptions=True)
        assert await predicted(batches, rows(7)) == doubled(rows(7))

    run(ask())


@pytest.mark.parametrize(("cost", "busy"), [(QUICK, False), (SLOW, True)])
def test_a_full_queue_refuses_before_a_request_is_read(cost: Cost, busy: bool) -> None:
    async def ask() -> None:
        batches = batcher(Recorder(), cost)
        batches.check()
        batches._slow_rows = 10_000
        with pytest.raises(BusyError) if busy else contextlib.nullcontext():
            batches.check()

    run(ask())


@pytest.mark.parametrize("cost", [QUICK, SLOW])
def test_a_failure_is_told_to_its_batch_only(cost: Cost) -> None:
    model = Recorder()

    async def ask() -> None:
        batches = batcher(model, cost)
        with pytest.raises(ValueError, match="not a number"):
            await predicted(batches, rows(math.nan))
        assert await predicted(batches, rows(1)) == doubled(rows(1))

    run(ask())


@pytest.mark.parametrize("cost", [QUICK, SLOW])
def test_a_request_that_is_given_up_disturbs_no_other(cost: Cost) -> None:
    model = Recorder()

    async def ask() -> None:
        batches = batcher(model, cost)
        given_up, kept = (asyncio.create_task(predicted(batches, rows(i))) for i in range(2))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await kept == doubled(rows(1))

    run(ask())


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    cost=st.builds(Cost, st.floats(1e-6, 0.01), st.floats(0, 0.001)),
)
def test_every_request_gets_its_own_rows(sizes: list[int], cost: Cost) -> None:
    model = Recorder()

    async def ask() -> None:
        batches = batcher(model, cost)
        starts = list(accumulate([0, *sizes[:-1]]))
        wanted = [rows(*range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
        answers = await asyncio.gather(*(predicted(batches, each) for each in wanted))
        for asked, answer in zip(wanted, answers, strict=True):
            assert answer == doubled(asked)

    run(ask())
    assert sum(model.sizes) == sum(sizes)


def test_the_cost_of_a_model_is_measured() -> None:
    asked: list[int] = []

    def predict(rows: list[Row]) -> list[Answer]:
        asked.append(len(rows))
        time.sleep(0.03 + 0.004 * len(rows))
        return doubled(rows)

    cost = measure(predict, rows(1)[0])
    assert 0.034 <= cost.first < 0.3
    assert 0.002 < cost.further < cost.first
    assert sum(asked) <= 10  # a slow model is not asked often
