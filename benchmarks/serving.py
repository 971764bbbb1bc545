"""Requests per second, latency, start and memory of the server, beside other servers of the same trained model.

    python benchmarks/serving.py ../my-model

The project must be set up and trained (`make train`); its own files stay as they are. Needs Linux (/proc), two cores,
wrk, and uv or the `.venv` of this repository. MLflow, BentoML and LitServe get an environment each under `--envs`, in
their current versions, with the project's own scikit-learn, NumPy and ONNX Runtime. The default takes about 25 minutes.

Each system has one core and wrk has another; only one runs at a time, and each starts anew in each round. Libraries
have one thread. Before anything is measured, every system must give the same labels and, to 1e-5, the same numbers as
the project's server. What is measured:

- ours: as it is generated, with metrics and JSON access logs; the log goes to a file in the temporary folder
- ours-quiet: the same with SERVE_LOG_LEVEL=warning, so without access logs
- ours-unobserved: neither request ids nor metrics nor access logs
- asgi, fastapi: a constant reply, from the project's environment and with its uvicorn: limits, they read no body
- mlflow, bentoml, litserve: the scikit-learn pipeline, which reads a data frame; with -onnx: the ONNX graph, and the
  project's own encoding of rows. Batching is on where there is any, one worker, access logs are off

The project's server checks each value against the contract; the others take what comes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
PEERS = Path(__file__).resolve().parent / "serving_peers"
CACHE = Path.home() / ".cache/copier-mlops-benchmarks"
CONNECTIONS = (1, 8, 64)
LATENCY_AT = LISTS_AT = 8  # connections
LISTS = (10, 100, 1_000)  # rows of a request
WARM_UP = 1.0  # seconds
READY_LIMIT, END_LIMIT, POLL = 120.0, 10.0, 0.005  # seconds
TOLERANCE = 1e-5
OURS = ("python", "uvicorn", "fastapi", "httptools", "onnxruntime", "scikit-learn")
THEIRS = {name: (name, "uvicorn", "scikit-learn", "onnxruntime") for name in ("mlflow", "bentoml", "litserve")}
SAME = ("numpy", "scikit-learn", "onnxruntime", "joblib")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",  # MLflow wants this word
}
Row = dict[str, Any]
Numbers = dict[str, float]


@dataclass(frozen=True)
class System:
    """A server that is measured.

    Attributes:
        home: the package whose environment it runs in; empty for the project's.
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


def mlflow(name: str, model: str) -> System:
    """MLflow with one kind of model."""
    script = ("{peers}/with_mlflow.py", "{port}")
    return System(name, "mlflow", script, "/invocations", "split", lists=True, model=model)


def bentoml(name: str, model: str) -> System:
    """BentoML with one kind of model."""
    serve = ("-m", "bentoml", "serve", "with_bentoml:Peer", "--working-dir", "{peers}")
    return System(
        name, "bentoml", (*serve, "--host", "127.0.0.1", "--port", "{port}"), body="named", lists=True, model=model
    )


def litserve(name: str, model: str) -> System:
    """LitServe with one kind of model."""
    return System(name, "litserve", ("{peers}/with_litserve.py", "{port}"), model=model)


SERVE = ("-m", "{package}", "serve", "--port", "{port}")
QUIET = {"SERVE_LOG_LEVEL": "warning"}
SYSTEMS = (
    System("ours", "", SERVE, lists=True),
    System("ours-quiet", "", SERVE, lists=True, settings=QUIET),
    System("ours-unobserved", "", ("{peers}/unobserved.py", "{port}"), lists=True, settings=QUIET),
    System("asgi", "", ("{peers}/limits.py", "asgi", "{port}")),
    System("fastapi", "", ("{peers}/limits.py", "fastapi", "{port}")),
    mlflow("mlflow", "sklearn"),
    mlflow("mlflow-onnx", "onnx"),
    bentoml("bentoml", "sklearn"),
    bentoml("bentoml-onnx", "onnx"),
    litserve("litserve", "sklearn"),
    litserve("litserve-onnx", "onnx"),
)
BODIES: dict[str, Callable[[list[Row]], Any]] = {
    "rows": lambda rows: rows if len(rows) > 1 else rows[0],
    "named": lambda rows: {"rows": rows},
    "split": lambda rows: {
        "dataframe_split": {"columns": list(rows[0]), "data": [[row.get(name) for name in rows[0]] for row in rows]}
    },
}


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
        return (self.envs / home if home else self.project / ".venv") / "bin/python"

    def rows(self, count: int) -> list[Row]:
        """Rows to send: for one the model's own example, else held-out rows."""
        rows: list[Row] = json.loads((self.folder / "rows.json").read_text())
        return rows[:1] if count == 1 else rows[1 : count + 1]


