"""Output that nobody reads, and connections up to the limit of descriptors."""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tabserve.serving import limits
from tests.robust import Target, answer, head, pour
from tests.tabserve.conftest import SOURCE, Trained
from tests.tabserve.serving.running import eventually
from tests.tabserve.serving.test_api import ONE_MODEL
from tests.tabserve.serving.test_robust import running

LINUX = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it reads /proc")
FEW = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")


def metric(target: Target, name: str) -> float:
    """A metric without labels."""
    with target.connect() as connection:
        pour(connection, head("GET", "/metrics", Connection="close"))
        text = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_output_is_written_in_its_order() -> None:
    reading, writing = os.pipe()
    output = limits.Output(writing)
    expected = "".join(f"line {number} \u00e9\ud800\n" for number in range(2_000))
    for line in expected.splitlines(keepends=True):
        assert output.write(line) == len(line)
    output.flush()
    read = b""
    while len(read) < len(expected.encode("utf-8", "backslashreplace")):
        read += os.read(reading, 65_536)
    output.finish()
    assert read.decode() == expected.replace("\ud800", "\\ud800")


def test_output_that_nobody_reads_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAST", 0.1)
    reading, writing = os.pipe()
    output, before = limits.Output(writing), limits.LOST._value.get()
    line = "x" * 999 + "\n"
    began = time.monotonic()
    for _ in range(5_000):
        output.write(line)
    output.finish()
    lost = limits.LOST._value.get() - before
    assert 5_000 - (limits.WAITING + 2**20) / 1_000 <= lost < 5_000, "a pipe holds up to a MiB"
    assert time.monotonic() - began < 20
    os.close(reading)  # what waits fails now
    eventually(lambda: not output._waiting)
    assert limits.LOST._value.get() - before > lost
    output.write(line)
    eventually(lambda: not output._waiting)


@LINUX
@ONE_MODEL
def test_a_pipe_that_nobody_reads_does_not_stop_the_server(trained: Trained, package: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with running(trained, package, tmp_path, writing) as (target, process), target.connect() as connection:
        for _ in range(4_000):
            pour(connection, head("GET", "/" + "x" * 300))
            assert answer(connection).status == 404
        assert target.is_alive()
        eventually(lambda: metric(target, "log_lines_lost_total") > 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    os.close(reading)


@LINUX
@ONE_MODEL
def test_a_device_that_is_full_fails_nothing(trained: Trained, package: Path, tmp_path: Path) -> None:
    with running(trained, package, tmp_path, Path("/dev/full")) as (target, process):
        eventually(lambda: metric(target, "log_lines_lost_total") > 0)
        assert target.is_alive()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_nothing_in_the_server_writes_around_it() -> None:
    """`sys.stdout` is the output that never blocks; the streams that Python opened may."""
    for path in (SOURCE / "tabserve/serving").rglob("*.py"):
        for way in ("__stdout__", "__stderr__", "stdout.buffer", "fdopen"):
            assert way not in path.read_text(encoding="utf-8"), path


@LINUX
@ONE_MODEL
def test_idle_connections_leave_descriptors_and_cost_nothing(trained: Trained, package: Path, tmp_path: Path) -> None:
    with running(trained, package, tmp_path, before=FEW) as (target, process), contextlib.ExitStack() as stack:
        assert '"connections": 192' in (tmp_path / "log").read_text()
        assert metric(target, "connections_limit_reached_total") == 0
        before, open_before = seconds(process.pid), time.monotonic()
        for _ in range(700):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", target.port))
        time.sleep(1.5)
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) <= 230
        assert seconds(process.pid) - before < 0.1 * (time.monotonic() - open_before) + 0.1
        stack.close()
        eventually(target.is_alive)
        assert metric(target, "connections_limit_reached_total") > 0
        assert "Too many open files" not in (tmp_path / "log").read_text()


def seconds(process: int) -> float:
    """Of the processor that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(os.name == "nt", reason="it has no such limit")
@pytest.mark.parametrize(("soft", "expected"), [(256, 192), (10, 1), (65_536, 1024), (-1, 1024)])
def test_connections_stay_below_the_limit_of_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, expected: int
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, -1))
    assert limits.connections() == expected
