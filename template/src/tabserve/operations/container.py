"""The server in a container, as its pod would have it, with a load beside it; both are always taken away again.

The two share a network that nobody else is in, so no port is published, and neither a proxy nor a virtual machine's
network is measured. The use of CPU and memory is what the engine reads from the control group.
"""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabserve.errors import UserError
from tabserve.operations.manifests import at, items
from tabserve.operations.pod_rules import Container
from tabserve.operations.sizing import memory_text

LOAD = Path(__file__).with_name("load.py")
READY_SECONDS = 120  # as progressDeadlineSeconds
COMMAND_SECONDS = 60
POLL, SAMPLE = 0.05, 0.1  # seconds
LOGS = ("--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=1")
SHOWN = 200  # characters of a log line


@dataclass(frozen=True)
class Use:
    """What a container has used since its start."""

    cpu: float  # seconds
    periods: int
    throttled: int  # periods
    memory: float  # bytes that it holds now


def run_options(pod: Container, container: Container, settings: Mapping[str, str]) -> list[str]:
    """The options of `docker run` for a container as in its pod."""
    context = {**(pod.get("securityContext") or {}), **(container.get("securityContext") or {})}
    options = ["--network", "none", "--no-healthcheck", *LOGS]
    if "runAsUser" in context:
        options += ["--user", f"{context['runAsUser']}:{context.get('runAsGroup', context['runAsUser'])}"]
    if context.get("readOnlyRootFilesystem"):
        options += ["--read-only"]
    if context.get("allowPrivilegeEscalation") is False:
        options += ["--security-opt", "no-new-privileges"]
    empty = [volume["name"] for volume in items(pod, "volumes") if "emptyDir" in volume]
    mounts = [mount["mountPath"] for mount in items(container, "volumeMounts") if mount["name"] in empty]
    for capability in at(context, "capabilities", "drop") or ():
        options += ["--cap-drop", capability]
    for mount in mounts:
        options += ["--tmpfs", mount]
    for key, value in settings.items():
        options += ["--env", f"{key}={value}"]
    return options


def limit_options(cpu: float | None, memory: float) -> list[str]:
    """The options of `docker run` for limits; there is no swap, as in a cluster."""
    size = str(round(memory))
    return [*(("--cpus", f"{cpu:g}") if cpu else ()), "--memory", size, "--memory-swap", size]


