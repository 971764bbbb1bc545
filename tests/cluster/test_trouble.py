"""Releases that cannot work: `make deploy` says what is wrong and how to fix it, and the old pods serve on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import NAME, REPOSITORY, Deployed, changed, settled
from tests.cluster.load import steady_load
from tests.conftest import run
from tests.project.conftest import make, task


@pytest.fixture(autouse=True)
def mended(deployed: Deployed) -> Iterator[None]:
    """Before and after each test the good release serves."""
    make(deployed.project, "deploy")
    settled(deployed)
    yield
    make(deployed.project, "deploy")


def refused(deployed: Deployed, *arguments: str) -> str:
    """What a deploy prints that fails while the old pods answer every request."""
    before = deployed.images()
    with steady_load(deployed.url, deployed.row):
        printed = make(deployed.project, "deploy", *arguments, code=2)
    assert before <= deployed.images()
    assert printed.count(". The previous release, if any, keeps serving\n") == 1
    return printed


def unchecked(deployed: Deployed) -> str:
    """What a deploy prints that fails in the cluster, because nobody looked before."""
    command = (".venv/bin/python", "-m", "cluster_test", "deploy", "--unchecked", "--image", deployed.image())
    return run(*command, cwd=deployed.project, code=1)


def test_an_image_that_is_not_there(deployed: Deployed) -> None:
    printed = refused(deployed, f"IMAGE={REPOSITORY}:none")
    assert f"error: the image {REPOSITORY}:none cannot be pulled" in printed
    assert "`make image push`, or say which with IMAGE=" in printed


def test_an_image_that_was_not_pushed(deployed: Deployed) -> None:
    image = f"{REPOSITORY}-never-pushed:1"
    run("docker", "build", "--quiet", "--tag", image, "--label", "never=pushed", ".", cwd=deployed.project)
    printed = make(deployed.project, "deploy", f"IMAGE={image}", code=2)
    assert f"error: the image {image} was built here, but not pushed: `make push`" in printed
    run("docker", "rmi", image, cwd=deployed.project)


def test_another_model_is_another_image(deployed: Deployed) -> None:
    model = deployed.project / "model/model.onnx"
    before, content = deployed.image(), model.read_bytes()
    model.write_bytes(content + b"\x00")
    assert deployed.image() != before
    model.write_bytes(content)
    assert deployed.image() == before


def test_a_component_that_the_cluster_does_not_know(deployed: Deployed) -> None:
    listed = ("components: []", "components: [components/service-monitor]")
    unknown = ("monitoring.coreos.com/v1", "nobody.example.org/v1")  # whatever operators the cluster has
    with (
        changed(deployed.project / "k8s/kustomization.yaml", listed),
        changed(deployed.project / "k8s/components/service-monitor/service-monitor.yaml", unknown),
    ):
        printed = unchecked(deployed)
    assert "error: this cluster knows no ServiceMonitor (nobody.example.org/v1): install what brings it" in printed


def test_logs_of_good_pods_are_shown_beside_a_bad_one(deployed: Deployed) -> None:
    make(deployed.project, "deploy", f"IMAGE={REPOSITORY}:none", code=2)
    printed = make(deployed.project, "logs")
    assert "has no logs yet" in printed
    assert '"message": "request"' in printed


def test_a_model_that_does_not_load(deployed: Deployed, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(deployed.project, broken, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
    model = broken / "model/model.onnx"
    model.write_bytes(model.read_bytes()[:1_000])
    image = f"{REPOSITORY}:broken"
    run("docker", "build", "--quiet", "--tag", image, ".", cwd=broken)
    run("docker", "push", "--quiet", image, cwd=broken)
    deadline = ("progressDeadlineSeconds: 120", "progressDeadlineSeconds: 15")
    with changed(deployed.project / "k8s/deployment.yaml", deadline):
        printed = refused(deployed, f"IMAGE={image}")
    assert "runs, but does not become ready" in printed
    assert "model/model.onnx was changed after it was trained, or is damaged" in printed
    assert "Readiness probe failed" in printed


def test_a_server_that_ends_at_once(deployed: Deployed) -> None:
    with changed(deployed.project / "k8s/configmap.yaml", ("SERVE_LOG_LEVEL: info", "SERVE_LOG_LEVEL: loud")):
        early = make(deployed.project, "deploy", code=2)
        assert "SERVE_LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error', not 'loud'" in early
        with steady_load(deployed.url, deployed.row):
            printed = unchecked(deployed)
    assert "the server ends with code 1" in printed
    assert "setting log_level ([serve] log_level in config.toml, or SERVE_LOG_LEVEL in the environment)" in printed


def test_a_configmap_that_is_not_there(deployed: Deployed) -> None:
    reference = f"configMapRef:\n                name: {NAME}"
    with changed(deployed.project / "k8s/deployment.yaml", (reference, f"{reference}-gone")):
        early = make(deployed.project, "check-k8s", code=2)
        assert f"there is no ConfigMap '{NAME}-gone'" in early
        printed = unchecked(deployed)
    assert f"there is no ConfigMap '{NAME}-gone'; list its file in k8s/kustomization.yaml, or apply it" in printed


def test_a_component_that_does_not_fit_is_found_before_anything_is_applied(deployed: Deployed) -> None:
    listed = ("components: []", "components: [components/model-volume]")
    patch = deployed.project / "k8s/components/model-volume/model-volume.yaml"
    with (
        changed(deployed.project / "k8s/kustomization.yaml", listed),
        changed(patch, ("- name: server", "- name: sevrer")),
    ):
        printed = make(deployed.project, "deploy", code=2)
    assert "problems in what kustomize makes of k8s/, see above; nothing is applied" in printed
    assert "container 'sevrer'" in printed


def test_an_init_container_that_fails(deployed: Deployed) -> None:
    security = "{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}"
    amounts = "{requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: 1, memory: 64Mi}}"
    first = (
        "      initContainers:\n"
        f"        - name: fetch\n          image: {deployed.image()}\n"
        "          command: [python, -c, raise SystemExit('cannot fetch')]\n"
        f"          securityContext: {security}\n          resources: {amounts}\n"
    )
    with changed(deployed.project / "k8s/deployment.yaml", ("      containers:\n", f"{first}      containers:\n")):
        printed = refused(deployed)
    assert "container 'fetch' ends with code 1" in printed
    assert "cannot fetch" in printed


def test_a_secret_that_is_not_there(deployed: Deployed) -> None:
    with changed(deployed.project / "k8s/deployment.yaml", ("optional: true", "optional: false")):
        printed = refused(deployed)
    assert f"there is no Secret '{NAME}'; create it as k8s/secret.example.yaml says, or mark it optional" in printed


def test_pods_that_no_node_has_room_for(deployed: Deployed) -> None:
    room = ("cpu: 100m", "cpu: 1000"), ('cpu: "1"', 'cpu: "1000"')
    with changed(deployed.project / "k8s/deployment.yaml", *room):
        printed = refused(deployed)
    assert "no node has enough free resources for a pod" in printed
    assert "lower what k8s/deployment.yaml requests" in printed


def test_pods_that_the_namespace_refuses(deployed: Deployed) -> None:
    weak = ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")
    with changed(deployed.project / "k8s/deployment.yaml", weak):
        early = make(deployed.project, "deploy", code=2)
        assert "securityContext.allowPrivilegeEscalation must be false" in early
        printed = unchecked(deployed)
    assert "the cluster rejects the pods: " in printed
    assert 'violates PodSecurity "restricted' in printed


def test_without_a_cluster(deployed: Deployed) -> None:
    printed = make(deployed.project, "deploy", "KUBECONFIG=/none", code=2)
    assert "error: kubectl reaches no cluster" in printed
    assert "set KUBECONFIG, or make one with `make cluster`" in printed


def test_without_metrics_the_autoscaler_is_blind_and_deploy_says_so(deployed: Deployed, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    (tmp_path / "kubectl").write_text(
        f'#!/bin/sh\ncase "$*" in *metrics.k8s.io*) exit 1;; *) exec {kubectl} "$@";; esac\n'
    )
    (tmp_path / "kubectl").chmod(0o755)
    printed = task(deployed.project, "deploy", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "warning: this cluster has no metrics-server, so k8s/autoscale.yaml cannot see any use" in printed
    assert "ok  deployment/" in printed
    assert "no metrics-server" not in make(deployed.project, "deploy")