@dataclass(frozen=True)
class Running:
    """A system that has started and gives correct answers."""

    bench: Bench
    system: System
    process: subprocess.Popen[bytes]
    port: int
    ready: float


def main() -> None:
    """Measure and print."""
    arguments = parsed()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    chosen = [named(name) for name in arguments.systems.split(",")] if arguments.systems else list(SYSTEMS)
    check(arguments, cores)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            arguments.project.resolve(),
            arguments.envs.expanduser().resolve(),
            Path(folder),
            arguments.seconds,
            cores[-1],
            cores[0],
        )
        os.sched_setaffinity(0, {bench.client_core})
        versions = prepare(bench, chosen)
        measured = rounds(bench, chosen, arguments.rounds)
    report(measured, versions)
    if arguments.out:
        arguments.out.write_text(json.dumps({"versions": versions, "rounds": measured}, indent=2) + "\n")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement; whole ones")
    parser.add_argument("--systems", default="", help="names with commas; default: all")
    parser.add_argument("--envs", type=Path, default=CACHE, help=f"where environments are kept; default: {CACHE.name}")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers of each round")
    return parser.parse_args()


def named(name: str) -> System:
    """The system of this name."""
    for system in SYSTEMS:
        if system.name == name:
            return system
    raise SystemExit(f"error: no system is called {name!r}; there are {', '.join(each.name for each in SYSTEMS)}")


def check(arguments: argparse.Namespace, cores: Sequence[int]) -> None:
    """End with one line where something is missing."""
    project = arguments.project
    if not (project / ".venv/bin/python").exists() or not list(project.glob("src/*/__main__.py")):
        raise SystemExit(f"error: {project} is no project that is set up: run `make setup` in it")
    if not (project / "model/model.onnx").exists():
        raise SystemExit(f"error: {project} has no model: run `make train` in it")
    if len(cores) < 2:
        raise SystemExit("error: this needs Linux and two cores, one for the server and one for wrk")
    if not shutil.which("wrk"):
        raise SystemExit("error: wrk is not installed: `apt-get install wrk`")
    if not Path(UV).exists():
        raise SystemExit("error: uv is not installed: `pip install uv`")
    if arguments.rounds < 1 or arguments.seconds < 1 or not float(arguments.seconds).is_integer():
        raise SystemExit("error: --rounds and --seconds must be whole numbers from 1")
    if arguments.out and not arguments.out.resolve().parent.is_dir():
        raise SystemExit(f"error: there is no folder {arguments.out.resolve().parent} for --out")


def package_of(project: Path) -> str:
    """The package of a project."""
    return next(project.glob("src/*/__main__.py")).parent.name


# --- before measuring


def prepare(bench: Bench, systems: Sequence[System]) -> dict[str, str]:
    """Environments, models, requests, and the proof that all systems answer alike; returns the versions."""
    homes = sorted({system.home for system in systems if system.home})
    for home in homes:
        environment(bench, home)
    say("training once more")
    run([bench.python(""), "-W", "ignore", PEERS / "prepare.py"], bench.project, surroundings(bench, SYSTEMS[0]))
    for system in systems:
        if system.home == "mlflow":
            command: list[str | Path] = [bench.python("mlflow"), "-W", "ignore", PEERS / "with_mlflow.py", "save"]
            run(command, bench.folder, surroundings(bench, system))
    expected(bench)
    for system in systems:
        write_bodies(bench, system)
        with started(bench, system):
            say(f"{system.name} gives the same answers")
    return versions(bench, homes)


def environment(bench: Bench, home: str) -> None:
    """Make a peer's environment where it is not there; its numerical libraries are the project's."""
    say(f"environment of {home}")
    mine = installed(bench.python(""))
    wanted = [home, "pandas", *(f"{name}=={mine[name]}" for name in SAME)]
    if not bench.python(home).exists():
        run([UV, "venv", "-q", "--python", bench.python(""), bench.envs / home])
    run([UV, "pip", "install", "-q", "--python", bench.python(home), *wanted])


def installed(python: Path) -> dict[str, str]:
    """The versions of an interpreter and of what it can import."""
    code = (
        "import json, platform; from importlib import metadata; "
        "print(json.dumps({each.metadata['Name'].lower(): each.version for each in metadata.distributions()}"
        " | {'python': platform.python_version()}))"
    )
    found: dict[str, str] = json.loads(run([python, "-c", code]))
    return found


def run(command: Sequence[str | Path], folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command[:4]))} failed:\n{done.stderr[-2_000:].strip()}")
    return done.stdout


