import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest

from tabserve.serving.scheduling import LONGEST, NEXT, PAUSE, SLICE, BusyError, Deadlines, RetryPacer, Slices, Turn


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def slices(cost: float = 1e-9, longest_wait: float = 60) -> Slices:
    return Slices(cost, longest_wait, Turn(asyncio.get_running_loop()))


def test_work_is_done_in_order_and_a_slice_at_a_time() -> None:
    done: list[int] = []
    turns: list[int] = []

    def wait(number: int) -> None:
        time.sleep(SLICE)
        done.append(number)

    async def work() -> None:
        under_test = slices()
        assert under_test.is_open()
        time.sleep(SLICE)
        assert not under_test.is_open()
        for number in range(6):
            under_test.add(partial(wait, number), 1)
        while len(done) < 6:
            assert not under_test.is_open(), "what comes later waits behind what waits"
            await asyncio.sleep(0)
            turns.append(len(done))
        await asyncio.sleep(0)
        assert under_test.is_open()

    run(work())
    assert done == list(range(6))
    assert max(turns.count(number) for number in range(1, 6)) >= 2, "a turn between two slices is left to all else"


def test_too_much_work_is_refused() -> None:
    async def work() -> None:
        under_test = slices(cost=0.001, longest_wait=0.5)
        under_test.is_open()
        for _ in range(6):
            under_test.add(lambda: None, 100)
        with pytest.raises(BusyError) as error:
            under_test.add(lambda: None, 100)
        assert error.value.seconds == pytest.approx(0.6)
        for _ in range(10):
            await asyncio.sleep(0)
        under_test.add(lambda: None, 100)

    run(work())


def test_rejected_clients_are_answered_one_by_one() -> None:
    pacer = RetryPacer()
    waits = [pacer.next(100.0) for _ in range(3)]
    assert waits == pytest.approx([PAUSE, PAUSE + NEXT, PAUSE + 2 * NEXT])
    assert pacer.next(200.0) == pytest.approx(PAUSE)
    assert max(pacer.next(200.0) for _ in range(1_000)) == pytest.approx(LONGEST)


def test_a_task_that_takes_too_long_is_cancelled() -> None:
    deadlines = Deadlines(0.1)
    ended: dict[str, bool] = {}

    async def work(name: str, begins: float, lasts: float) -> None:
        await asyncio.sleep(begins)
        task = deadlines.start()
        try:
            await asyncio.sleep(lasts)
        except asyncio.CancelledError:
            task.uncancel()
        ended[name] = deadlines.stop(task)

    async def all_of_it() -> None:
        works = [("quick", 0, 0.01), ("slow", 0, 5), ("slow later", 0.05, 5)]
        await asyncio.gather(*(work(*each) for each in works))

    began = time.monotonic()
    run(all_of_it())
    run(work("in another loop", 0, 5))
    assert ended.pop("in another loop") is False
    assert ended == {"quick": True, "slow": False, "slow later": False}
    assert time.monotonic() - began < 2
