"""The server in a container."""

import subprocess

import pytest

from tabserve.errors import UserError
from tabserve.operations import container
from tabserve.operations.container import Use
from tabserve.operations.sizing import MEBI


def test_limits_are_those_of_docker() -> None:
    assert container.limit_options(0.25, 64 * MEBI) == [
        "--cpus",
        "0.25",
        "--memory",
        "67108864",
        "--memory-swap",
        "67108864",
    ]
    assert "--cpus" not in container.limit_options(None, 1)


@pytest.mark.parametrize("cache", ["inactive_file", "total_inactive_file"], ids=["v2", "v1"])
def test_both_versions_of_control_groups_are_read(cache: str) -> None:
    told = {
        "cpu_stats": {
            "cpu_usage": {"total_usage": 1_500_000_000},
            "throttling_data": {"periods": 9, "throttled_periods": 3},
        },
        "memory_stats": {"usage": 100, "stats": {cache: 30, "file": 50}},
    }
    assert container.use_of(told) == Use(1.5, 9, 3, 70)
    assert container.use_of({"cpu_stats": {}, "memory_stats": {}}) == Use(0, 0, 0, 0)


def test_what_docker_says_is_one_line() -> None:
    said = "docker: Error response from daemon: no room.\nSee 'docker run --help'.\n"
    assert container.first_line(said) == "no room."
    assert container.field_of('{"detail": "the model is loading"}', "detail") == "the model is loading"
    assert container.field_of("<html>", "detail") == "<html>"


@pytest.mark.parametrize("answer", ["no such container", '{"message": "no such container"}'])
def test_an_engine_that_says_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(container, "engine", lambda path: answer)
    with subprocess.Popen(["true"], text=True) as load, pytest.raises(UserError, match=r"uses: .*no such container"):
        container.Server("gone", 0, 0, load).use()
