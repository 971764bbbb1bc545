"""What a slow model or long lists do to the server: health checks at full load, batching, and load that is shed.

    python benchmarks/overload.py ../my-model
    python benchmarks/overload.py ../my-model --work 0 --rows 1000    # its own model, lists

The project must be set up and trained (`make train`); its own files stay as they are. Needs Linux, two cores, wrk and
uv, as serving.py does. The project's model is made slow by matrix products whose result changes nothing (`--work` says
how many); one row then takes several milliseconds, and many rows together hardly longer, as with a neural network.

While wrk asks for predictions on 1 to 512 connections, another process asks /livez and /readyz in turn, every 10 ms,
on connections of their own, once all clients are connected. The server has one core, everything else has another.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from servers import SERVING, Bench, Numbers, Running, System, body_of, memory, run, started, surroundings, wrk
from serving import CACHE, check, project_python, serving_environment

CONNECTIONS = (1, 8, 64, 512)
WAITS = (1.0, 0.1)  # seconds of work that may be queued: the default, and so few that load is shed
HERE = Path(__file__).resolve().parent
SLOW = System("slow", SERVING, ("-m", "{package}", "serve", "--port", "{port}"))
QUICK = 0.01  # seconds between two health checks
CONNECTED = 0.5  # seconds after which wrk has made its connections


def main() -> None:
    """Measure and print."""
    arguments = parsed()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    check(arguments, cores)
    with tempfile.TemporaryDirectory() as folder:
        project, envs = arguments.project.resolve(), arguments.envs.expanduser().resolve()
        bench = Bench(project, envs, Path(folder), arguments.seconds, cores[-1], cores[0])
        os.sched_setaffinity(0, {bench.client_core})
        serving_environment(bench)
        inference = prepare(bench, arguments.work, arguments.rows)
        print(f"one row {inference['one']:.1f} ms, 64 rows {inference['many']:.1f} ms of inference\n")
        for wait in WAITS:
            settings = {"SERVE_MODEL": str(bench.folder / "slow.onnx"), "SERVE_LONGEST_WAIT": str(wait)}
            with started(bench, replace(SLOW, settings=settings)) as running:
                print(f"longest_wait = {wait} s")
                report(running, arguments.rows)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement; whole ones")
    parser.add_argument("--work", type=int, default=8, help="matrix products of 2,048 x 2,048; 0: the model as it is")
    parser.add_argument("--rows", type=int, default=1, help="of a request; default: 1")
    parser.add_argument("--envs", type=Path, default=CACHE, help=f"where environments are kept; default: {CACHE.name}")
    return parser.parse_args(namespace=argparse.Namespace(rounds=1, out=None))


def prepare(bench: Bench, work: int, rows: int) -> Numbers:
    """Write the slow model, a request of one row and one of so many; returns how long inference takes."""
    command: list[str | Path] = [project_python(bench), HERE / "serving_peers/slow_model.py", str(work)]
    printed = run(command, bench.project, surroundings(bench, SLOW))
    found: dict[str, object] = json.loads(printed.strip().split("\n")[-1])
    body_of(bench, SLOW, rows).write_text(json.dumps([found["example"]] * rows))
    body_of(bench, SLOW, 1).write_text(json.dumps(found["example"]))
    return {"one": float(str(found["one"])), "many": float(str(found["many"]))}


def report(running: Running, rows: int) -> None:
    """Print a line for each number of connections."""
    columns = ("200/s", "503/s", "p50 ms", "p99 ms", "checks", "p50 ms", "max ms", "PSS MB")
    print(f"{'':<12} {f'requests of {rows:,} row' + 's' * (rows > 1):^35} {'/livez and /readyz':^26}")
    print(f"{'connections':<12} " + " ".join(f"{name:>8}" for name in columns))
    for connections in CONNECTIONS:
        with checked(running.port) as waits:
            found = wrk(running, connections, rows, running.bench.seconds)
        good = (found["requests"] - found["status"]) / found["seconds"]
        shed = found["status"] / found["seconds"]
        checks = f"{len(waits):>8,} {statistics.median(waits):>8.1f} {max(waits):>8.1f}"
        print(
            f"{connections:<12,} {good:>8,.0f} {shed:>8,.0f} {found['p50']:>8.1f} {found['p99']:>8.1f} {checks} "
            f"{memory(running.process.pid):>8.0f}",
            flush=True,
        )
    print("p50 and p99 of predictions are of all answers, 503 among them\n")


@contextmanager
def checked(port: int) -> Iterator[list[float]]:
    """Ask for the server's health until the context ends; the list holds the milliseconds of each answer."""
    waits: list[float] = []
    ended = threading.Event()
    asker = threading.Thread(target=repeat, args=(ended, lambda: waits.append(check_health(port, len(waits)))))
    asker.start()
    try:
        yield waits
    finally:
        ended.set()
        asker.join()


def repeat(ended: threading.Event, ask: Callable[[], None]) -> None:
    """Ask again and again."""
    ended.wait(CONNECTED)
    while not ended.wait(QUICK):
        ask()


def check_health(port: int, number: int) -> float:
    """Milliseconds until a health check was answered on a new connection."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/readyz" if number % 2 else "/livez")
    status = connection.getresponse().status
    connection.close()
    if status != 200:
        raise SystemExit(f"error: a health check was answered {status}")
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
