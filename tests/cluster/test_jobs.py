"""Training and batch scoring as jobs in the cluster, and a model from a volume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import NAME, NAMESPACE, Deployed, changed, settled
from tests.conftest import missing, run
from tests.project.conftest import make, task
from tests.project.servers import get

CLAIMS = ("data", "models")


@pytest.fixture(scope="module")
def volumes(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The two claims that jobs need, on folders of this machine, which must be the cluster's node."""
    nodes = deployed.get("nodes")["items"]
    addresses = {item["address"] for node in nodes for item in node["status"]["addresses"]}
    local = run("hostname", "-I", cwd=Path.cwd()).split()
    if len(nodes) != 1 or not addresses & set(local):
        missing("cluster", "its node is another machine, whose folders these tests cannot fill")
    gone = ("delete", "pv", *(f"{NAMESPACE}-{claim}" for claim in CLAIMS), "--ignore-not-found", "--timeout", "60s")
    deployed.kubectl(*gone)
    folder = tmp_path_factory.mktemp("volumes")
    for claim in CLAIMS:
        (folder / claim).mkdir()
        (folder / claim).chmod(0o777)
        deployed.kubectl("apply", "--filename", manifest(folder, claim))
    yield folder
    deployed.kubectl("delete", "pv", *(f"{NAMESPACE}-{claim}" for claim in CLAIMS), "--wait=false")


def manifest(folder: Path, claim: str) -> str:
    """A file with a volume on a folder of the node, and the claim to it."""
    size: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{NAMESPACE}-{claim}"},
        "spec": size | {"capacity": {"storage": "1Gi"}, "hostPath": {"path": str(folder / claim)}},
    }
    wanted = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": NAMESPACE},
        "spec": size | {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": f"{NAMESPACE}-{claim}"},
    }
    path = folder / f"{claim}.yaml"
    path.write_text(yaml.safe_dump_all([volume, wanted]))
    return str(path)


@pytest.fixture(scope="module")
def jobs(deployed: Deployed, volumes: Path) -> Path:
    """The jobs' image is in the registry, and the data in its volume."""
    task(deployed.project, "jobs-image")
    task(deployed.project, "push-jobs")
    data = volumes / "data"
    shutil.copy(deployed.project / "data/loans.csv", data / "loans.csv")
    header, *rows = (data / "loans.csv").read_text().splitlines()
    (data / "in").mkdir()
    (data / "out").mkdir()
    (data / "out").chmod(0o777)
    for part in range(2):
        (data / f"in/{part}.csv").write_text("\n".join([header, *rows[part * 100 : part * 100 + 100]]) + "\n")
    return volumes


def completed(deployed: Deployed, job: str) -> str:
    """Wait for a job; returns its logs."""
    try:
        deployed.kubectl("wait", "--for", "condition=complete", f"job/{job}", "--timeout", "180s")
    except AssertionError as error:
        logs = deployed.kubectl("logs", f"job/{job}", "--tail", "20")
        raise AssertionError(f"{error}\n{deployed.kubectl('describe', f'job/{job}')}\n{logs}") from None
    return deployed.kubectl("logs", f"job/{job}")


def test_batch_scoring_in_parts(deployed: Deployed, jobs: Path) -> None:
    deployed.kubectl("apply", "--filename", "k8s/components/batch/batch.yaml")
    assert "100 rows scored" in completed(deployed, f"{NAME}-batch")
    for part in range(2):
        scored = (jobs / f"data/out/{part}.csv").read_text().splitlines()
        assert scored[0].endswith(",prediction,probability_no,probability_yes")
        assert len(scored) == 101


def test_training_writes_a_model_that_the_server_takes_from_the_volume(deployed: Deployed, jobs: Path) -> None:
    deployed.kubectl("apply", "--filename", "k8s/components/train/train.yaml")
    assert "ok  /models/model.onnx" in completed(deployed, f"{NAME}-train")
    metrics = json.loads((jobs / "models/reports/metrics.json").read_text())
    listed = ("components: []", "components: [components/model-volume]")
    with changed(deployed.project / "k8s/kustomization.yaml", listed):
        make(deployed.project, "deploy")
        settled(deployed)
        (container,) = deployed.pods()[0]["spec"]["containers"]
        assert {"name": "SERVE_MODEL", "value": "/models/model.onnx"} in container["env"]
        assert get(f"{deployed.url}/model")["version"] == metrics["model_version"]
    make(deployed.project, "deploy")
    settled(deployed)


def test_the_nightly_job_can_be_run_now(deployed: Deployed, jobs: Path) -> None:
    (jobs / "models/model.onnx").unlink(missing_ok=True)
    deployed.kubectl("apply", "--filename", "k8s/components/nightly/nightly.yaml")
    deployed.kubectl("create", "job", "tonight", "--from", f"cronjob/{NAME}-nightly")
    assert "ok  /models/model.onnx" in completed(deployed, "tonight")
    assert (jobs / "models/model.onnx").is_file()
    deployed.kubectl("delete", "--filename", "k8s/components/nightly/nightly.yaml")
