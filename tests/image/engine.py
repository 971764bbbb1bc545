"""The Docker command line, and containers that tests start and always take away again."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, run

REGISTRY = "localhost:5000"
SLUG = "image-tests"  # the project's name: every image and container of this layer begins with it
START = 10.0  # seconds from `docker run` to a ready server; it takes one on an idle machine
QUICK_HEALTH = tuple(f"--health-{name}=1s" for name in ("interval", "start-period", "start-interval"))


def docker(*arguments: str, cwd: Path = ROOT, code: int = 0, **environment: str) -> str:
    """Run a Docker command and return what it printed."""
    return run("docker", *arguments, cwd=cwd, code=code, **environment)


def inspect(thing: str, *options: str) -> Any:
    """What Docker knows about a container, an image, a service or a task."""
    return json.loads(docker("inspect", *options, thing))[0]


def listed(*arguments: str) -> list[dict[str, Any]]:
    """The lines of a Docker list."""
    return [json.loads(line) for line in docker(*arguments, "--no-trunc", "--format", "{{json .}}").splitlines()]


@contextmanager
def removed(name: str) -> Iterator[str]:
    """Take a container away at the end, whether it is there or not."""
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


@contextmanager
def container(image: str, *options: str) -> Iterator[str]:
    """The name of a container that runs the image's own command."""
    with removed(f"{SLUG}-{uuid.uuid4().hex[:8]}") as name:
        docker("run", "--detach", "--name", name, *options, image)
        yield name


@contextmanager
def served(image: str, *options: str) -> Iterator[str]:
    """The address of a ready server in a container."""
    with container(image, "--publish", "127.0.0.1::8080", *options) as name:
        yield ready(address(name), name)


def address(name: str) -> str:
    """Where a container's published port is reached."""
    port = docker("port", name, "8080/tcp").strip()
    return f"http://{port}"


def ready(url: str, name: str) -> str:
    """Wait until `/readyz` of a container answers 200."""
    wait_for(lambda: status(f"{url}/readyz")[0] == 200, START, lambda: about(name))
    return url


def wait_until_health(name: str, wanted: str, seconds: float = 2 * START) -> None:
    """Wait until Docker reports a health status."""
    wait_for(lambda: state(name).get("Health", {}).get("Status") == wanted, seconds, lambda: about(name))


def state(name: str) -> Any:
    """A container's state."""
    return inspect(name)["State"]


def about(name: str) -> str:
    """A container's state and log, for people."""
    return f"{state(name)}\n{docker('logs', name)}"


def wait_for(reached: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> None:
    """Wait for a condition; where it is not reached, say how things are instead."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not within {seconds} s: {explain()}"
        time.sleep(0.1)


def status(url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The status code and the body of an answer; 0 when there is none."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"content-type": "application/json"} | dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def slow_request(port: int, seconds: float = 2) -> bytes:
    """The answer to a request whose body arrives some time after its head."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        time.sleep(seconds)
        connection.sendall(b"{}")
        return connection.recv(100_000)


def python(name: str, code: str) -> str:
    """Run Python code inside a running container."""
    return docker("exec", name, "python", "-c", code)


def python_in(image: str, code: str) -> str:
    """Run Python code in a container of its own, instead of the server."""
    return docker("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", code)


def separate_streams(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a Docker command whatever its exit code; standard output and standard error apart."""
    return subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def build_steps(folder: Path, tag: str) -> dict[str, bool]:
    """Build an image; returns each step, and whether it came from the cache."""
    printed = docker("build", "--progress", "plain", "--tag", tag, ".", cwd=folder)
    steps = dict(re.findall(r"^#(\d+) \[([\w-]+ +\d+/\d+\] .*)$", printed, re.MULTILINE))
    cached = set(re.findall(r"^#(\d+) CACHED$", printed, re.MULTILINE))
    return {step: number in cached for number, step in steps.items()}
