"""What `make deploy` brings into a cluster, and what changes of it do to requests: nothing."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from tests.cluster.conftest import NAME, NAMESPACE, NODE_PORT, Deployed, changed, settled
from tests.cluster.load import steady_load
from tests.conftest import run
from tests.heldout import differences, held_out
from tests.project.conftest import make, task
from tests.project.servers import get, post, serving, wait_until_ready

PRIVILEGED = """
apiVersion: v1
kind: Pod
metadata: {name: privileged}
spec: {containers: [{name: c, image: x, securityContext: {privileged: true}}]}
"""


def names(deployed: Deployed) -> set[str]:
    return {pod["metadata"]["name"] for pod in deployed.pods()}


def test_the_namespace_admits_restricted_pods_only(deployed: Deployed) -> None:
    namespace = deployed.get(f"namespace/{NAMESPACE}")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    command = ["kubectl", "--namespace", NAMESPACE, "create", "--dry-run=server", "--filename", "-"]
    refused = subprocess.run(command, input=PRIVILEGED, capture_output=True, text=True)
    assert 'violates PodSecurity "restricted' in refused.stderr
    assert len(deployed.pods()) == 2
    for pod in deployed.pods():
        assert pod["status"]["containerStatuses"][0]["ready"]
        assert "@sha256:" in pod["spec"]["containers"][0]["image"]


def test_held_out_rows_get_the_predictions_of_the_pipeline(deployed: Deployed) -> None:
    expected = held_out(deployed.project)
    rows = [one.row for one in expected]
    assert len(rows) == 800
    with serving(deployed.project) as url:
        local = post(f"{url}/predict", rows)
    remote = post(f"{deployed.url}/predict", rows)
    assert differences(expected, local["predictions"]) == []
    assert differences(expected, remote["predictions"]) == []
    assert remote == local


def test_a_new_image_replaces_the_old_one_without_a_failed_request(deployed: Deployed) -> None:
    settled(deployed)
    before = deployed.images()
    source = deployed.project / "src/tabserve/errors.py"
    source.write_text(source.read_text() + "\n# a release\n")
    tag = deployed.commit("A release")
    task(deployed.project, "image")
    task(deployed.project, "push")
    with steady_load(deployed.url, deployed.row), steady_load(deployed.url, deployed.row, 16, 0.2, kept=True):
        printed = make(deployed.project, "deploy")
        settled(deployed)
    assert re.search(rf":{tag}-[0-9a-f]{{8}}@sha256:", printed)
    assert f"serves on port {NODE_PORT} of each node" in printed
    assert len(before | deployed.images()) == 2
    with steady_load(deployed.url, deployed.row):
        assert "serves the release before" in task(deployed.project, "rollback")
        settled(deployed)
    assert deployed.images() == before
    make(deployed.project, "deploy")


def test_the_same_release_again_changes_nothing(deployed: Deployed) -> None:
    settled(deployed)
    before = names(deployed)
    make(deployed.project, "deploy")
    assert names(deployed) == before


def test_a_change_of_the_configuration_rolls_the_pods_without_a_failed_request(deployed: Deployed) -> None:
    settled(deployed)
    before = names(deployed)
    with (
        changed(deployed.project / "k8s/configmap.yaml", ("SERVE_LOG_LEVEL: info", "SERVE_LOG_LEVEL: debug")),
        steady_load(deployed.url, deployed.row),
    ):
        make(deployed.project, "deploy")
        settled(deployed)
    assert not before & names(deployed)
    deadline = time.monotonic() + 20
    while '"level": "debug"' not in make(deployed.project, "logs") and time.monotonic() < deadline:
        time.sleep(1)
    assert '"level": "debug"' in task(deployed.project, "logs")
    make(deployed.project, "deploy")
    settled(deployed)


def test_a_deleted_pod_is_replaced_without_a_failed_request(deployed: Deployed) -> None:
    settled(deployed)
    victim = sorted(names(deployed))[0]
    with steady_load(deployed.url, deployed.row):
        deployed.kubectl("delete", "pod", victim)
        settled(deployed)
    assert victim not in names(deployed)
    assert len(names(deployed)) == 2


def test_a_drain_takes_one_pod_at_a_time_without_a_failed_request(deployed: Deployed) -> None:
    settled(deployed)
    before = names(deployed)
    nodes = sorted({pod["spec"]["nodeName"] for pod in deployed.pods()})
    single = len(deployed.get("nodes")["items"]) == 1
    selector = f"app.kubernetes.io/name={NAME}"
    options = ("--pod-selector", selector, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout", "30s")
    with steady_load(deployed.url, deployed.row):
        try:
            # With a single node nothing can take the evicted pod's place, so the budget must hold the second one back.
            printed = run("kubectl", "drain", nodes[0], *options, cwd=deployed.project, code=1 if single else 0)
            if single:
                assert "violate the pod's disruption budget" in printed
                assert len(before & names(deployed)) == 1
        finally:
            run("kubectl", "uncordon", nodes[0], cwd=deployed.project)
        settled(deployed)
    assert len(names(deployed)) == 2


def test_every_file_can_be_applied_by_itself(deployed: Deployed) -> None:
    settled(deployed)
    kustomization = (deployed.project / "k8s/kustomization.yaml").read_text()
    files = re.findall(r"^  - (\S+\.yaml)$", kustomization, re.MULTILINE)
    assert len(files) == 8
    with steady_load(deployed.url, deployed.row):
        for name in files:
            deployed.kubectl("apply", "--filename", f"k8s/{name}")
        settled(deployed)
    assert {image.rpartition(":")[2] for image in deployed.images()} == {"0.1.0"}
    deployed.kubectl("apply", "--dry-run=server", "--filename", "k8s/secret.example.yaml")
    deployed.kubectl("apply", "--kustomize", "k8s")
    settled(deployed)
    assert len(names(deployed)) == 2
    make(deployed.project, "deploy")
    settled(deployed)


def check_key(deployed: Deployed, *keys: str) -> None:
    """The pods that are there in the end answer only who has one of the keys."""
    settled(deployed)
    command = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{deployed.url}/model")
    assert run(*command, cwd=deployed.project) == "401"
    for key in keys:
        assert run(*command, "-H", f"X-API-Key: {key}", cwd=deployed.project) == "200"


def test_an_api_key_in_a_secret_is_asked_for_and_can_be_rotated(deployed: Deployed, tmp_path: Path) -> None:
    settled(deployed)
    create, secret = ("create", "secret", "generic", NAME), tmp_path / "secret.yaml"
    deployed.kubectl(*create, "--from-literal=serve_api_key=a-key-for-tests")
    try:
        deployed.kubectl("rollout", "restart", f"deployment/{NAME}")
        check_key(deployed, "a-key-for-tests")
        keys = ("--from-literal=serve_api_key=a-newer-key", "--from-literal=serve_api_key_previous=a-key-for-tests")
        secret.write_text(deployed.kubectl(*create, *keys, "--dry-run=client", "--output", "yaml"))
        deployed.kubectl("apply", "--filename", str(secret))
        deployed.kubectl("rollout", "restart", f"deployment/{NAME}")
        check_key(deployed, "a-key-for-tests", "a-newer-key")
    finally:
        deployed.kubectl("delete", "secret", NAME)
        deployed.kubectl("rollout", "restart", f"deployment/{NAME}")
        settled(deployed)
    wait_until_ready(deployed.url)


def test_a_pod_that_needs_a_key_never_serves_without(deployed: Deployed) -> None:
    settled(deployed)
    before = {pod["metadata"]["name"] for pod in deployed.pods()}
    deployed.kubectl("create", "secret", "generic", NAME, "--from-literal=serve_api_kye=a-key-for-tests")
    try:
        deployed.kubectl("set", "env", f"deployment/{NAME}", "SERVE_REQUIRE_API_KEY=true")
        deadline = time.monotonic() + 90
        while "an API key is required" not in logs_of(deployed, but=before):
            assert time.monotonic() < deadline
            time.sleep(1)
        assert get(f"{deployed.url}/readyz") == {"status": "ready"}, "the old pods serve"
        assert before <= {pod["metadata"]["name"] for pod in deployed.pods()}
        deployed.kubectl("delete", "secret", NAME)
        deployed.kubectl("create", "secret", "generic", NAME, "--from-literal=serve_api_key=a-key-for-tests")
        deployed.kubectl("rollout", "restart", f"deployment/{NAME}")
        check_key(deployed, "a-key-for-tests")
    finally:
        deployed.kubectl("delete", "secret", NAME, "--ignore-not-found")
        deployed.kubectl("set", "env", f"deployment/{NAME}", "SERVE_REQUIRE_API_KEY-")
        settled(deployed)
    wait_until_ready(deployed.url)


def logs_of(deployed: Deployed, but: set[str]) -> str:
    """The logs of the server's pods, but for some."""
    names = [pod["metadata"]["name"] for pod in deployed.pods() if pod["metadata"]["name"] not in but]
    found = (["kubectl", "--namespace", NAMESPACE, "logs", name] for name in names)
    return "".join(subprocess.run(command, capture_output=True, text=True).stdout for command in found)


def test_status_shows_what_runs(deployed: Deployed) -> None:
    printed = task(deployed.project, "status")
    for thing in ("deployment.apps", "pod/", "service/", "horizontalpodautoscaler.autoscaling", "poddisruptionbudget"):
        assert f"{thing}" in printed
    assert get(f"{deployed.url}/readyz") == {"status": "ready"}
