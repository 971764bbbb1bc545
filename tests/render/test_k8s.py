"""Manifests, Dockerfile and compose files of every kind of project have no finding in the usual checkers."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.answers import label, pairwise
from tests.conftest import Render, missing, run

BIN = Path(sys.executable).parent
# In an environment of its own: it pins half of what there is.
CHECKOV = (str(BIN / "uv"), "tool", "run", "--quiet", "--from", "checkov==3.3.30", "checkov")
KUBERNETES = "1.37"
DIGEST = "@sha256:" + "a" * 64
COMPONENTS = ("batch", "gateway", "gpu", "ingress", "model-volume", "nightly", "service-monitor", "train")
THIRD_PARTY = {"HTTPRoute", "ServiceMonitor"}

matrix = pytest.mark.parametrize("answers", pairwise(), ids=label)


def applied(project: Path) -> list[dict[str, Any]]:
    """Every document that stands for itself, of the base and of the components; images by digest, as deployed."""
    documents = []
    for path in sorted((project / "k8s").rglob("*.yaml")):
        text = re.sub(r"^( +image: \S+)$", rf"\1{DIGEST}", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        documents += [document for document in yaml.safe_load_all(text) if is_applied(document)]
    return documents


def is_applied(document: dict[str, Any]) -> bool:
    patch = document["kind"] == "Deployment" and "selector" not in document["spec"]
    return not patch and not document["apiVersion"].startswith("kustomize") and document["kind"] != "Secret"


@matrix
def test_the_project_checks_its_own_manifests(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    package = next(project.glob("src/*/app.py")).parent.name
    printed = run(sys.executable, "-m", package, "check-k8s", cwd=project, PYTHONPATH="src")
    assert printed == "ok  k8s: the manifests agree with each other and with the application\n"


@matrix
def test_kubernetes_knows_every_field(render: Render, answers: dict[str, Any], tmp_path: Path) -> None:
    documents = [document for document in applied(render(**answers)) if document["kind"] not in THIRD_PARTY]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(documents))
    printed = run(str(BIN / "kubernetes-validate"), "--strict", "-k", KUBERNETES, "all.yaml", cwd=tmp_path)
    assert printed.count(" passed for resource ") == len(documents)
    assert "WARN" not in printed


def test_checkov_finds_nothing(render: Render, tmp_path: Path) -> None:
    for position, answers in enumerate(pairwise()):
        project = render(**answers)
        folder = tmp_path / str(position)
        folder.mkdir()
        (folder / "all.yaml").write_text(yaml.safe_dump_all(applied(project)))
        shutil.copy(project / "Dockerfile", folder / "Dockerfile")
    frameworks = ("--framework", "kubernetes", "dockerfile")
    printed = run(*CHECKOV, "--directory", str(tmp_path), *frameworks, "--skip-download", "--compact", cwd=tmp_path)
    assert (
        re.findall(r"Passed checks: [1-9]\d*, Failed checks: (\d+), Skipped checks: (\d+)", printed) == [("0", "0")] * 2
    )


@matrix
def test_hadolint_finds_nothing(render: Render, answers: dict[str, Any]) -> None:
    assert run(str(BIN / "hadolint"), "Dockerfile", cwd=render(**answers)) == ""


@matrix
def test_compose_files_fit_their_schema(render: Render, answers: dict[str, Any]) -> None:
    files = ("compose.yaml", "compose.override.yaml")
    run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files, cwd=render(**answers))


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_builds_on_the_base(render: Render, component: str, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        missing("cluster", "there is no kubectl to build with")
    project = tmp_path / "project"
    shutil.copytree(render(), project)
    kustomization = project / "k8s/kustomization.yaml"
    text = kustomization.read_text().replace("components: []", f"components: [components/{component}]")
    kustomization.write_text(text)
    built = run("kubectl", "kustomize", "k8s", cwd=project)
    (project / "built.yaml").write_text(built)
    assert built != run("kubectl", "kustomize", str(render() / "k8s"), cwd=project)
    command = f"{sys.executable} -m loan_offers check-k8s - < built.yaml"
    assert run("bash", "-c", command, cwd=project, PYTHONPATH="src").startswith("ok ")


def test_the_components_are_those(render: Render) -> None:
    assert {path.name for path in (render() / "k8s/components").iterdir()} == set(COMPONENTS)


def test_a_change_of_the_configuration_gives_it_another_name(render: Render, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        missing("cluster", "there is no kubectl to build with")
    project = tmp_path / "project"
    shutil.copytree(render(), project)
    names = []
    for level in ("info", "debug"):
        path = project / "k8s/configmap.yaml"
        path.write_text(re.sub("SERVE_LOG_LEVEL: .*", f"SERVE_LOG_LEVEL: {level}", path.read_text()))
        documents = list(yaml.safe_load_all(run("kubectl", "kustomize", "k8s", cwd=project)))
        (name,) = (item["metadata"]["name"] for item in documents if item["kind"] == "ConfigMap")
        (deployment,) = (item for item in documents if item["kind"] == "Deployment")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert container["envFrom"] == [{"configMapRef": {"name": name}}]
        names.append(name)
    assert len(set(names)) == 2


def test_answers_reach_every_layer(render: Render) -> None:
    project = render(
        registry="ghcr.io/team",
        namespace="scoring",
        port=9000,
        service_type="NodePort",
        node_port=31234,
        autoscale="memory",
        min_replicas=3,
        max_replicas=9,
        cpu_request="500m",
        cpu_limit="2500m",
        memory="384Mi",
        hardware="nvidia",
    )
    documents = {item["kind"]: item for item in applied(project) if "batch" not in item["apiVersion"]}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {item["metadata"]["namespace"] for kind, item in documents.items() if kind != "Namespace"} == {"scoring"}
    assert documents["Namespace"]["metadata"]["name"] == "scoring"
    assert container["image"] == f"ghcr.io/team/loan-offers:0.1.0{DIGEST}"
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "384Mi"}
    assert container["resources"]["limits"] == {"cpu": "2500m", "memory": "384Mi"}
    assert container["ports"][0]["containerPort"] == 9000
    assert (
        documents["ConfigMap"]["data"] | {"SERVE_PORT": "9000", "SERVE_THREADS": "2"} == documents["ConfigMap"]["data"]
    )
    assert documents["Service"]["spec"]["ports"][0]["nodePort"] == 31234
    assert "replicas" not in documents["Deployment"]["spec"]
    scaler = documents["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    assert scaler["metrics"][0]["resource"]["name"] == "memory"
    assert "components: [components/gpu]" in (project / "k8s/kustomization.yaml").read_text()
    dockerfile, pyproject = ((project / name).read_text() for name in ("Dockerfile", "pyproject.toml"))
    assert "SERVE_PORT=9000" in dockerfile
    assert "EXPOSE 9000" in dockerfile
    assert "--extra gpu" in dockerfile
    assert "onnxruntime-gpu>=" in pyproject
    service = yaml.safe_load((project / "compose.yaml").read_text())["services"]["server"]
    assert service["deploy"]["replicas"] == 3
    assert service["deploy"]["resources"]["limits"] == {"cpus": "2.5", "memory": "384M"}
    assert service["ports"] == ["127.0.0.1:9000:9000"]
    assert "port = 9000" in (project / "config.toml").read_text()
    assert "image: ghcr.io/team/loan-offers:" in (project / "k8s/deployment.yaml").read_text()


def test_without_an_autoscaler_the_deployment_says_how_many(render: Render) -> None:
    project = render(autoscale="none", min_replicas=4, service_type="ClusterIP")
    documents = {item["kind"]: item for item in applied(project)}
    assert documents["Deployment"]["spec"]["replicas"] == 4
    assert "HorizontalPodAutoscaler" not in documents
    assert "nodePort" not in documents["Service"]["spec"]["ports"][0]
    assert not (project / "k8s/autoscale.yaml").exists()


def test_no_secret_is_applied(render: Render) -> None:
    listed = yaml.safe_load((render() / "k8s/kustomization.yaml").read_text())["resources"]
    assert "secret.example.yaml" not in listed
    assert (render() / "k8s/secret.example.yaml").exists()


def test_a_cluster_is_made_with_a_registry_and_metrics(render: Render, tmp_path: Path) -> None:
    """With programs that only say how they were called: kind's node image comes from outside."""
    for program in ("docker", "kind", "kubectl"):
        stub = tmp_path / program
        answers = 'case "$*" in "get nodes"*) echo node-1;; *inspect*) echo none;; esac'
        stub.write_text(
            f'#!/bin/sh\necho "{program} $*" >> {tmp_path}/calls\n[ -t 0 ] || cat >> {tmp_path}/input\n{answers}\n'
        )
        stub.chmod(0o755)
    project = render(node_port=31000)
    command = (sys.executable, "-m", "loan_offers", "cluster")
    printed = run(*command, cwd=project, PYTHONPATH="src", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert printed.splitlines()[-1] == "ok  cluster loan-offers; next: make image push deploy"
    calls = (tmp_path / "calls").read_text()
    steps = (
        "docker run",
        "kind create cluster --name loan-offers",
        "docker exec",
        "kubectl apply",
        "kubectl --namespace",
    )
    assert [calls.index(step) for step in steps] == sorted(calls.index(step) for step in steps)
    assert "+ kind create cluster --name loan-offers --config -" in printed
    assert "hostPort: 31000" in (tmp_path / "input").read_text()
    for program in ("docker", "kind", "kubectl"):
        (tmp_path / program).unlink()
    script = "src/tabserve/operations/cluster.sh"
    told = run("/bin/sh", script, "loan-offers", "31000", cwd=project, code=1, PATH=str(tmp_path))
    assert told.startswith("error: docker is not installed")
