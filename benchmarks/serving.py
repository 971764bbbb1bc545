"""Requests per second, CPU time, latency, start and memory of the server, beside other servers of the same model.

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
- asgi, fastapi: a constant reply, from the project's environment and with its Granian: limits; asgi reads the body
- uvicorn: the reply of asgi on uvicorn with httptools
- mlflow, bentoml, litserve: the scikit-learn pipeline, whose first step reads a data frame's columns, as usual with
  these; with -onnx: the ONNX graph and the project's own encoding of rows, the best that can be done with them.
  Batching is on where there is any, one worker, access logs are off

The project's server checks each value against the contract; the others take what comes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from answers import compare_answers
from servers import (
    LISTS,
    PEERS,
    SERVING,
    Bench,
    Numbers,
    Running,
    System,
    body_of,
    cpu,
    memory,
    post,
    run,
    say,
    started,
    surroundings,
    write_bodies,
    wrk,
)

CACHE = Path.home() / ".cache/copier-mlops-benchmarks"
CONNECTIONS = (1, 8, 64)
LATENCY_AT = LISTS_AT = 8  # connections
WARM_UP = 1.0  # seconds
OURS = ("python", "granian", "fastapi", "onnxruntime", "scikit-learn")
THEIRS = {name: (name, "uvicorn", "scikit-learn", "onnxruntime") for name in ("mlflow", "bentoml", "litserve")}
SAME = ("numpy", "scikit-learn", "onnxruntime", "joblib")


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
    System("ours", SERVING, SERVE, lists=True),
    System("ours-quiet", SERVING, SERVE, lists=True, settings=QUIET),
    System("ours-unobserved", SERVING, ("{peers}/unobserved.py", "{port}"), lists=True, settings=QUIET),
    System("asgi", SERVING, ("{peers}/limits.py", "asgi", "{port}")),
    System("fastapi", SERVING, ("{peers}/limits.py", "fastapi", "{port}")),
    System("uvicorn", SERVING, ("{peers}/limits.py", "uvicorn", "{port}")),
    mlflow("mlflow", "sklearn"),
    mlflow("mlflow-onnx", "onnx"),
    bentoml("bentoml", "sklearn"),
    bentoml("bentoml-onnx", "onnx"),
    litserve("litserve", "sklearn"),
    litserve("litserve-onnx", "onnx"),
)


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


def uv_of(project: Path) -> str:
    """Where uv is: on the PATH, beside this Python, or in the project, where `make` puts it; empty where it is not."""
    places = (Path(sys.executable).with_name("uv"), project / ".uv/bin/uv")
    return shutil.which("uv") or next((str(place) for place in places if place.exists()), "")


def check(arguments: argparse.Namespace, cores: Sequence[int]) -> None:
    """End with one line where something is missing."""
    project = arguments.project
    if not (project / ".venv/bin/python").exists() or not list(project.glob("src/*/__main__.py")):
        raise SystemExit(f"error: {project} is not a project that is set up: run `make setup` in it")
    if not (project / "model/model.onnx").exists():
        raise SystemExit(f"error: {project} has no model: run `make train` in it")
    if len(cores) < 2:
        raise SystemExit("error: this needs Linux and two cores, one for the server and one for wrk")
    if not shutil.which("wrk"):
        raise SystemExit("error: wrk is not installed: `apt-get install wrk`")
    if not uv_of(project):
        raise SystemExit("error: uv is not installed: `pip install uv`")
    if arguments.rounds < 1 or arguments.seconds < 1 or not float(arguments.seconds).is_integer():
        raise SystemExit("error: --rounds and --seconds must be whole numbers from 1")
    if arguments.out and not arguments.out.resolve().parent.is_dir():
        raise SystemExit(f"error: there is no folder {arguments.out.resolve().parent} for --out")


# --- before measuring


def prepare(bench: Bench, systems: Sequence[System]) -> dict[str, str]:
    """Environments, models, requests, and the proof that all systems answer alike; returns the versions."""
    peers = sorted({system.home for system in systems} - {SERVING})
    serving_environment(bench)
    for peer in peers:
        peer_environment(bench, peer)
    say("training once more")
    run([project_python(bench), "-W", "ignore", PEERS / "prepare.py"], bench.project, surroundings(bench, SYSTEMS[0]))
    for system in systems:
        if system.home == "mlflow":
            command: list[str | Path] = [bench.python("mlflow"), "-W", "ignore", PEERS / "with_mlflow.py", "save"]
            run(command, bench.folder, surroundings(bench, system))
    expected(bench)
    for system in systems:
        write_bodies(bench, system)
        with started(bench, system) as running:
            compare_answers(running)
            say(f"{system.name} gives the same answers")
    return versions(bench, peers)


def project_python(bench: Bench) -> Path:
    """The project's own interpreter, which can train."""
    return bench.project / ".venv/bin/python"


def serving_environment(bench: Bench) -> None:
    """What the project's image installs, with byte code as there."""
    say("environment of the project's server")
    there = os.environ | {"UV_PROJECT_ENVIRONMENT": str(bench.envs / SERVING)}
    options = ["--frozen", "--no-default-groups", "--no-install-project", "--compile-bytecode"]
    run([uv_of(bench.project), "sync", "-q", *options, "--python", project_python(bench)], bench.project, there)
    beside = ["-q", "--compile-bytecode", "--python", str(bench.python(SERVING)), "uvicorn", "httptools"]
    run([uv_of(bench.project), "pip", "install", *beside])


