"""Good, bad and hostile traffic at a deployed project for some minutes: memory, errors and latencies.

    make soak PROJECT=../my-model [DURATION=600]

The project has been deployed with `make deploy`, and its node port answers on this machine. Nothing else is attacked.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.robust import ATTACKS, Target, answer, head, post

EVERY = 15.0  # seconds between two lines of the report
READ_TIMEOUT = 30.0  # as in config.toml
PATIENT = ("half a head", "no body", "half a body", "nothing", "idle after an answer")  # they only wait for the server


@dataclass
class Seen:
    """What clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)  # what no client may see
    seconds: list[float] = field(default_factory=list)  # of good requests

    def note(self, kind: str, status: int, retry: bool, allowed: tuple[int, ...]) -> None:
        """Count an answer; 503 is allowed where it says when to try again."""
        self.statuses[f"{kind} {status}"] += 1
        if status not in allowed and not (status == 503 and retry):
            self.wrong[f"{kind} {status}"] += 1


def main(project: Path, seconds: float) -> int:
    """Run the traffic and print what it did; returns 1 where something was wrong."""
    port, namespace = deployed(project)
    target = Target(port, example(port), lambda: memory(namespace), READ_TIMEOUT)
    before, seen, over = restarts(namespace), Seen(), threading.Event()
    clients = [threading.Thread(target=good, args=(target, seen, over)) for _ in range(2)]
    clients += [threading.Thread(target=each, args=(target, seen, over)) for each in (bad, hostile)]
    for client in clients:
        client.start()
    peak, deadline = 0.0, time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(EVERY, left))
        peak = max(peak, held := target.memory())
        print(
            f"{seconds - max(left - EVERY, 0):5.0f} s  {held:4.0f} MB  {latencies(seen.seconds[-2_000:])}", flush=True
        )
    over.set()
    for client in clients:
        client.join(60)
    ended = restarts(namespace) - before
    print(f"\nmemory at most {peak:.0f} MB, {ended} restarts\nall good requests: {latencies(seen.seconds)}")
    print("answers:", ", ".join(f"{name}: {count:,}" for name, count in sorted(seen.statuses.items())))
    print("wrong:", dict(seen.wrong) or "nothing")
    return int(bool(seen.wrong) or ended > 0)


def good(target: Target, seen: Seen, over: threading.Event) -> None:
    """Rows and lists of rows on a kept connection, one after the other."""
    many = b"[" + b",".join([target.row] * 50) + b"]"
    while not over.is_set():
        try:
            with target.connect() as connection:
                for body in (target.row, target.row, many) * 50:
                    began = time.monotonic()
                    connection.sendall(post(body))
                    found = answer(connection, 15)
                    seen.seconds.append(time.monotonic() - began)
                    seen.note("good", found.status, "retry-after" in found.headers, (200,))
                    if found.status != 200 or over.wait(0.01):
                        break
        except OSError as error:
            seen.wrong[f"good {type(error).__name__}"] += 1
            over.wait(0.5)


def bad(target: Target, seen: Seen, over: threading.Event) -> None:
    """Mistakes that clients make."""
    chance = random.Random(0)
    kinds: list[tuple[bytes, tuple[int, ...]]] = [
        (post(b"{}"), (422,)),
        (post(b"[" * 500), (422,)),
        (post(b"not json"), (422,)),
        (post(b"[" + target.row * 2 + b"]"), (422,)),
        (post(b" " * 2_000_000), (413,)),
        (head("GET", "/nothing"), (404,)),
        (head("PUT", "/predict"), (405,)),
        (post(target.row, "/predict/"), (404,)),
    ]
    while not over.wait(0.05):
        request, allowed = chance.choice(kinds)
        try:
            found = target.exchange(request, 15)
            seen.note("bad", found.status, "retry-after" in found.headers, allowed)
        except OSError as error:
            seen.wrong[f"bad {type(error).__name__}"] += 1


def hostile(target: Target, seen: Seen, over: threading.Event) -> None:
    """The attacks of the tests, one after the other; what they check themselves counts too."""
    chance = random.Random(0)
    attacks = [name for name in ATTACKS if name not in PATIENT]
    while not over.is_set():
        name = chance.choice(attacks)
        try:
            ATTACKS[name](target)
            seen.statuses[f"hostile {name}"] += 1
        except AssertionError:
            seen.wrong[f"hostile {name}"] += 1
        except OSError:
            seen.statuses[f"hostile {name}, cut off"] += 1


def latencies(seconds: list[float]) -> str:
    """Median, 99th percentile and longest."""
    if len(seconds) < 2:
        return "no requests"
    cuts = statistics.quantiles(seconds, n=100)
    shown = {"median": cuts[49], "p99": cuts[98], "longest": max(seconds)}
    return ", ".join(
        [f"{len(seconds):,} requests", *(f"{name} {value * 1e3:,.1f} ms" for name, value in shown.items())]
    )


def deployed(project: Path) -> tuple[int, str]:
    """The node port and the namespace of a project."""
    service = yaml.safe_load((project / "k8s/service.yaml").read_text(encoding="utf-8"))
    return service["spec"]["ports"][0]["nodePort"], service["metadata"]["namespace"]


def example(port: int) -> bytes:
    """A row that the server accepts."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/model", timeout=10) as model:
        return json.dumps(json.load(model)["example"]).encode()


def kubectl(namespace: str, *command: str) -> str:
    """What kubectl prints; nothing where it fails."""
    done = subprocess.run(["kubectl", "--namespace", namespace, *command], capture_output=True, text=True, check=False)
    return done.stdout


def memory(namespace: str) -> float:
    """MB that the largest pod holds, as the kubelet counts them; 0 before it has."""
    sizes = [line.split()[2] for line in kubectl(namespace, "top", "pods", "--no-headers").splitlines()]
    return max((float(size.removesuffix("Mi")) * 1.048576 for size in sizes), default=0.0)


def restarts(namespace: str) -> int:
    """How often containers were started again."""
    path = "{.items[*].status.containerStatuses[*].restartCount}"
    return sum(map(int, kubectl(namespace, "get", "pods", "--output", f"jsonpath={path}").split()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
