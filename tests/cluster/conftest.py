"""A project with its image in a registry and its pods in the cluster that KUBECONFIG names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import copy, missing, run
from tests.project.conftest import make, task
from tests.project.servers import wait_until_ready

# Whatever the cluster can pull from; on this machine, and in kind as `make cluster` sets it up, localhost:5000.
REGISTRY = os.environ.get("REGISTRY", "localhost:5000")
NAMESPACE = "copier-mlops-test"
NODE_PORT = 30987
ANSWERS = {
    "project_name": "Cluster Test",
    "registry": f"{REGISTRY}/copier-mlops-test",
    "namespace": NAMESPACE,
    "node_port": NODE_PORT,
    "cpu_request": "100m",
    "max_replicas": 2,  # most tests count pods; the one of the autoscaler raises it
}
NAME = "cluster-test"
REPOSITORY = f"{ANSWERS['registry']}/{NAME}"


@dataclass(frozen=True)
class Deployed:
    """A project whose pods serve.

    Attributes:
        project: its folder, a git repository.
        url: of its node port.
        row: one row that its API accepts, as JSON.
    """

    project: Path
    url: str
    row: bytes

    def kubectl(self, *arguments: str, code: int = 0) -> str:
        """Run kubectl in its namespace."""
        return run("kubectl", "--namespace", NAMESPACE, *arguments, cwd=self.project, code=code)

    def get(self, *arguments: str) -> Any:
        """What kubectl knows, as data."""
        return json.loads(self.kubectl("get", "--output", "json", *arguments))

    def pods(self) -> list[dict[str, Any]]:
        """The server's pods that are not going away."""
        found = self.get("pods", "--selector", "app.kubernetes.io/component=server")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def images(self) -> set[str]:
        """The images that the server's pods were told to run."""
        return {pod["spec"]["containers"][0]["image"] for pod in self.pods()}

    def commit(self, message: str) -> str:
        """Commit everything; returns the image's tag, as the Makefile makes it."""
        run("git", "add", "--all", cwd=self.project)
        run("git", "commit", "-q", "--allow-empty", "-m", message, cwd=self.project)
        return run("git", "rev-parse", "--short=12", "HEAD", cwd=self.project).strip()

    def image(self) -> str:
        """The image that `make` would deploy."""
        code = "from tabserve.operations import image; print(image.name(Path('model/model.onnx')))"
        return run(".venv/bin/python", "-c", f"from pathlib import Path; {code}", cwd=self.project).strip()


@pytest.fixture(scope="session")
def cluster() -> None:
    """There is an engine to build with, a registry to push to, and a cluster."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        missing("docker", "no engine answers `docker info`")
    if shutil.which("kubectl") is None or subprocess.run(["kubectl", "get", "nodes"], capture_output=True).returncode:
        missing("cluster", "no cluster answers `kubectl get nodes`")
    try:
        urllib.request.urlopen(f"http://{REGISTRY.partition('/')[0]}/v2/", timeout=10).close()
    except (urllib.error.URLError, OSError) as error:
        missing("cluster", f"no registry at {REGISTRY}: {error}")


@pytest.fixture(scope="session")
def deployed(cluster: None, copier_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The project, trained, pushed and deployed; taken away in the end."""
    project = copy(copier_template, tmp_path_factory.mktemp("cluster") / "project", ANSWERS)
    make(project, "setup")
    make(project, "train")
    run("git", "add", "--all", cwd=project)
    run("git", "commit", "-q", "-m", "Start", cwd=project)
    task(project, "undeploy")  # what an interrupted run may have left
    try:
        task(project, "image")
        task(project, "push")
        printed = make(project, "deploy")
        assert f"ok  deployment/{NAME} serves" in printed
        url = node_port()
        yield Deployed(project, url, row_of(url))
    finally:
        task(project, "undeploy")


def node_port() -> str:
    """The address of the node port: this machine, or else the first node."""
    nodes = json.loads(run("kubectl", "get", "nodes", "--output", "json", cwd=Path.cwd()))["items"]
    addresses = [item["address"] for item in nodes[0]["status"]["addresses"] if item["type"] == "InternalIP"]
    for host in ("127.0.0.1", *addresses):
        try:
            wait_until_ready(f"http://{host}:{NODE_PORT}", seconds=10)
            return f"http://{host}:{NODE_PORT}"
        except (AssertionError, OSError):
            continue
    raise AssertionError(f"nobody answers on node port {NODE_PORT}")


def row_of(url: str) -> bytes:
    """The example row of the API."""
    with urllib.request.urlopen(f"{url}/model", timeout=10) as answer:
        return json.dumps(json.load(answer)["example"]).encode()


@contextmanager
def changed(path: Path, *pairs: tuple[str, str]) -> Iterator[None]:
    """A file with other text in it, for a while."""
    before = path.read_text(encoding="utf-8")
    text = before
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def settled(deployed: Deployed) -> None:
    """Wait until every pod that there should be is there and ready, and no other."""
    deployed.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout", "150s")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = deployed.get("pods", "--selector", "app.kubernetes.io/component=server")["items"]
        if all("deletionTimestamp" not in pod["metadata"] for pod in found):
            return
        time.sleep(1)
    raise AssertionError("old pods do not go")