def peer_environment(bench: Bench, peer: str) -> None:
    """Make a peer's environment where it is not there; its numerical libraries are the project's."""
    say(f"environment of {peer}")
    mine = installed(project_python(bench))
    wanted = [peer, "pandas", *(f"{name}=={mine[name]}" for name in SAME)]
    if not bench.python(peer).exists():
        run([uv_of(bench.project), "venv", "-q", "--python", project_python(bench), bench.envs / peer])
    run([uv_of(bench.project), "pip", "install", "-q", "--compile-bytecode", "--python", bench.python(peer), *wanted])


def installed(python: Path) -> dict[str, str]:
    """The versions of an interpreter and of what it can import."""
    code = (
        "import json, platform; from importlib import metadata; "
        "print(json.dumps({each.metadata['Name'].lower(): each.version for each in metadata.distributions()}"
        " | {'python': platform.python_version()}))"
    )
    found: dict[str, str] = json.loads(run([python, "-c", code]))
    return found


def expected(bench: Bench) -> None:
    """Write what the project's server answers, for all others to be compared with, and for the constant replies."""
    ours = SYSTEMS[0]
    write_bodies(bench, ours)
    with started(bench, ours) as running:
        for count in (1, *LISTS):
            status, answer = post(running.port, ours, body_of(bench, ours, count).read_bytes())
            if status != 200:
                raise SystemExit(f"error: the project's server answers {status} to {count} rows: {answer[:300]!r}")
            (bench.folder / ("reply.json" if count == 1 else f"reply-{count}.json")).write_bytes(answer)


def versions(bench: Bench, peers: Sequence[str]) -> dict[str, str]:
    """Versions of everything that takes part."""
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    ours = installed(project_python(bench))
    found = {"cpu": model[1] if model else "unknown", "wrk": said.split("\n")[0].split(" [")[0].removeprefix("wrk ")}
    found["project"] = ", ".join(f"{name} {ours[name]}" for name in OURS)
    for peer in peers:
        theirs = installed(bench.python(peer))
        found[peer] = ", ".join(f"{name} {theirs[name]}" for name in THEIRS[peer])
    return found


# --- measuring


def rounds(bench: Bench, systems: Sequence[System], count: int) -> dict[str, list[Numbers]]:
    """The numbers of each round for each system; every other round goes backwards."""
    measured: dict[str, list[Numbers]] = {system.name: [] for system in systems}
    for number in range(count):
        for system in systems[:: -1 if number % 2 else 1]:
            say(f"round {number + 1} of {count}: {system.name}")
            with started(bench, system) as running:
                compare_answers(running)
                measured[system.name].append(measure(running))
    return measured


def measure(running: Running) -> Numbers:
    """All numbers of one system in one round."""
    found: Numbers = {"ready": running.ready, "errors": 0.0}
    for connections in CONNECTIONS:
        loaded = load(running, connections, 1)
        found[f"rps {connections}"] = loaded["requests"] / loaded["seconds"]
        found[f"cpu {connections}"] = 1e6 * loaded["cpu"] / max(loaded["requests"], 1)
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
    before = cpu(running.process.pid)
    found = wrk(running, connections, rows, running.bench.seconds)
    found["cpu"] = cpu(running.process.pid) - before
    found["errors"] = found["status"] + found["socket"] + found["timeout"]
    if found["errors"]:
        what = f"{connections} connections, {rows} rows"
        kinds = f"{found['status']:.0f} not 2xx, {found['socket']:.0f} socket errors, {found['timeout']:.0f} timeouts"
        say(f"{running.system.name}, {what}: {kinds}")
    return found


# --- what is printed


def report(measured: Mapping[str, Sequence[Numbers]], versions: Mapping[str, str]) -> None:
    """Print medians, ratios and versions."""
    middle = {name: medians(found) for name, found in measured.items()}
    print_table(middle)
    print_ratios(middle, "rps", "ours / other, requests per second")
    print_cpu(middle)
    print_ratios(middle, "cpu", "ours / other, CPU time of a request")
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


def print_cpu(middle: Mapping[str, Numbers]) -> None:
    """Microseconds of all of a server's processes for one request."""
    print(f"\n{'CPU us':<16} {' '.join(f'{count:>8}' for count in CONNECTIONS)}")
    for name, numbers in middle.items():
        used = " ".join(f"{numbers[f'cpu {count}']:>8.0f}" for count in CONNECTIONS)
        print(f"{name:<16} {used}")


def print_ratios(middle: Mapping[str, Numbers], kind: str, title: str) -> None:
    """How often the numbers of the others those of ours are."""
    if "ours" not in middle:
        return
    print(f"\n{title}\n{'':<16} {' '.join(f'{count:>8}' for count in CONNECTIONS)}")
    for name, numbers in middle.items():
        if name != "ours":
            ratios = (
                middle["ours"][f"{kind} {count}"] / max(numbers[f"{kind} {count}"], 0.01) for count in CONNECTIONS
            )
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
