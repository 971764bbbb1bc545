"""Apply `k8s/` with an image, wait until the new pods serve, and say why they do not.

The image is pinned to its digest where this machine has pushed it, so that
a tag that moved is a new release, and one that did not is none.
"""

import json
import re
import shutil
import time

import yaml

from tabserve.documents import documents as documents_of
from tabserve.errors import UserError, say
from tabserve.operations import check as check_k8s
from tabserve.operations import programs
from tabserve.operations.diagnosis import Trouble, trouble_of
from tabserve.operations.kubectl import check_reachable, get, kubectl
from tabserve.operations.manifests import SERVER, Document, Manifests, at, items, name
from tabserve.operations.pod_rules import IMAGE

POLL_SECONDS = 1.0
LONGEST_SECONDS = 300
PATIENCE_SECONDS = 15
LOG_LINES, LOG_TRIES = 15, 5
NO_LOGS = "unable to retrieve container logs"  # kubectl prints it as if it were one of them
METRICS = "/apis/metrics.k8s.io/v1beta1"
REVISION, HASH = "deployment.kubernetes.io/revision", ("metadata", "labels", "pod-template-hash")


def manifests() -> list[Document]:
    """What kustomize makes of `k8s/`."""
    return [document for document, _ in documents_of(kubectl("kustomize", "k8s")) if document]


def release(image: str) -> list[Document]:
    """The manifests with this image; `UserError` where its name is invalid, or it was built here and not pushed."""
    if not IMAGE.fullmatch(image):
        raise UserError(f"{image!r} is not a valid image: write IMAGE=registry/name:tag, the name in lower case")
    return [with_image(document, pinned(image)) for document in manifests()]


def with_image(document: Document, image: str) -> Document:
    """A Deployment with the image in its server and as its cause; others as they are."""
    if document.get("kind") == "Deployment":
        for server in servers_of(document):
            server["image"] = image
        document["metadata"].setdefault("annotations", {})["kubernetes.io/change-cause"] = image
    return document


def servers_of(deployment: Document) -> list[Document]:
    """The container of the server; none in a Deployment of something else."""
    return [each for each in items(deployment, "spec", "template", "spec", "containers") if each["name"] == SERVER]


