"""For serving.py and overload.py: start a server on a core of its own, ask it, load it with wrk, and end it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

SERVING = "serving"  # the project's environment
PEERS = Path(__file__).resolve().parent / "serving_peers"
LISTS = (10, 100, 1_000)  # rows of a request
READY_LIMIT, END_LIMIT, POLL = 120.0, 10.0, 0.005  # seconds
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",  # MLflow wants this word
}
Row = dict[str, Any]
Numbers = dict[str, float]


BODIES: dict[str, Callable[[list[Row]], Any]] = {
    "rows": lambda rows: rows if len(rows) > 1 else rows[0],
    "named": lambda rows: {"rows": rows},
    "split": lambda rows: {
        "dataframe_split": {"columns": list(rows[0]), "data": [[row.get(name) for name in rows[0]] for row in rows]}
    },
}


@dataclass(frozen=True)
class System:
    """A server that is measured.

    Attributes:
        home: the environment it runs in: the peer's, or what the project's image installs.
        command: its arguments after Python; {port}, {package} and {peers} are filled in.
        body: how rows are put into a request, a key of BODIES.
        lists: whether one request may hold many rows.
        model: what the peers load, sklearn or onnx.
        settings: environment variables.
    """

    name: str
    home: str
    command: tuple[str, ...]
    path: str = "/predict"
    body: str = "rows"
    lists: bool = False
    model: str = "onnx"
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What all measurements share: the project, the environments, a temporary folder, and a core for each side."""

    project: Path
    envs: Path
    folder: Path
    seconds: float
    server_core: int
    client_core: int

    @property
    def package(self) -> str:
        """The project's package."""
        return package_of(self.project)

    def python(self, home: str) -> Path:
        """The interpreter of an environment."""
        return self.envs / home / "bin/python"

    def rows(self, count: int) -> list[Row]:
        """Rows to send: for one the model's own example, else held-out rows."""
        rows: list[Row] = json.loads((self.folder / "rows.json").read_text())
        return rows[:1] if count == 1 else rows[1 : count + 1]


@dataclass(frozen=True)
class Running:
    """A system that has started and answers."""

    bench: Bench
    system: System
    process: subprocess.Popen[bytes]
    port: int
    ready: float


def package_of(project: Path) -> str:
    """The package of a project."""
    return next(project.glob("src/*/__main__.py")).parent.name


def run(command: Sequence[str | Path], folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command[:4]))} failed:\n{done.stderr[-2_000:].strip()}")
    return done.stdout


def say(text: str) -> None:
    """Show progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def surroundings(bench: Bench, system: System) -> dict[str, str]:
    """The environment variables of a system."""
    paths = {"PYTHONPATH": f"{bench.project / 'src'}{os.pathsep}{PEERS}"}
    homes = {"BENTOML_HOME": str(bench.folder / "bentoml"), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    served = {"SERVED_FOLDER": str(bench.folder), "SERVED_PACKAGE": bench.package, "SERVED_MODEL": system.model}
    unwanted = ("SERVE_", "TRAIN_", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return inherited | SILENT | dict.fromkeys(THREADS, "1") | paths | homes | served | dict(system.settings)


def write_bodies(bench: Bench, system: System) -> None:
    """One file for each number of rows."""
    for count in counts(system):
        body_of(bench, system, count).write_text(json.dumps(BODIES[system.body](bench.rows(count))))


def counts(system: System) -> tuple[int, ...]:
    """How many rows go into one request."""
    return (1, *LISTS) if system.lists else (1,)


def body_of(bench: Bench, system: System, count: int) -> Path:
    """The file with a request's body."""
    return bench.folder / f"{system.body}-{count}.json"


@contextlib.contextmanager
def started(bench: Bench, system: System) -> Iterator[Running]:
    """A system that answers; it and all its children are ended afterwards."""
    port = free_port()
    values = {"port": str(port), "package": bench.package, "peers": str(PEERS)}
    command = [str(bench.python(system.home)), *(part.format(**values) for part in system.command)]
    began = time.perf_counter()
    with (bench.folder / f"{system.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=bench.folder if system.home != SERVING else bench.project,
            env=surroundings(bench, system),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {bench.server_core}),
        )
    try:
        wait_ready(bench, system, process, port)
        yield Running(bench, system, process, port, time.perf_counter() - began)
    finally:
        end(process)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_ready(bench: Bench, system: System, process: subprocess.Popen[bytes], port: int) -> None:
    """Ask for a prediction until there is one."""
    body, limit = body_of(bench, system, 1).read_bytes(), time.monotonic() + READY_LIMIT
    reason = "no answer"
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError, HTTPException):
            status, answer = post(port, system, body)
            if status == 200:
                return
            reason = f"{status} {answer[:300]!r}"
        time.sleep(POLL)
    log = (bench.folder / f"{system.name}.log").read_text(errors="replace")
    raise SystemExit(f"error: {system.name} does not become ready ({reason}); its log ends with\n{log[-2_000:]}")


def post(port: int, system: System, body: bytes) -> tuple[int, bytes]:
    """Status and answer of one request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=READY_LIMIT)
    try:
        connection.request("POST", system.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a system with all its children, also those that have a session of their own."""
    everyone = tree(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_LIMIT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pid, start in everyone.items():
        if started_at(pid) == start:  # and not another process that has got the number since
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tree(root: int) -> dict[int, str]:
    """A process and all that descend from it, with when they started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if values := stat(int(path.name)):
            children.setdefault(int(values[1]), []).append(int(path.name))
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        found[pid] = started_at(pid)
        waiting += children.get(pid, [])
    return found


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, or none for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def started_at(pid: int) -> str:
    """When a process started, in clock ticks; empty when it has ended."""
    values = stat(pid)
    return values[19] if values else ""


def cpu(pid: int) -> float:
    """Seconds of CPU time that a process and its descendants have used."""
    used = sum(int(value) for each in tree(pid) for value in stat(each)[11:13])
    return used / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """MB of a process and its descendants: PSS, which counts a shared page once."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{each}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) if found else 0
    return total / 1_000


def wrk(running: Running, connections: int, rows: int, seconds: float) -> Numbers:
    """Run wrk once, on its own core."""
    options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "20s", "-s", str(PEERS / "post.lua")]
    body = body_of(running.bench, running.system, rows)
    url = f"http://127.0.0.1:{running.port}{running.system.path}"
    printed = run(["wrk", *options, url], environment=os.environ | {"BODY": str(body)})
    counted: Numbers = json.loads(printed.strip().split("\n")[-1])
    return counted