@contextmanager
def running(image: str, options: list[str], limits: tuple[float | None, float], port: int) -> Iterator["Server"]:
    """A server that is ready.

    Raises:
        UserError: there is no such image, the engine refuses the container, or the server does not become ready.
    """
    name = f"size-{uuid.uuid4().hex[:12]}"
    engine = local_engine()
    if docker("image", "inspect", image).returncode:
        raise UserError(f"there is no image {image} on this machine: `make image`, or say which with IMAGE=")
    try:
        command = ("run", "--detach", "--pull", "never", "--name", name, *options, *limit_options(*limits), image)
        with uninterrupted():
            started, done = time.monotonic(), docker(*command)
        if done.returncode:
            raise UserError(f"docker does not start the server: {first_line(done.stderr)}")
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
    """A server in a container, and the load beside it."""

    name: str
    engine: str  # the socket of Docker
    limits: tuple[float | None, float]
    port: int
    load: subprocess.Popen[str]
    ready: float = 0.0  # seconds from its start until it was ready
    most: float = 0.0  # the most bytes that were seen in use
    _ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, path: str, **command: Any) -> dict[str, Any]:
        """What the load answers to a command.

        Raises:
            UserError: the server or the load has ended.
        """
        assert self.load.stdin and self.load.stdout and self.load.stderr
        try:
            self.load.stdin.write(json.dumps({"path": path, "port": self.port} | command) + "\n")
            self.load.stdin.flush()
            line = self.load.stdout.readline()
        except OSError:
            line = ""
        self.check()
        if not line:
            error = self.load.stderr.read().strip().rpartition("\n")[2]
            raise UserError(f"the load ended beside the server: {error}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def check(self) -> None:
        """The server still runs.

        Raises:
            UserError: it does not; with the last line of its logs.
        """
        done = docker("container", "inspect", self.name)
        state = json.loads(done.stdout)[0]["State"] if not done.returncode else {}
        if state.get("Running"):
            return
        code, log = state.get("ExitCode", "unknown"), last_log(self.name)
        if state.get("OOMKilled") or code == 137:
            raise UserError(
                f"the server was killed: {memory_text(self.limits[1])} of memory are not enough; give it more with "
                f"ARGS='--memory ...'{log}"
            )
        raise UserError(f"the server ended with code {code}{log}")

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
            with suppress(UserError):
                self.most = max(self.most, self.use().memory)


def wait_until_ready(server: Server, started: float) -> None:
    """Until `/readyz` answers 200.

    Raises:
        UserError: the server ended, or it takes too long; with the reason that it gives.
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
    why = f": {field_of(reason, 'detail')}" if reason else last_log(server.name)
    raise UserError(f"the server was not ready after {server.ready:.0f} s{why}")


def field_of(text: str, key: str) -> str:
    """A field of an object in JSON; else the text itself."""
    try:
        return str(json.loads(text)[key])[:SHOWN]
    except (ValueError, KeyError, TypeError):
        return text[:SHOWN]


# --- the engine


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Docker command; Ctrl-C does not reach it.

    Raises:
        UserError: Docker is not there, or does not answer.
    """
    try:
        return subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS, start_new_session=True
        )
    except FileNotFoundError:
        raise UserError("docker is not installed, or not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"`docker {arguments[0]}` did not answer in {COMMAND_SECONDS} s") from None


def local_engine() -> str:
    """The socket of the engine that `docker` talks to.

    Raises:
        UserError: it does not run, or on another machine.
    """
    address = docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").stdout.strip()
    if not address.startswith("unix://"):
        raise UserError(f"docker talks to {address or 'no engine'}: measuring needs an engine with a socket here")
    if (done := docker("version")).returncode:
        raise UserError(f"docker does not run: {first_line(done.stderr)}")
    return address.removeprefix("unix://")


def stats(engine: str, name: str) -> dict[str, Any]:
    """What the engine tells of a container, at once.

    Raises:
        UserError: it does not.
    """
    connection = http.client.HTTPConnection("engine")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection.sock:
            connection.sock.settimeout(COMMAND_SECONDS)
            connection.sock.connect(engine)
            connection.request("GET", f"/containers/{name}/stats?stream=false&one-shot=true")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"docker does not tell what the container uses: {error}") from None
    return answer


def use_of(document: Mapping[str, Any]) -> Use:
    """What the engine tells, in both versions of control groups.

    Memory is what Kubernetes counts: without pages of files that were not used lately.
    """
    throttling, memory = at(document, "cpu_stats", "throttling_data") or {}, document.get("memory_stats") or {}
    kept = memory.get("stats") or {}
    reclaimable = kept.get("total_inactive_file", kept.get("inactive_file", 0))
    return Use(
        (at(document, "cpu_stats", "cpu_usage", "total_usage") or 0) / 1e9,
        throttling.get("periods", 0),
        throttling.get("throttled_periods", 0),
        max(memory.get("usage", 0) - reclaimable, 0),
    )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits, so that no container is started which nobody would remove; Windows has no masks of signals."""
    if sys.platform == "win32":
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def last_log(name: str) -> str:
    """The last line of a container's logs, to put behind a sentence."""
    done = docker("logs", "--tail", "5", name)
    lines = f"{done.stdout}\n{done.stderr}".split("\n") if not done.returncode else []
    found = next((line for line in reversed(lines) if line.strip()), "")
    return f"; its last log line: {field_of(found.strip(), 'message')}" if found else ""


def first_line(text: str) -> str:
    """The first line that says something, without Docker's own beginning."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "it said nothing")
    return line.removeprefix("docker: ").removeprefix("Error response from daemon: ")
