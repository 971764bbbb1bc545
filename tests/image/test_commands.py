"""The five commands of the course, the tasks that are the same, and the push to a registry."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import run
from tests.image.conftest import duplicate
from tests.image.engine import REGISTRY, SLUG, docker, inspect, ready, removed, slow_request, state, status, wait_for
from tests.project.conftest import make, task
from tests.project.servers import free_port, get

MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


class InFlight:
    """A request that is under way while the server is told to stop."""

    def __init__(self, port: int) -> None:
        self.answer = b""
        self.thread = threading.Thread(target=self.ask, args=(port,), daemon=True)

    def ask(self, port: int) -> None:
        self.answer = slow_request(port, 3)

    def __enter__(self) -> InFlight:
        self.thread.start()
        self.thread.join(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(30)


def test_the_five_commands_of_the_course(image: str, project: Path) -> None:
    name, port = f"{SLUG}-course", free_port()

    def shell(command: str) -> str:
        return run(*shlex.split(command), cwd=project)

    with removed(name):
        shell(f"docker build -t {name} .")
        shell(f"docker run -dp 127.0.0.1:{port}:8080 --name {name} {name}")
        assert f"127.0.0.1:{port}->8080/tcp" in shell("docker ps")
        ready(f"http://127.0.0.1:{port}", name)
        with InFlight(port) as request:
            shell(f"docker stop {name}")
        assert request.answer.startswith(b"HTTP/1.1 422 ")
        check_stopped(name)
        shell(f"docker rm {name}")
        assert name not in shell("docker ps --all")


def test_the_tasks_that_are_the_same(image: str, project: Path) -> None:
    """Neither make nor a shell is on the PATH."""
    port = free_port()
    with removed(SLUG):
        task(project, "image", "--image", image)
        arguments = ("run", "--image", image, "--port", str(port))
        printed = task(
            project, *arguments, SERVE_API_KEY="a-key-for-tests", SERVE_REQUIRE_API_KEY="true", SERVE_PORT="9"
        )
        assert f"ok  http://127.0.0.1:{port}/docs" in printed
        assert status(f"http://127.0.0.1:{port}/model")[0] == 401
        assert status(f"http://127.0.0.1:{port}/model", None, {"X-API-Key": "a-key-for-tests"})[0] == 200
        assert get(f"http://127.0.0.1:{port}/readyz") == {"status": "ready"}
        assert inspect(SLUG)["Config"]["Image"] == image
        assert f"127.0.0.1:{port}->8080/tcp" in task(project, "ps")
        with InFlight(port) as request:
            task(project, "stop")
        assert request.answer.startswith(b"HTTP/1.1 401 ")
        check_stopped(SLUG)
        assert "Exited (0)" in task(project, "ps")
        task(project, "rm")
        assert SLUG not in task(project, "ps").split()


def test_run_says_that_a_container_ended(project: Path) -> None:
    with removed(SLUG):
        printed = task(project, "run", "--image", "python:3.13-slim", "--port", str(free_port()), code=1)
    assert printed.splitlines()[-1].startswith(f"error: the container {SLUG} is not ready")


def catches_sigterm(name: str) -> bool:
    """Whether the interpreter of a container has come as far as to its first handler; before, nothing stops it."""
    lines = Path(f"/proc/{inspect(name)['State']['Pid']}/status").read_text(encoding="utf-8").splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def check_stopped(name: str) -> None:
    ended = state(name)
    assert (ended["Status"], ended["ExitCode"], ended["OOMKilled"]) == ("exited", 0, False)


@pytest.mark.parametrize("delay", [0, 0.2, 0.4, 0.6, 0.8])
def test_stopping_soon_after_the_start_exits_0(image: str, project: Path, delay: float) -> None:
    with removed(SLUG):
        docker("run", "--detach", "--name", SLUG, image)
        wait_for(lambda: catches_sigterm(SLUG), 10, lambda: docker("logs", SLUG))
        time.sleep(delay)
        docker("stop", "--time", "5", SLUG)
        check_stopped(SLUG)


def test_push_tags_by_commit_and_by_version(pushed: str, commit: str) -> None:
    tags = get(f"http://{REGISTRY}/v2/{SLUG}/tags/list")["tags"]
    assert {commit, "0.1.0"} <= set(tags)
    assert manifest(SLUG, digest(pushed)) == manifest(SLUG, commit) == manifest(SLUG, "0.1.0")


def test_image_names_registry_repository_and_tag(image: str, project: Path, registry: str, commit: str) -> None:
    other = f"{SLUG}-other"
    reference = f"{registry}/{other}:tag-{commit}"
    make(project, "image", "push", f"IMAGE={reference}")
    assert f"tag-{commit}" in get(f"http://{registry}/v2/{other}/tags/list")["tags"]
    assert commit not in get(f"http://{registry}/v2/{other}/tags/list")["tags"]
    assert manifest(other, f"tag-{commit}") == manifest(other, "0.1.0")
    assert inspect(reference)["Config"]["Labels"]["org.opencontainers.image.revision"] == commit


def test_uncommitted_work_is_not_labelled_as_a_commit(project: Path, tmp_path: Path) -> None:
    folder = duplicate(project, tmp_path)
    (folder / ".venv").symlink_to(project / ".venv")
    assert f"{REGISTRY}/{SLUG}:uncommitted-" in no_such_image(folder)
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-q", "-m", "First", cwd=folder)
    (folder / "config.toml").write_text("")
    assert "-dirty-" in no_such_image(folder)


def no_such_image(project: Path) -> str:
    """What `run` says of the image of the code and the model as they are, which nobody has built."""
    printed = task(project, "run", code=1)
    assert "there is no image" in printed
    return printed


def manifest(name: str, tag: str) -> str:
    """What a tag in the registry stands for."""
    code, text = status(f"http://{REGISTRY}/v2/{name}/manifests/{tag}", headers={"accept": MANIFESTS})
    assert code == 200, text
    return text


def digest(image: str) -> str:
    """What the engine remembers of its push."""
    (found,) = [one for one in inspect(image)["RepoDigests"] if one.startswith(f"{image.rpartition(':')[0]}@")]
    return str(found).partition("@")[2]
