"""compose.yaml: for development on this machine, and as a swarm stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.image.engine import (
    REGISTRY,
    SLUG,
    docker,
    inspect,
    listed,
    ready,
    separate_streams,
    status,
    wait_for,
    wait_until_health,
)

STACK = SLUG
SECONDS = 90.0


@pytest.fixture
def second(pushed: str, edited: Path) -> str:
    """A second version of the image, in the registry."""
    name = f"{REGISTRY}/{SLUG}:second-{pushed.rpartition(':')[2]}"
    docker("build", "--tag", name, ".", cwd=edited)
    docker("push", "--quiet", name)
    return name


def test_compose_serves_on_this_machine_only(composed: Path, port: int) -> None:
    def compose(*arguments: str) -> str:
        return docker("compose", *arguments, cwd=composed, COMPOSE_PROJECT_NAME=SLUG, SERVE_API_KEY="a-key-for-tests")

    try:
        compose("up", "--build", "-d")
        (name,) = compose("ps", "--quiet").split()
        ready(f"http://127.0.0.1:{port}", name)
        wait_until_health(name, "healthy")
        assert status(f"http://127.0.0.1:{port}/model")[0] == 401
        about = inspect(name)
        assert about["HostConfig"]["PortBindings"] == {f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        assert about["HostConfig"]["ReadonlyRootfs"]
        assert about["HostConfig"]["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in about["HostConfig"]["SecurityOpt"]
        assert [(mount["Destination"], mount["RW"]) for mount in about["Mounts"]] == [("/app/model", False)]
    finally:
        compose("down")
    assert docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={SLUG}") == ""
    assert status(f"http://127.0.0.1:{port}/livez")[0] == 0


def test_swarm_runs_replicas_and_rolls_to_a_second_image(
    composed: Path, pushed: str, second: str, port: int, swarm: None
) -> None:
    with stack(composed, pushed):
        first = wait_for_tasks(pushed)
        assert inspect(f"{STACK}_server")["Spec"]["Mode"] == {"Replicated": {"Replicas": 2}}
        docker("stack", "deploy", "--compose-file", "compose.yaml", STACK, cwd=composed, IMAGE=second)
        wait_for(lambda: update_state() == "completed", SECONDS, described)
        rolled = wait_for_tasks(second)
        assert not first & rolled
        wait_for(lambda: ends() == {"Running": "Running", "Shutdown": "Shutdown"}, SECONDS, described)
        assert [task["Error"] for task in tasks()] == [""] * 4
    assert docker("service", "ls", "--quiet", "--filter", f"name={STACK}_server") == ""


def ends() -> dict[str, str]:
    """The state that each desired state has led to."""
    return {task["DesiredState"]: task["CurrentState"].split()[0] for task in tasks()}


@contextmanager
def stack(folder: Path, image: str) -> Iterator[None]:
    """A deployed stack; at the end its containers are gone too."""
    try:
        docker("stack", "deploy", "--compose-file", "compose.yaml", STACK, cwd=folder, IMAGE=image)
        yield
    finally:
        docker("stack", "rm", STACK)
        label = f"label=com.docker.stack.namespace={STACK}"
        wait_for(lambda: not docker("ps", "--all", "--quiet", "--filter", label), SECONDS, described)
        wait_for(lambda: not docker("network", "ls", "--quiet", "--filter", label), SECONDS, described)


def tasks() -> list[dict[str, Any]]:
    """The stack's tasks, also those that have ended."""
    return listed("stack", "ps", STACK)


def wait_for_tasks(image: str) -> set[str]:
    """Wait until there are two tasks of the image, running and healthy; returns their ids."""

    def running() -> list[dict[str, Any]]:
        wanted = [task for task in tasks() if task["DesiredState"] == "Running"]
        return [task for task in wanted if task["CurrentState"].startswith("Running")]

    wait_for(lambda: len(running()) == 2, SECONDS, described)
    for task in running():
        about = inspect(task["ID"], "--type", "task")
        assert about["Spec"]["ContainerSpec"]["Image"].partition("@")[0] == image
        made = inspect(about["Status"]["ContainerStatus"]["ContainerID"])
        assert made["State"]["Health"]["Status"] == "healthy"
        assert made["HostConfig"]["ReadonlyRootfs"]
    return {task["ID"] for task in running()}


def update_state() -> str:
    return str((inspect(f"{STACK}_server").get("UpdateStatus") or {}).get("State"))


def described() -> str:
    """The stack's services, tasks, containers and networks, for people."""
    lists = (("service", "ls"), ("stack", "ps", "--no-trunc", STACK), ("ps", "--all"), ("network", "ls"))
    return "\n".join(separate_streams(*command).stdout for command in lists)
