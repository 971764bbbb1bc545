"""The server in a container, as its pod would have it, with a load beside it; both are always taken away again.

The two share a network that nobody else is in, so no port is published, and neither a proxy nor a virtual machine's
network is measured. The use of CPU and memory is what the engine reads from the control group.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tabserve.operations.manifests import at
from tabserve.operations.sizing import SizeError, cpu_text, memory_text

LOAD = Path(__file__).with_name("load.py")
READY_SECONDS = 120  # as progressDeadlineSeconds
COMMAND_SECONDS = 60
POLL, SAMPLE = 0.05, 0.1  # seconds
LOGS = ("--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=1")
SHOWN = 200  # characters of a log line


@dataclass(frozen=True)
class Use:
    """What a container has used since its start: seconds of CPU, periods, throttled ones; and bytes that it holds."""

    cpu: float
    periods: int
    throttled: int
    memory: float
    cores: int


def run_options(pod: Mapping[str, Any], container: Mapping[str, Any], settings: Mapping[str, str]) -> list[str]:
    """The options of `docker run` for a container of a pod: its user, rights, writable folders and settings."""
    context = {**(pod.get("securityContext") or {}), **(container.get("securityContext") or {})}
    options = ["--network", "none", "--no-healthcheck", *LOGS]
    if "runAsUser" in context:
        options += ["--user", f"{context['runAsUser']}:{context.get('runAsGroup', context['runAsUser'])}"]
    if context.get("readOnlyRootFilesystem"):
        options += ["--read-only"]
    if context.get("allowPrivilegeEscalation") is False:
        options += ["--security-opt", "no-new-privileges"]
    for capability in at(context, "capabilities", "drop") or ():
        options += ["--cap-drop", str(capability)]
    empty = {volume["name"] for volume in pod.get("volumes") or () if "emptyDir" in volume}
    for mount in container.get("volumeMounts") or ():
        if mount["name"] in empty:
            options += ["--tmpfs", str(mount["mountPath"])]
    for key, value in settings.items():
        options += ["--env", f"{key}={value}"]
    return options


def limit_options(cpu: float | None, memory: float) -> list[str]:
    """The options of `docker run` for limits; there is no swap, as in a cluster."""
    size = str(round(memory))
    return [*(("--cpus", f"{cpu:g}") if cpu else ()), "--memory", size, "--memory-swap", size]


@contextmanager
def running(image: str, options: list[str], limits: tuple[float | None, float], port: int) -> Iterator[Server]:
    """A server that is ready.

    Raises:
        SizeError: there is no such image, the engine refuses the container, or the server does not become ready.
    """
    name = f"size-{uuid.uuid4().hex[:12]}"
    engine = local_engine()
    if docker("image", "inspect", image).returncode:
        raise SizeError(f"there is no image {image} on this machine: `make image`, or say which with IMAGE=")
    try:
        command = ("run", "--detach", "--pull", "never", "--name", name, *options, *limit_options(*limits), image)
        with uninterrupted():
            started, done = time.monotonic(), docker(*command)
        if done.returncode:
            raise SizeError(f"docker does not start the server: {first_line(done.stderr)}")
        with beside(name, image) as load:
            server = Server(name, engine, limits, port, load)
            wait_until_ready(server, started)
            with server.watched():
                yield server
    finally:
        with uninterrupted():
            docker("rm", "--force", "--volumes", name, f"{name}-load")


@contextmanager
def beside(name: str, image: str) -> Iterator[subprocess.Popen[str]]:
    """`load.py` in a container with the network of the server, and with the Python of its image."""
    command = ["docker", "run", "--rm", "--interactive", "--pull", "never", "--name", f"{name}-load"]
    command += ["--network", f"container:{name}", "--no-healthcheck", "--read-only", "--cap-drop", "ALL"]
    command += ["--log-driver", "none", "--entrypoint", "python", image, "-c", LOAD.read_text(encoding="utf-8")]
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with uninterrupted():
        process = subprocess.Popen(command, text=True, start_new_session=True, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@dataclass
class Server:
    """A server in a container, and the load beside it.

    Attributes:
        ready: seconds from its start until it was ready.
        most: the most bytes that were seen in use.
    """

    name: str
    engine: str
    limits: tuple[float | None, float]
    port: int
    load: subprocess.Popen[str]
    ready: float = 0.0
    most: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, path: str, **command: Any) -> dict[str, Any]:
        """What the load answers to a command.

        Raises:
            SizeError: the server or the load has ended.
        """
        assert self.load.stdin and self.load.stdout
        try:
            self.load.stdin.write(json.dumps({"path": path, "port": self.port} | command) + "\n")
            self.load.stdin.flush()
            line = self.load.stdout.readline()
        except OSError:
            line = ""
        self.check()
        if not line:
            raise SizeError(f"the load ended beside the server: {rest(self.load.stderr)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def check(self) -> None:
        """The server still runs.

        Raises:
            SizeError: it does not; with the last thing that it said.
        """
        done = docker("container", "inspect", self.name)
        state = json.loads(done.stdout)[0]["State"] if not done.returncode else {}
        if state.get("Running"):
            return
        said = last_line(self.name)
        if state.get("OOMKilled") or state.get("ExitCode") == 137:
            raise SizeError(
                f"the server was killed: {memory_text(self.limits[1])} are too little memory; give it more with "
                f"ARGS='--memory ...'{said}"
            )
        raise SizeError(f"the server ended with code {state.get('ExitCode', 'unknown')}{said}")

    def use(self) -> Use:
        """What it has used up to now."""
        return use_of(stats(self.engine, self.name))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at its memory all the time."""
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._ended.set()
            watch.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE):
            try:
                self.most = max(self.most, self.use().memory)
            except SizeError:
                continue


