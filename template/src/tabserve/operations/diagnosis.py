"""Why pods do not become ready: from what Kubernetes says to what is wrong."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tabserve.operations.manifests import SERVER, Document, at, items, name

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
ABSENT = {
    "configmap": ("ConfigMap", "list its file in k8s/kustomization.yaml, or apply it"),
    "secret": ("Secret", "create it as k8s/secret.example.yaml says, or mark it optional"),
}
SHOWN_EVENTS = 5


@dataclass(frozen=True)
class Trouble:
    """Something that keeps a release from serving."""

    what: str  # what is wrong, in one line
    fix: str  # what to do about it
    final: bool = False  # waiting longer would not help
    container: str = ""  # the one whose logs say more
    pod: str = ""
    events: tuple[str, ...] = ()  # what Kubernetes said about the pod, newest last


def trouble_of(deployment: Document, pods: Sequence[Document], events: Sequence[Document]) -> Trouble | None:
    """The first thing that keeps the new pods from serving, if there is one."""
    ready = {"type": "Ready", "status": "True"}.items()
    waiting = [pod for pod in pods if not any(ready <= each.items() for each in items(pod, "status", "conditions"))]
    for pod in waiting:
        said = _messages(events, name(pod))
        if found := _of_containers(pod) or _of_start(pod, said):
            return replace(found, pod=name(pod), events=said[-SHOWN_EVENTS:])
    if at(deployment, "status", "observedGeneration") != at(deployment, "metadata", "generation"):
        return None  # what the conditions say is about the release before
    conditions = {item["type"]: item for item in at(deployment, "status", "conditions") or ()}
    refused = conditions.get("ReplicaFailure", {})
    if refused.get("status") == "True":
        return Trouble(f"the cluster rejects the pods: {refused['message']}", "fix k8s/deployment.yaml", final=True)
    if conditions.get("Progressing", {}).get("reason") != "ProgressDeadlineExceeded":
        return None
    if not waiting:
        return Trouble("the release was not complete in time", "see `make status`", final=True)
    late = name(waiting[0])
    fix = "the logs above say why"
    said = _messages(events, late)[-SHOWN_EVENTS:]
    return Trouble(f"pod {late} runs, but does not become ready", fix, True, SERVER, late, said)


def _of_containers(pod: Document) -> Trouble | None:
    """What keeps a container from running, those that run first included."""
    found = pod.get("status") or {}
    for status in [*(found.get("initContainerStatuses") or ()), *(found.get("containerStatuses") or ())]:
        waiting = at(status, "state", "waiting") or {}
        ended = at(status, "lastState", "terminated") or at(status, "state", "terminated") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        container, restarts = str(status.get("name", SERVER)), status.get("restartCount", 0)
        if reason in IMAGE_REASONS:
            what = f"the image {status['image']} cannot be pulled"
            return Trouble(what, "`make image push`, or say which with IMAGE=")
        if absent := _absent(message):
            return absent
        if ended.get("reason") == "OOMKilled":
            what = "the server needs more memory than its limit"
            fix = "raise memory in k8s/deployment.yaml"
            return Trouble(what, fix, True, container)
        if reason == "CrashLoopBackOff" or (ended and restarts > 0):
            what = "the server" if container == SERVER else f"container {container!r}"
            what += f" ends with code {ended.get('exitCode')}"
            return Trouble(what, "see its logs above", restarts > 1, container)
        if reason == "CreateContainerConfigError":
            return Trouble(f"the container cannot be made: {message}", "fix k8s/deployment.yaml")
    return None


def _of_start(pod: Document, said: Sequence[str]) -> Trouble | None:
    """What keeps a pod from getting to its containers: a node, or a volume."""
    if at(pod, "status", "phase") != "Pending":
        return None
    for condition in at(pod, "status", "conditions") or ():
        if condition.get("reason") == "Unschedulable":
            return Trouble(*_unschedulable(str(condition["message"])))
    return next(filter(None, map(_absent, said)), None)


def _unschedulable(message: str) -> tuple[str, str]:
    """Why no node takes a pod: a claim, room, or what the pod asks of a node."""
    if claim := re.search(r'persistentvolumeclaim "([^"]+)" not found', message):
        return f"there is no PersistentVolumeClaim {claim[1]!r}", "create it with a storage class of the cluster"
    if "unbound" in message:
        return (
            f"a PersistentVolumeClaim is not bound: {message}",
            "see `kubectl get pvc`: the cluster has no such storage",
        )
    if "Insufficient" in message:
        return (
            f"no node has enough free resources for a pod: {message}",
            "free some, or lower what k8s/deployment.yaml requests",
        )
    return f"no node fits a pod: {message}", "correct its nodeSelector or tolerations, or prepare a node"


def _absent(message: str) -> Trouble | None:
    """The ConfigMap or Secret that does not exist, by the message."""
    found = re.search(r'(configmap|secret) "([^"]+)" not found', message)
    if not found:
        return None
    kind, fix = ABSENT[found[1]]
    return Trouble(f"there is no {kind} {found[2]!r}", fix, final=True)


def _messages(events: Sequence[Document], pod: str) -> tuple[str, ...]:
    """What Kubernetes said about a pod, each message once."""
    messages = (event.get("message") for event in events if at(event, "involvedObject", "name") == pod)
    return tuple(dict.fromkeys(str(message) for message in messages if message))
