"""The server in a container with its pod's settings and limits, and a load beside it; both are always removed again.

The two share a network that nobody else is in, so no port is published, and neither a proxy nor a virtual machine's
network is measured. The use of CPU and memory comes from the cgroup, through the API of the Docker Engine.
"""

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tabserve.errors import UserError
from tabserve.operations.manifests import at
from tabserve.operations.programs import path_of, run
from tabserve.operations.sizing import memory_text

LOAD = Path(__file__).with_name("load.py")
READY_SECONDS = 120  # as progressDeadlineSeconds
POLL, SAMPLE = 0.05, 0.5  # seconds
SHOWN = 200  # characters of a log line
LONE = ("--pull", "never", "--no-healthcheck")


class Use(NamedTuple):
    """What a container has used since its start."""

    cpu: float  # seconds
    periods: int
    throttled: int  # periods
    memory: float  # bytes that it holds now


@dataclass
class Server:
    """A server in a container, and the load beside it."""

    name: str
    memory: float  # its limit in bytes
    port: int
    load: subprocess.Popen[str]
    ready: float = 0.0  # seconds from its start until it was ready
    most: float = 0.0  # the most bytes that were seen in use

    def ask(self, path: str, **command: Any) -> dict[str, Any]:
        """What the load answers; `UserError` where it or the server has ended."""
        assert self.load.stdin and self.load.stdout and self.load.stderr
        line = ""
        with suppress(OSError):
            print(json.dumps({"path": path, "port": self.port} | command), file=self.load.stdin, flush=True)
            line = self.load.stdout.readline()
        self.check()
        if not line:
            raise UserError(f"the load generator ended: {first_line(self.load.stderr.read())}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def check(self) -> None:
        """The server still runs, or `UserError` with the last line of its logs."""
        done = run("docker", "container", "inspect", self.name)
        state = json.loads(done.stdout)[0]["State"] if not done.returncode else {}
        if state.get("Running"):
            return
        code, log = state.get("ExitCode", "unknown"), last_log(self.name)
        if state.get("OOMKilled") or code == 137:
            enough = f"{memory_text(self.memory)} of memory are not enough; give it more with ARGS='--memory ...'"
            raise UserError(f"the server was killed: {enough}{log}")
        raise UserError(f"the server ended with code {code}{log}")

    def use(self) -> Use:
        """What it has used up to now; `UserError` where the engine does not tell."""
        answer = engine(f"/containers/{self.name}/stats?stream=false&one-shot=true")
        try:
            return use_of(json.loads(answer))
        except (ValueError, KeyError, OSError):
            raise UserError(f"docker does not tell what the container uses: {answer[:SHOWN]}") from None


@contextmanager
def running(image: str, settings: Mapping[str, str], limits: tuple[float | None, float], port: int) -> Iterator[Server]:
    """A server that is ready, with these settings as its environment; `limits` are cores or None, and bytes of memory.

    Raises `UserError` if there is no such image, the engine rejects the container, or the server does not become ready.
    """
    if (done := run("docker", "version")).returncode:
        raise UserError(f"docker does not run: {first_line(done.stderr)}")
    if run("docker", "image", "inspect", image).returncode:
        raise UserError(f"there is no image {image} on this machine: `make image`, or say which with IMAGE=")
    name = f"size-{uuid.uuid4().hex[:12]}"
    environment = [option for key, value in settings.items() for option in ("--env", f"{key}={value}")]
    options = ("--detach", *LONE, "--name", name, "--network", "none", *environment, *limit_options(*limits))
    try:
        started, done = time.monotonic(), run("docker", "run", *options, image)
        if done.returncode:
            raise UserError(f"docker does not start the server: {first_line(done.stderr)}")
        with beside(name, image) as load:
            server = Server(name, limits[1], port, load)
            wait_until_ready(server, started)
            with watched(server):
                yield server
    finally:
        run("docker", "rm", "--force", "--volumes", name, f"{name}-load")


def limit_options(cpu: float | None, memory: float) -> list[str]:
    """The options of `docker run` for limits; no swap, as in a cluster."""
    size = str(round(memory))
    return [*(("--cpus", f"{cpu:g}") if cpu else ()), "--memory", size, "--memory-swap", size]


@contextmanager
def beside(name: str, image: str) -> Iterator[subprocess.Popen[str]]:
    """`load.py` in a container, with the server's network and Python."""
    command = ["docker", "run", "--rm", "--interactive", *LONE, "--name", f"{name}-load", "--log-driver", "none"]
    command += ["--network", f"container:{name}", "--entrypoint", "python", image, "-c", LOAD.read_text("utf-8")]
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, text=True, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def watched(server: Server) -> Iterator[None]:
    """Look at the server's memory all the time."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE):
            with suppress(UserError):
                server.most = max(server.most, server.use().memory)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_until_ready(server: Server, started: float) -> None:
    """Until `/readyz` answers 200; `UserError` with the server's reason."""
    reason = ""
    while time.monotonic() < started + READY_SECONDS:
        answer = server.ask("/readyz")
        server.ready = time.monotonic() - started
        if answer["status"] == 200:
            return
        reason = answer["body"] or reason
        if answer["status"] and "loading" not in reason:
            break
        time.sleep(POLL)
    why = f": {field_of(reason, 'detail')}" if reason else last_log(server.name)
    raise UserError(f"the server was not ready after {server.ready:.0f} s{why}")


def engine(path: str) -> str:
    """What the engine's API answers; HTTP/1.0 closes after the answer."""
    command = [path_of("docker"), "system", "dial-stdio"]
    pipe, off = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=off) as process:
        assert process.stdin and process.stdout
        print(f"GET {path} HTTP/1.0\n", file=process.stdin, flush=True)
        return process.stdout.read().partition("\n\n")[2]


def use_of(document: Mapping[str, Any]) -> Use:
    """What the engine tells of a container, in both versions of control groups.

    Memory is what Kubernetes counts: without pages of files that were not used lately.
    """
    throttling = document["cpu_stats"].get("throttling_data") or {}
    memory = document.get("memory_stats") or {}
    kept = memory.get("stats") or {}
    reclaimable = kept.get("total_inactive_file", kept.get("inactive_file", 0))
    seconds = (at(document, "cpu_stats", "cpu_usage", "total_usage") or 0) / 1e9
    held = max(memory.get("usage", 0) - reclaimable, 0)
    return Use(seconds, throttling.get("periods", 0), throttling.get("throttled_periods", 0), held)


def last_log(name: str) -> str:
    """The last line of a container's logs, to put behind a sentence."""
    done = run("docker", "logs", "--tail", "5", name)
    lines = [] if done.returncode else [line for line in f"{done.stdout}\n{done.stderr}".split("\n") if line.strip()]
    return f"; its last log line: {field_of(lines[-1].strip(), 'message')}" if lines else ""


def field_of(text: str, key: str) -> str:
    """A field of an object in JSON; else the text itself."""
    try:
        return str(json.loads(text)[key])[:SHOWN]
    except (ValueError, KeyError, TypeError):
        return text[:SHOWN]


def first_line(text: str) -> str:
    """The first line that says something, without Docker's own beginning."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "it printed nothing")
    return line.removeprefix("docker: ").removeprefix("Error response from daemon: ")