def surroundings(bench: Bench, system: System) -> dict[str, str]:
    """The environment variables of a system."""
    paths = {"PYTHONPATH": f"{bench.project / 'src'}{os.pathsep}{PEERS}"}
    homes = {"BENTOML_HOME": str(bench.folder / "bentoml"), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    served = {"SERVED_FOLDER": str(bench.folder), "SERVED_PACKAGE": bench.package, "SERVED_MODEL": system.model}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SERVE_", "TRAIN_"))}
    return inherited | SILENT | dict.fromkeys(THREADS, "1") | paths | homes | served | dict(system.settings)


def expected(bench: Bench) -> None:
    """Write what the project's server answers, for all others to be compared with, and for the constant replies."""
    ours = SYSTEMS[0]
    write_bodies(bench, ours)
    with started(bench, ours, compare=False) as running:
        for count in (1, *LISTS):
            status, answer = post(running.port, ours, body_of(bench, ours, count).read_bytes())
            if status != 200:
                raise SystemExit(f"error: the project's server answers {status} to {count} rows: {answer[:300]!r}")
            (bench.folder / ("reply.json" if count == 1 else f"reply-{count}.json")).write_bytes(answer)


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


def versions(bench: Bench, homes: Sequence[str]) -> dict[str, str]:
    """Versions of everything that takes part."""
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    ours = installed(bench.python(""))
    found = {"cpu": model[1] if model else "unknown", "wrk": said.split("\n")[0].split(" [")[0].removeprefix("wrk ")}
    found["project"] = ", ".join(f"{name} {ours[name]}" for name in OURS)
    for home in homes:
        theirs = installed(bench.python(home))
        found[home] = ", ".join(f"{name} {theirs[name]}" for name in THEIRS[home])
    return found


# --- one server


@contextlib.contextmanager
def started(bench: Bench, system: System, compare: bool = True) -> Iterator[Running]:
    """A system that answers correctly; it and all its children are ended afterwards."""
    port = free_port()
    values = {"port": str(port), "package": bench.package, "peers": str(PEERS)}
    command = [str(bench.python(system.home)), *(part.format(**values) for part in system.command)]
    began = time.perf_counter()
    with (bench.folder / f"{system.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=bench.folder if system.home else bench.project,
            env=surroundings(bench, system),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {bench.server_core}),
        )
    try:
        wait_ready(bench, system, process, port)
        running = Running(bench, system, process, port, time.perf_counter() - began)
        if compare:
            compare_answers(running)
        yield running
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


def memory(pid: int) -> float:
    """MB of a process and its descendants: PSS, which counts a shared page once."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{each}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) if found else 0
    return total / 1_000


# --- the same answers


def compare_answers(running: Running) -> None:
    """End when a system does not answer as the project's server does."""
    bench, system = running.bench, running.system
    for count in counts(system):
        status, answer = post(running.port, system, body_of(bench, system, count).read_bytes())
        reply = json.loads((bench.folder / ("reply.json" if count == 1 else f"reply-{count}.json")).read_text())
        wanted = predictions(reply)
        found = predictions(json.loads(answer)) if status == 200 else []
        if len(found) != len(wanted) or not all(map(alike, wanted, found)):
            raise SystemExit(f"error: {system.name} answers otherwise than ours: {status} {answer[:300]!r}")


def predictions(document: Any) -> list[Any]:
    """The answers for the rows, however they are wrapped."""
    inner = document.get("predictions", [document]) if isinstance(document, dict) else document
    return list(inner) if isinstance(inner, list) else [inner]


def alike(wanted: Row, found: Any) -> bool:
    """Whether label and numbers are the same; a list of numbers stands for its most probable label."""
    names = list(wanted.get("probabilities", {}))
    numbers = list(wanted["probabilities"].values()) if names else [wanted["value"]]
    theirs = numbers_of(found)
    if isinstance(found, list) and names:
        found = {"label": names[theirs.index(max(theirs))]}
        wanted = {"label": label_text(wanted["label"])}
    same = not names or (isinstance(found, dict) and found.get("label") == wanted["label"])
    return same and len(theirs) == len(numbers) and all(map(close, numbers, theirs))


def label_text(label: Any) -> str:
    """A label as the key of its probability."""
    return label if isinstance(label, str) else json.dumps(label)


def numbers_of(found: Any) -> list[float]:
    """The probabilities of an answer, or its value."""
    if isinstance(found, dict):
        return list(found["probabilities"].values()) if "probabilities" in found else [found.get("value", math.nan)]
    return list(found) if isinstance(found, list) else [found]


def close(one: float, other: float) -> bool:
    """Whether two numbers agree."""
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one))


# --- measuring


def rounds(bench: Bench, systems: Sequence[System], count: int) -> dict[str, list[Numbers]]:
    """The numbers of each round for each system; every other round goes backwards."""
    measured: dict[str, list[Numbers]] = {system.name: [] for system in systems}
    for number in range(count):
        for system in systems[:: -1 if number % 2 else 1]:
            say(f"round {number + 1} of {count}: {system.name}")
            with started(bench, system) as running:
                measured[system.name].append(measure(running))
    return measured


