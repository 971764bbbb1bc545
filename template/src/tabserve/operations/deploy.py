"""Apply `k8s/` with an image, wait until the new pods serve, and say what is wrong when they do not.

    make deploy [IMAGE=registry/name:tag]

The image is pinned to its digest where this machine has pushed it, so that
a tag that moved is a new release, and one that did not is none.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from tabserve.errors import UserError
from tabserve.operations import check as check_k8s
from tabserve.operations.diagnosis import Trouble, trouble_of
from tabserve.operations.manifests import SERVER, Document, at, name
from tabserve.operations.pod_rules import IMAGE

POLL_SECONDS = 1.0
LONGEST_SECONDS = 300
PATIENCE_SECONDS = 15
LOG_LINES = 15
COMMAND_SECONDS = 120
METRICS = "/apis/metrics.k8s.io/v1beta1"


class DeployError(UserError):
    """What went wrong, in one line."""


@contextmanager
def patient() -> Iterator[None]:
    """Say what an interruption or a command that does not answer means.

    Raises:
        DeployError: a command did not answer in time.
        SystemExit: a person interrupted it.
    """
    try:
        yield
    except subprocess.TimeoutExpired as error:
        raise DeployError(f"`{' '.join(error.cmd[:3])}` did not answer in {error.timeout:.0f} s") from None
    except KeyboardInterrupt:
        print("interrupted: the rollout goes on in the cluster; `make status` shows it", file=sys.stderr)
        raise SystemExit(130) from None


# --- what to apply


def manifests() -> list[Document]:
    """What kustomize makes of `k8s/`."""
    built = command("kubectl", "kustomize", "k8s")
    return [document for document in yaml.safe_load_all(built) if document]


def release(image: str) -> list[Document]:
    """The manifests with this image in the server.

    Raises:
        DeployError: the image is none, or was built here and not pushed.
    """
    if not IMAGE.fullmatch(image):
        raise DeployError(f"{image!r} names no image: write IMAGE=registry/name:tag, the name in lower case")
    return [with_image(document, pinned(image)) for document in manifests()]


def with_image(document: Document, image: str) -> Document:
    """A Deployment with the image in its server, and as its cause; other documents as they are."""
    if document.get("kind") != "Deployment":
        return document
    for container in at(document, "spec", "template", "spec", "containers") or []:
        if container["name"] == SERVER:
            container["image"] = image
    document["metadata"].setdefault("annotations", {})["kubernetes.io/change-cause"] = image
    return document


def pinned(image: str) -> str:
    """The image by its digest, where Docker on this machine knows it from a push or a pull; else as it is.

    Raises:
        DeployError: the image was built here and not pushed: the registry has none, or another one of this name.
    """
    if "@" in image or shutil.which("docker") is None:
        return image
    found = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image], capture_output=True, text=True
    )
    repository = image.rsplit(":", 1)[0] if ":" in image.rsplit("/", 1)[-1] else image
    digests: list[str] = json.loads(found.stdout or "[]") if not found.returncode else []
    digest = next((item.partition("@")[2] for item in digests if item.partition("@")[0] == repository), "")
    if not found.returncode and not digest:
        raise DeployError(f"the image {image} was built here, but not pushed: `make push`")
    return f"{image}@{digest}" if digest else image


def check(documents: list[Document], paths: frozenset[str]) -> None:
    """The rules of `make check-k8s`, on what kustomize has made of the files, components and all.

    Raises:
        DeployError: they do not hold.
    """
    problems = check_k8s.problems_of(documents, paths)
    for problem in problems:
        print(f"    {problem}", file=sys.stderr)
    if problems:
        raise DeployError(f"{len(problems)} problems in what kustomize makes of k8s/, see above; nothing is applied")


# --- applying and waiting


def deploy(documents: list[Document]) -> None:
    """Apply, wait, report.

    Raises:
        DeployError: there is no cluster, it refuses something, or the pods do not become ready.
    """
    deployment = next(document for document in documents if document.get("kind") == "Deployment")
    namespace, target = deployment["metadata"]["namespace"], name(deployment)
    image = next(c["image"] for c in deployment["spec"]["template"]["spec"]["containers"] if c["name"] == SERVER)
    reachable()
    print(f"deploy {image} to namespace {namespace}", flush=True)
    apply(documents)
    if any(document.get("kind") == "HorizontalPodAutoscaler" for document in documents):
        warn_without_metrics()
    wait(namespace, target, least_pods(documents))
    where = [f" on port {port} of each node" for port in node_ports(documents)]
    print(f"ok  deployment/{target} serves{''.join(where)}; `make status` shows it, `make rollback` takes it back")


def apply(documents: list[Document]) -> None:
    """Hand the manifests to the cluster.

    Raises:
        DeployError: it refuses one of them.
    """
    applied = ["kubectl", "apply", "--filename", "-"]
    done = subprocess.run(
        applied, input=yaml.safe_dump_all(documents), capture_output=True, text=True, timeout=COMMAND_SECONDS
    )
    print(done.stdout, end="", flush=True)
    if unknown := re.search(r'no matches for kind "(\w+)" in version "([^"]+)"', done.stderr):
        raise DeployError(
            f"this cluster knows no {unknown[1]} ({unknown[2]}): install what brings it, or take the component out of "
            "k8s/kustomization.yaml; everything else is applied"
        )
    if done.returncode:
        raise DeployError(f"the cluster refuses a manifest: {last_line(done.stderr)}")


def node_ports(documents: list[Document]) -> list[int]:
    """The node ports of the services."""
    ports = [at(document, "spec", "ports") or [] for document in documents if document.get("kind") == "Service"]
    return [port["nodePort"] for found in ports for port in found if "nodePort" in port]


def rollback(documents: list[Document]) -> None:
    """Go back to the release before, and wait as for a new one.

    Raises:
        DeployError: there is none, there is no cluster, or its pods do not become ready.
    """
    deployment = next(document for document in documents if document.get("kind") == "Deployment")
    namespace, target = deployment["metadata"]["namespace"], name(deployment)
    reachable()
    print(command("kubectl", "rollout", "undo", f"deployment/{target}", "--namespace", namespace), end="", flush=True)
    wait(namespace, target, least_pods(documents))
    print(f"ok  deployment/{target} serves the release before; `make status` shows it")


def reachable() -> None:
    """There is a cluster, and it lets us in."""
    command_line = ["kubectl", "get", "--raw", "/version", "--request-timeout", "15s"]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise DeployError(
            f"kubectl reaches no cluster ({last_line(done.stderr)}): set KUBECONFIG, or make one with `make cluster`"
        )


def warn_without_metrics() -> None:
    """Autoscaling needs a metrics-server; without one the number of pods stays as it is."""
    if subprocess.run(["kubectl", "get", "--raw", METRICS], capture_output=True, timeout=60).returncode:
        print(
            "warning: this cluster has no metrics-server, so k8s/autoscale.yaml cannot see any use and the number of "
            "pods stays at its minimum; install it: https://github.com/kubernetes-sigs/metrics-server",
            file=sys.stderr,
        )


def least_pods(documents: list[Document]) -> int:
    """How many pods the autoscaler will see to, if there is one."""
    found = [document for document in documents if document.get("kind") == "HorizontalPodAutoscaler"]
    return max((at(document, "spec", "minReplicas") or 1 for document in found), default=0)


def wait(namespace: str, target: str, least: int) -> None:
    """Until all pods, `least` or more, are new and ready, or one has been in trouble for a while.

    Raises:
        DeployError: with what is wrong, after the pod's events and logs were shown.
    """
    started, troubled, shown = time.monotonic(), 0.0, ""
    while time.monotonic() - started < LONGEST_SECONDS:
        deployment = get(namespace, f"deployment/{target}")
        progress = progress_of(deployment, least)
        if progress is None:
            return
        if progress != shown:
            print(f"    {progress}", flush=True)
            shown = progress
        trouble = trouble_of(deployment, new_pods(namespace, deployment), events(namespace))
        troubled = (troubled or time.monotonic()) if trouble else 0.0
        if trouble and (trouble.final or time.monotonic() - troubled > PATIENCE_SECONDS):
            fail(namespace, trouble)
        time.sleep(POLL_SECONDS)
    raise DeployError(f"deployment/{target} is not ready after {LONGEST_SECONDS} s: {shown}; see `make status logs`")


def progress_of(deployment: Document, least: int = 0) -> str | None:
    """How far a rollout to `least` pods or more is, or None when it is complete."""
    status, wanted = deployment.get("status") or {}, max(at(deployment, "spec", "replicas") or 0, least)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "waiting for the cluster to notice"
    updated, ready = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} pods are new"
    if status.get("replicas", 0) > updated:
        return f"{status['replicas'] - updated} old pods go"
    return f"{ready} of {wanted} pods are ready" if ready < wanted else None


def new_pods(namespace: str, deployment: Document) -> list[Document]:
    """The pods of the newest ReplicaSet."""
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    revision = at(deployment, "metadata", "annotations", "deployment.kubernetes.io/revision")
    sets = get(namespace, "replicasets", "--selector", selector)["items"]
    newest = [
        at(item, "metadata", "labels", "pod-template-hash")
        for item in sets
        if at(item, "metadata", "annotations", "deployment.kubernetes.io/revision") == revision
    ]
    pods: list[Document] = get(namespace, "pods", "--selector", selector)["items"]
    return [pod for pod in pods if at(pod, "metadata", "labels", "pod-template-hash") in newest]


def events(namespace: str) -> list[Document]:
    """The warnings of the namespace."""
    found: list[Document] = get(namespace, "events", "--field-selector", "type=Warning")["items"]
    return found


def fail(namespace: str, trouble: Trouble) -> None:
    """Show what the pod said, and end.

    Raises:
        DeployError: always.
    """
    if trouble.pod:
        for previous in ((), ("--previous",)):
            options = ("--namespace", namespace, "--container", trouble.container, "--tail", str(LOG_LINES), *previous)
            done = subprocess.run(
                ["kubectl", "logs", trouble.pod, *options], capture_output=True, text=True, timeout=60
            )
            if done.stdout.strip():
                print(f"--- logs of {trouble.pod}\n{done.stdout.strip()}", file=sys.stderr)
                break
    if trouble.events:
        print("--- events", *trouble.events, sep="\n", file=sys.stderr)
    raise DeployError(f"{trouble.what}; {trouble.fix}. Pods of the release before, if any, serve on")


# --- kubectl


def get(namespace: str, *arguments: str) -> Document:
    """What kubectl knows of something, as data."""
    found: Document = json.loads(command("kubectl", "get", "--namespace", namespace, "--output", "json", *arguments))
    return found


def command(*arguments: str, text: str | None = None) -> str:
    """Run a command and return what it prints.

    Raises:
        DeployError: it failed; with the last thing it said.
    """
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise DeployError(f"`{' '.join(arguments[:3])}` failed: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    """The last line that says something, without kubectl's own `error: `."""
    lines = [line.strip().removeprefix("error: ") for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
