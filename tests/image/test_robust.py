"""The attacks on the server, in a container with 256 MiB, and a stop of it under load."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image.engine import container, docker, ready, state
from tests.project.servers import free_port, get
from tests.robust import ATTACKS, Target, lost_at_a_stop

READ_TIMEOUT = 2.0
LIMITED = ("--memory", "256m", "--memory-swap", "256m", "--network", "host")
MEGABYTES_AT_REST = 135


def memory(pid: int) -> float:
    """MB that a container's process holds, by the host's number of it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def target(name: str, port: int) -> Target:
    url = ready(f"http://127.0.0.1:{port}", name)
    row = json.dumps(get(f"{url}/model")["example"]).encode()
    pid = state(name)["Pid"]
    return Target(port, row, lambda: memory(pid), READ_TIMEOUT)


@pytest.fixture(scope="module")
def attacked(image: str) -> Iterator[tuple[str, Target]]:
    port = free_port()
    settings = {"SERVE_HOST": "127.0.0.1", "SERVE_PORT": str(port), "SERVE_READ_TIMEOUT": str(READ_TIMEOUT)}
    options = [part for key, value in settings.items() for part in ("--env", f"{key}={value}")]
    with container(image, *LIMITED, *options) as name:
        found = target(name, port)
        assert found.memory() <= MEGABYTES_AT_REST
        yield name, found


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_attack_succeeds(attacked: tuple[str, Target], attack: Callable[[Target], None]) -> None:
    name, target = attacked
    attack(target)
    assert state(name)["Running"]
    assert not state(name)["OOMKilled"]


def test_a_stop_loses_no_request(image: str) -> None:
    port = free_port()
    options = ("--env", f"SERVE_PORT={port}", "--network", "host")
    with container(image, *options) as name:
        under_load = target(name, port)
        began = time.monotonic()
        assert lost_at_a_stop(under_load, lambda: docker("stop", name)) == (0, 16)
        assert time.monotonic() - began < 15
        assert state(name)["ExitCode"] == 0