def measure(running: Running) -> Numbers:
    """All numbers of one system in one round."""
    found: Numbers = {"ready": running.ready, "errors": 0.0}
    for connections in CONNECTIONS:
        loaded = load(running, connections, 1)
        found[f"rps {connections}"] = loaded["requests"] / loaded["seconds"]
        found["errors"] += loaded["errors"]
        if connections == LATENCY_AT:
            found |= {"p50": loaded["p50"], "p99": loaded["p99"]}
    found["pss"] = memory(running.process.pid)
    for count in LISTS if running.system.lists else ():
        loaded = load(running, LISTS_AT, count)
        found[f"rows {count}"] = count * loaded["requests"] / loaded["seconds"]
        found["errors"] += loaded["errors"]
    return found


def load(running: Running, connections: int, rows: int) -> Numbers:
    """What wrk counts after a warm-up."""
    wrk(running, connections, rows, WARM_UP)
    found = wrk(running, connections, rows, running.bench.seconds)
    found["errors"] = found["status"] + found["socket"] + found["timeout"]
    if found["errors"]:
        what = f"{connections} connections, {rows} rows"
        kinds = f"{found['status']:.0f} not 2xx, {found['socket']:.0f} socket errors, {found['timeout']:.0f} timeouts"
        say(f"{running.system.name}, {what}: {kinds}")
    return found


def wrk(running: Running, connections: int, rows: int, seconds: float) -> Numbers:
    """Run wrk once, on its own core."""
    options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "20s", "-s", str(PEERS / "post.lua")]
    body = body_of(running.bench, running.system, rows)
    url = f"http://127.0.0.1:{running.port}{running.system.path}"
    printed = run(["wrk", *options, url], environment=os.environ | {"BODY": str(body)})
    counted: Numbers = json.loads(printed.strip().split("\n")[-1])
    return counted


# --- what is printed


def say(text: str) -> None:
    """Show progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def report(measured: Mapping[str, Sequence[Numbers]], versions: Mapping[str, str]) -> None:
    """Print medians, ratios and versions."""
    middle = {name: medians(found) for name, found in measured.items()}
    print_table(middle)
    print_ratios(middle)
    print_lists(middle)
    print()
    for name, said in versions.items():
        print(f"{name:<10} {said}")
    for name, found in measured.items():
        if errors := sum(numbers["errors"] for numbers in found):
            print(f"{name}: {errors:,.0f} requests failed, so its numbers mean nothing")


def medians(found: Sequence[Numbers]) -> Numbers:
    """The median of each number over the rounds."""
    return {name: statistics.median(numbers[name] for numbers in found) for name in found[0]}


def print_table(middle: Mapping[str, Numbers]) -> None:
    """One line for each system."""
    rps = " ".join(f"{'rps ' + str(count):>8}" for count in CONNECTIONS)
    print(f"{'medians':<16} {rps} {'p50 ms':>8} {'p99 ms':>8} {'ready s':>8} {'PSS MB':>8}")
    for name, numbers in middle.items():
        counted = " ".join(f"{numbers[f'rps {count}']:>8,.0f}" for count in CONNECTIONS)
        latency = f"{numbers['p50']:>8.2f} {numbers['p99']:>8.2f}"
        print(f"{name:<16} {counted} {latency} {numbers['ready']:>8.2f} {numbers['pss']:>8.0f}")
    print(f"rps: requests per second at so many connections; p50 and p99 at {LATENCY_AT}; ready: from process start to")
    print("the first correct answer; PSS: of all processes, after requests of one row")


def print_ratios(middle: Mapping[str, Numbers]) -> None:
    """How often the requests per second of the others those of ours are."""
    if "ours" not in middle:
        return
    print(f"\n{'ours / other':<16} {' '.join(f'{count:>8}' for count in CONNECTIONS)}")
    for name, numbers in middle.items():
        if name != "ours":
            ratios = (middle["ours"][f"rps {count}"] / max(numbers[f"rps {count}"], 0.01) for count in CONNECTIONS)
            print(f"{name:<16} {' '.join(f'{ratio:>8.2f}' for ratio in ratios)}")


def print_lists(middle: Mapping[str, Numbers]) -> None:
    """Rows per second of requests with many rows."""
    taking = {name: numbers for name, numbers in middle.items() if f"rows {LISTS[0]}" in numbers}
    if taking:
        print(f"\n{'rows/s, lists of':<16} {' '.join(f'{count:>8,}' for count in LISTS)}   at {LISTS_AT} connections")
    for name, numbers in taking.items():
        counted = " ".join(f"{numbers[f'rows {count}']:>8,.0f}" for count in LISTS)
        print(f"{name:<16} {counted}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
