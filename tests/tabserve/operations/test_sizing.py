"""From measurements to a proposal."""

from dataclasses import replace
from typing import Any

import pytest

from tabserve.operations import sizing
from tabserve.operations.sizing import MEBI, Measured, Sizes, Stage

NOW = Sizes(0.25, 1.0, 256 * MEBI, 80)


def steady(*cores: float, p99: float = 0.005, **changed: Any) -> list[Stage]:
    """Loads of 100, 200, ... requests/s that use so many cores."""
    return [Stage(str(i), 100.0 * i, 0.001, p99, used, **changed) for i, used in enumerate(cores, 1)]


def measured(stages: list[Stage], **changed: Any) -> Measured:
    top = Stage("8 connections", 1000, cores=0.99)
    found = Measured([top], stages, Stage("lists", 10, cores=0.9), 100 * MEBI, NOW)
    return replace(found, **changed)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ((), False),
        ((100,), False),
        ((100, 101), False),
        ((100, 101, 100), True),
        ((100, 101, 110), False),
        ((100, 90, 200), False),
        ((100, 200, 201, 199), True),
    ],
)
def test_two_steps_without_a_gain_are_saturation(served: tuple[float, ...], expected: bool) -> None:
    assert sizing.saturated([Stage("", each) for each in served]) is expected


def test_a_server_that_refuses_is_saturated() -> None:
    assert sizing.saturated([Stage("", 100), Stage("", 300, refused=1)])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"p99": 0.010}, ""),
        ({"p99": 0.011}, "one in a hundred requests took 11 ms or more"),
        ({"throttled": 0.05}, ""),
        ({"throttled": 0.06}, "the CPU limit throttled it in 6% of the periods"),
        ({"refused": 2, "failed": 1}, "3 requests got no prediction"),
    ],
)
def test_what_is_wrong_with_a_load(changed: dict[str, Any], expected: str) -> None:
    assert sizing.trouble(Stage("", 100, **changed), Stage("", 10, p99=0.001)) == expected


def test_a_slow_model_is_measured_against_itself() -> None:
    calm = Stage("", 10, p99=0.1)
    assert sizing.trouble(Stage("", 20, p99=0.29), calm) == ""
    assert sizing.trouble(Stage("", 20, p99=0.31), calm) != ""


def test_the_highest_load_that_is_served_well_is_the_peak() -> None:
    stages = steady(0.1, 0.2, 0.3)
    disturbed = [stages[0], replace(stages[1], p99=1.0), stages[2], replace(stages[2], served=400, throttled=0.5)]
    assert sizing.highest_good(disturbed) == stages[2]
    assert sizing.highest_good([replace(each, failed=1) for each in stages]) is None


def test_the_request_is_what_the_peak_uses_and_the_target_leaves_room() -> None:
    stages = steady(0.1, 0.2, 0.3, 0.4, 0.5)
    proposal = sizing.propose(measured(stages), stages[-1])
    assert proposal.sizes == Sizes(0.5, 1.0, 144 * MEBI, 80)
    assert (proposal.target, proposal.peak) == (400, 500)
    assert set(proposal.reasons) == set(sizing.LABELS)
    assert proposal.notes == []


def test_a_target_that_is_asked_for_is_held() -> None:
    stages = steady(0.09, 0.18, 0.27)
    proposal = sizing.propose(measured(stages), stages[-1], 150)
    assert (proposal.sizes.cpu_request, proposal.sizes.share) == (0.3, 50)
    assert proposal.target == 150


def test_an_autoscaler_that_ignores_ten_per_cent_still_acts_before_the_peak() -> None:
    flat = steady(0.1, 0.45, 0.47, 0.49, 0.5)  # batches: twice the load is not twice the CPU
    found = sizing.propose(measured(flat), flat[-1]).sizes
    assert found.share is not None
    assert found.share / 100 * found.cpu_request * 1.1 <= 0.5


def test_an_autoscaler_can_see_a_server_that_hardly_uses_cpu() -> None:
    waiting = steady(0.005, 0.01, 0.02)
    found = sizing.propose(measured(waiting, saturating=[Stage("", 400, cores=0.02)]), waiting[-1])
    assert found.sizes.cpu_request == 0.05
    assert found.sizes.share is not None
    assert 0 < found.sizes.share / 100 * 0.05 < 0.02
    assert "CPU use says little about the load" in found.notes[-1]


@pytest.mark.parametrize(
    ("limit", "used", "threads", "idle", "expected"),
    [
        (None, 0.5, 1, 1.0, None),
        (1.0, 0.95, 1, 1.0, 1.0),
        (2.0, 1.1, 1, 1.0, 1.3),
        (2.0, 1.1, 2, 1.0, 2.0),
        (2.0, 1.1, 1, 0.1, 2.0),
        (0.1, 0.01, 1, 1.0, 0.1),
    ],
    ids=["none", "used up", "lower", "not below the threads", "a busy machine", "never more than it was"],
)
def test_the_cpu_limit_is_lower_where_the_server_cannot_use_it(
    limit: float | None, used: float, threads: int, idle: float, expected: float | None
) -> None:
    found = measured(steady(0.01), saturating=[Stage("", 900, cores=used, idle=idle)], threads=threads)
    found = replace(found, lists=Stage("", 1, cores=used), limits=replace(NOW, cpu_limit=limit))
    assert sizing.cpu_limit(found)[0] == expected


@pytest.mark.parametrize(("used", "expected"), [(1, 64), (49, 64), (50, 80), (100, 144), (1000, 1312)])
def test_memory_is_the_most_that_was_used_and_some_more(used: int, expected: int) -> None:
    stages = steady(0.1)
    assert sizing.propose(measured(stages, memory=used * MEBI), stages[0]).sizes.memory == expected * MEBI


def test_what_else_the_measurements_say() -> None:
    bad = steady(0.1, throttled=0.5)
    top = [Stage("", 900, cores=1.0, throttled=0.5)]
    found = sizing.propose(measured(bad, saturating=top, memory=250 * MEBI), bad[0]).notes
    assert [note.split(":")[0] for note in found] == [
        "no load was served well",
        "at saturation, the CPU limit throttled 50% of the periods",
        "memory was nearly full",
    ]
    busy = sizing.propose(measured(steady(0.1), saturating=[Stage("", 900, cores=0.5, idle=0.0)]), steady(0.1)[0])
    assert busy.notes[0].startswith("the machine, not the server, was at its limit")


def test_quantities_are_written_as_kubernetes_does() -> None:
    assert [sizing.cpu_text(each) for each in (0.05, 0.3, 1.0, 1.25, 2)] == ["50m", "300m", "1", "1250m", "2"]
    assert [sizing.memory_text(each) for each in (64 * MEBI, 1500 * MEBI, 2048 * MEBI, 10**9)] == [
        *("64Mi", "1500Mi", "2Gi", "1000000000"),
    ]
    assert [sizing.up(each, 0.05) for each in (0.05, 0.0501, 0.3)] == [0.05, 0.1, 0.3]
