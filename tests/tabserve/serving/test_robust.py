"""What an attacker or a bad network does to the server, in a process of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tabserve.inference import model as models
from tests.robust import ATTACKS, Target, lost_at_a_stop
from tests.tabserve.conftest import PACKAGE, SOURCE, Trained
from tests.tabserve.serving.running import eventually
from tests.tabserve.serving.test_api import ONE_MODEL

READ_TIMEOUT = 2.0

pytestmark = [ONE_MODEL, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read in /proc")]


def memory(process: int) -> float:
    """MB that a process holds."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextlib.contextmanager
def running(
    trained: Trained, package: Path, folder: Path, output: Path | int | None = None, before: tuple[str, ...] = ()
) -> Iterator[tuple[Target, subprocess.Popen[bytes]]]:
    """A server in a process of its own; its log is `log` in the folder, unless it has another output."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    paths = {"PYTHONPATH": f"{SOURCE}{os.pathsep}{package}"}
    settings = {"SERVE_MODEL": str(trained.model), "SERVE_PORT": str(port), "SERVE_READ_TIMEOUT": str(READ_TIMEOUT)}
    command = [*before, sys.executable, "-m", PACKAGE, "serve"]
    with open(folder / "log" if output is None else output, "w") as log:  # noqa: PTH123
        process = subprocess.Popen(command, cwd=folder, env=os.environ | paths | settings, stdout=log, stderr=log)
    row = json.dumps(models.load(trained.model).metadata["example"]).encode()
    target = Target(port, row, lambda: memory(process.pid), READ_TIMEOUT)
    try:
        eventually(target.is_alive)
        yield target, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def target(trained: Trained, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running(trained, package, tmp_path_factory.mktemp("attacked")) as (target, _):
        yield target


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_attack_succeeds(target: Target, attack: Callable[[Target], None]) -> None:
    attack(target)


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is a POSIX signal")
def test_a_stop_loses_no_request(trained: Trained, package: Path, tmp_path: Path) -> None:
    with running(trained, package, tmp_path) as (target, process):
        assert lost_at_a_stop(target, lambda: process.send_signal(signal.SIGTERM)) == (0, 16)
        assert process.wait(30) == 0