def wait_until_ready(server: Server, started: float) -> None:
    """Until `/readyz` answers 200.

    Raises:
        SizeError: the server ended, or it takes too long; with the reason that it gives.
    """
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
    said = f": {detail(reason)}" if reason else last_line(server.name)
    raise SizeError(f"the server was not ready after {server.ready:.0f} s{said}")


def detail(body: str) -> str:
    """The reason in an answer."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body[:SHOWN]


# --- the engine


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Docker command; Ctrl-C does not reach it.

    Raises:
        SizeError: Docker is not there, or does not answer.
    """
    try:
        return subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS, start_new_session=True
        )
    except FileNotFoundError:
        raise SizeError("docker is not installed, or not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise SizeError(f"`docker {arguments[0]}` did not answer in {COMMAND_SECONDS} s") from None


def local_engine() -> str:
    """The socket of the engine that `docker` talks to.

    Raises:
        SizeError: it does not run, or on another machine.
    """
    context = docker("context", "inspect")
    found = json.loads(context.stdout or "[]")
    address = str(at(found[0], "Endpoints", "docker", "Host") or "") if found else ""
    if address.partition("://")[0] != "unix":
        raise SizeError(f"docker talks to {address or 'no engine'}: measuring needs an engine with a socket here")
    if (done := docker("version")).returncode:
        raise SizeError(f"docker does not run: {first_line(done.stderr)}")
    return address.partition("://")[2]


class Engine(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=COMMAND_SECONDS)
        self.path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def stats(engine: str, name: str) -> dict[str, Any]:
    """What the engine tells of a container, at once.

    Raises:
        SizeError: it does not.
    """
    connection = Engine(engine)
    try:
        connection.request("GET", f"/containers/{name}/stats?stream=false&one-shot=true")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SizeError(f"docker tells nothing of the container's use: {error}") from None
    finally:
        connection.close()
    return answer


def use_of(told: Mapping[str, Any]) -> Use:
    """What the engine tells, in both versions of control groups.

    Memory is what Kubernetes counts: without pages of files that were not used lately.
    """
    throttling, memory = at(told, "cpu_stats", "throttling_data") or {}, told.get("memory_stats") or {}
    kept = memory.get("stats") or {}
    reclaimable = kept.get("total_inactive_file", kept.get("inactive_file", 0))
    return Use(
        (at(told, "cpu_stats", "cpu_usage", "total_usage") or 0) / 1e9,
        throttling.get("periods", 0),
        throttling.get("throttled_periods", 0),
        max(memory.get("usage", 0) - reclaimable, 0),
        at(told, "cpu_stats", "online_cpus") or 0,
    )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits, so that nothing is made which nobody would take away."""
    held = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def last_line(name: str) -> str:
    """The last thing that a container said, to put behind a sentence."""
    done = docker("logs", "--tail", "5", name)
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    if done.returncode or not lines:
        return ""
    try:
        said = str(json.loads(lines[-1])["message"])
    except (ValueError, KeyError, TypeError):
        said = lines[-1]
    return f"; it said last: {said[:SHOWN]}"


def first_line(text: str) -> str:
    """The first line that says something, without Docker's own beginning."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "it said nothing")
    return line.removeprefix("docker: ").removeprefix("Error response from daemon: ")


def rest(stream: IO[str] | None) -> str:
    """The last line of what is left in a stream."""
    lines = stream.read().split("\n") if stream else []
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def limits_text(cpu: float | None, memory: float) -> str:
    """Limits for people."""
    return f"{f'{cpu_text(cpu)} CPU' if cpu else 'no CPU limit'}, {memory_text(memory)}"
