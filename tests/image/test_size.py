"""`make size`: what it measures, proposes and writes, and that it leaves no container behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.image.conftest import duplicate
from tests.image.engine import docker
from tests.project.conftest import BIN, make, task

SHORT = "ARGS=--seconds 0.5"
CHANGED = re.compile(r"[+-] +(cpu: (\d+m|\"\d+m?\")|memory: \d+Mi|averageUtilization: \d+)")


@pytest.fixture
def sized(project: Path, tmp_path: Path) -> Path:
    """A copy of the project, whose manifests may be changed, with the same environment and a commit."""
    folder = duplicate(project, tmp_path, "sized")
    (folder / ".venv").symlink_to(project / ".venv")
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "-A", ":!.venv", cwd=folder)
    run("git", "commit", "-q", "-m", "First", cwd=folder)
    return folder


def left(image: str) -> list[str]:
    """Containers that were not taken away: the server has the image, and the load has it too."""
    return docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").split()


def test_it_measures_proposes_and_writes(image: str, sized: Path) -> None:
    printed = make(sized, "size", f"IMAGE={image}", SHORT, "WRITE=1")
    assert f"{image} with 1 CPU, 256Mi: ready after " in printed
    for load in ("1 connection ", "30% of saturation", "90% of saturation", "64 x lists of 1,000 rows"):
        (line,) = [line for line in printed.splitlines() if line.startswith(load)]
        served, p50, p99, cores = (float(cell.replace(",", "")) for cell in line.removeprefix(load).split()[-7:-3])
        assert served > 0
        assert 0 < p50 <= p99
        assert 0 < cores < 1.2
        assert line.split()[-1] == "0"
    assert re.search(r"^averageUtilization of cpu +80 +\d+ ", printed, re.MULTILINE)
    assert left(image) == []
    check_written(sized)


def check_written(sized: Path) -> None:
    """The manifests have other sizes and are else as they were; and they are in order."""
    lines = run("git", "diff", "--unified=0", cwd=sized).splitlines()
    edits = [line for line in lines if re.match(r"[+-][^+-]", line)]
    assert [line for line in edits if not CHANGED.fullmatch(line)] == []
    assert len({line for line in edits if line.startswith("+") and "memory" in line}) == 1
    files = run("git", "diff", "--name-only", cwd=sized).split()
    assert "k8s/deployment.yaml" in files
    assert set(files) <= {"k8s/deployment.yaml", "k8s/autoscale.yaml"}
    assert "ok  k8s" in make(sized, "check-k8s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["IMAGE=localhost:1/none:0"], "there is no image localhost:1/none:0 on this machine: `make image`, or say wh"),
        (
            ["ARGS=--memory 32Mi"],
            "the server was killed: 32Mi of memory are not enough; give it more with ARGS='--memory",
        ),
        (["ARGS=--cpus 1000"], "docker does not start the server: "),
        (["RPS=none"], "'none' is not a valid amount above 0"),
        ([SHORT, "RPS=10000000", "WRITE=1"], "one pod cannot handle 10,000,000 requests/s and 25% more"),
    ],
    ids=["no image", "too little memory", "more cores than there are", "no rate", "too high a rate"],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    image: str, sized: Path, arguments: list[str], message: str
) -> None:
    printed = make(sized, "size", f"IMAGE={image}", *arguments, code=2)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert [line.startswith(f"error: {message}") for line in errors] == [True], printed
    assert "Traceback" not in printed
    assert run("git", "status", "--porcelain", cwd=sized).strip() in ("", "?? .venv")
    assert left(image) == []


def test_a_server_that_never_becomes_ready_says_why(without_model: str, sized: Path) -> None:
    printed = task(sized, "size", "--image", without_model, code=1)
    assert "error: the server was not ready after " in printed
    assert "there is no model at model/model.onnx: train one with `make train`" in printed
    assert left(without_model) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_takes_the_containers_away(image: str, sized: Path, number: signal.Signals) -> None:
    command = [".venv/bin/image-tests", "size", "--image", image, "--write"]
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    # A shell's background job, as these tests may be, ignores SIGINT, and so would its children.
    options: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "text": True}
    with subprocess.Popen(command, cwd=sized, env=os.environ | path, stdout=subprocess.PIPE, **options) as process:
        assert process.stdout
        assert "ready after" in process.stdout.readline()
        assert len(left(image)) == 2
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert left(image) == []
    assert run("git", "diff", cwd=sized) == ""