def pinned(image: str) -> str:
    """The image by its digest, where Docker here knows it from a push or a pull; else as it is.

    One that was built here and not pushed is a `UserError`: the registry has none, or another one of this name.
    """
    if "@" in image or shutil.which("docker") is None:
        return image
    done = programs.run("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image)
    if done.returncode:
        return image
    repository = image.rsplit(":", 1)[0] if ":" in image.rsplit("/", 1)[-1] else image
    digests = dict(str(digest).split("@") for digest in reversed(json.loads(done.stdout) or []))
    if repository not in digests:
        raise UserError(f"the image {image} was built here, but not pushed: `make push`")
    return f"{image}@{digests[repository]}"


def check(documents: list[Document], paths: frozenset[str]) -> None:
    """The rules on what kustomize has made; prints problems before its `UserError`."""
    problems = check_k8s.problems_of(documents, paths)
    for problem in problems:
        say(f"    {problem}", error=True)
    if problems:
        raise UserError(f"{len(problems)} problems in what kustomize makes of k8s/, see above; nothing is applied")


def deploy(documents: list[Document]) -> None:
    """Apply, wait, report; `UserError` where the cluster rejects it or pods do not become ready."""
    namespace, target, image = target_of(documents)
    check_reachable()
    say(f"deploy {image} to namespace {namespace}")
    apply(documents)
    wait(namespace, target, least_pods(documents))
    where = "".join(f" on port {port} of each node" for port in node_ports(documents))
    say(f"ok  {target} serves{where}; `make status` shows it, `make rollback` undoes it")


def rollback(documents: list[Document]) -> None:
    """Go back to the release before, and wait as for a new one."""
    namespace, target, _ = target_of(documents)
    check_reachable()
    say(kubectl("rollout", "undo", target, "--namespace", namespace), end="")
    wait(namespace, target, least_pods(documents))
    say(f"ok  {target} serves the release before; `make status` shows it")


def target_of(documents: list[Document]) -> tuple[str, str, str]:
    """The server's namespace, `deployment/name` and image; `UserError` without one."""
    for document in Manifests(documents).of("Deployment"):
        if servers := servers_of(document):
            return document["metadata"]["namespace"], f"deployment/{name(document)}", servers[0]["image"]
    raise UserError(f"k8s: there is no Deployment with a container {SERVER!r}")


def node_ports(documents: list[Document]) -> list[int]:
    """The node ports of the services."""
    ports = (port for each in Manifests(documents).of("Service") for port in items(each, "spec", "ports"))
    return [port["nodePort"] for port in ports if "nodePort" in port]


def apply(documents: list[Document]) -> None:
    """Hand the manifests to the cluster; `UserError` where it rejects one."""
    done = programs.run("kubectl", "apply", "--filename", "-", text=yaml.safe_dump_all(documents))
    say(done.stdout, end="")
    if unknown := re.search(r'no matches for kind "(\w+)" in version "([^"]+)"', done.stderr):
        raise UserError(
            f"this cluster knows no {unknown[1]} ({unknown[2]}): install what brings it, or take the component out of "
            "k8s/kustomization.yaml; everything else is applied"
        )
    if done.returncode:
        hint = "; choose another nodePort in k8s/service.yaml" if "already allocated" in done.stderr else ""
        raise UserError(f"the cluster rejects a manifest: {programs.last_line(done.stderr)}{hint}")


def least_pods(documents: list[Document]) -> int:
    """The fewest pods of an autoscaler; warns where it cannot see any use."""
    scalers = Manifests(documents).of("HorizontalPodAutoscaler")
    if scalers and programs.run("kubectl", "get", "--raw", METRICS).returncode:
        say(
            "warning: this cluster has no metrics-server, so k8s/autoscale.yaml cannot see any use and the number of "
            "pods stays at its minimum; install it: https://github.com/kubernetes-sigs/metrics-server",
            error=True,
        )
    return max((at(each, "spec", "minReplicas") or 1 for each in scalers), default=0)


def wait(namespace: str, target: str, least: int) -> None:
    """Until `least` pods or more are new and ready; shows trouble before its `UserError`."""
    started, troubled, shown = time.monotonic(), 0.0, ""
    try:
        while time.monotonic() - started < LONGEST_SECONDS:
            deployment = get(namespace, target)
            if (progress := progress_of(deployment, least)) is None:
                return
            if progress != shown:
                say(f"    {progress}")
                shown = progress
            events = get(namespace, "events", "--field-selector", "type=Warning")["items"]
            trouble = trouble_of(deployment, new_pods(namespace, deployment), events)
            troubled = (troubled or time.monotonic()) if trouble else 0.0
            if trouble and (trouble.final or time.monotonic() - troubled > PATIENCE_SECONDS):
                show(namespace, trouble)
                raise UserError(f"{trouble.what}; {trouble.fix}. The previous release, if any, keeps serving")
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        say("the rollout goes on in the cluster; `make status` shows it", error=True)
        raise
    raise UserError(f"{target} is not ready after {LONGEST_SECONDS} s: {shown}; see `make status logs`")


def progress_of(deployment: Document, least: int = 0) -> str | None:
    """How far a rollout to `least` pods or more is; None when complete."""
    status = deployment.get("status") or {}
    wanted = max(at(deployment, "spec", "replicas") or 0, least)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "waiting for the cluster to notice"
    updated, ready = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} pods are new"
    if status.get("replicas", 0) > updated:
        return f"{status['replicas'] - updated} old pods are terminating"
    return f"{ready} of {wanted} pods are ready" if ready < wanted else None


def new_pods(namespace: str, deployment: Document) -> list[Document]:
    """The pods of the newest ReplicaSet."""
    selector = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
    revision = at(deployment, "metadata", "annotations", REVISION)
    sets = get(namespace, "replicasets", "--selector", selector)["items"]
    newest = [at(each, *HASH) for each in sets if at(each, "metadata", "annotations", REVISION) == revision]
    return [pod for pod in get(namespace, "pods", "--selector", selector)["items"] if at(pod, *HASH) in newest]


def show(namespace: str, trouble: Trouble) -> None:
    """The logs and the events of a pod in trouble."""
    if trouble.container and (logs := logs_of(namespace, trouble.pod, trouble.container)):
        say(f"--- logs of {trouble.pod}\n{logs}", error=True)
    if trouble.events:
        say("\n".join(["--- events", *trouble.events]), error=True)


def logs_of(namespace: str, pod: str, container: str) -> str:
    """The end of a container's logs, or of the run before; between runs there are none."""
    options = ("--namespace", namespace, "--container", container, "--tail", str(LOG_LINES))
    for _ in range(LOG_TRIES):
        for run_before in ("false", "true"):
            logs = programs.run("kubectl", "logs", pod, *options, f"--previous={run_before}").stdout.strip()
            if logs and not logs.startswith(NO_LOGS):
                return logs
        time.sleep(POLL_SECONDS)
    return ""
