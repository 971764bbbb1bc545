"""Why pods do not become ready: from what Kubernetes says to what is wrong and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabserve.operations.manifests import SERVER, Document, at, name

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
ABSENT = re.compile(r'(configmap|secret) "([^"]+)" not found')
SHOWN_EVENTS = 5


@dataclass(frozen=True)
class Trouble:
    """Something that keeps a release from serving.

    Attributes:
        what: what is wrong, in one line.
        fix: what to do about it.
        pod: the name of the pod that shows it; empty when there is none.
        events: what Kubernetes said about the pod, newest last.
        final: waiting longer would not help.
        container: the one whose logs say more.
    """

    what: str
    fix: str
    pod: str = ""
    events: tuple[str, ...] = ()
    final: bool = False
    container: str = SERVER


def trouble_of(deployment: Document, pods: Sequence[Document], events: Sequence[Document]) -> Trouble | None:
    """The first thing that keeps the new pods from serving, if there is one."""
    for pod in (pod for pod in pods if not _ready(pod)):
        said = tuple(message for event in _about(events, name(pod)) if (message := str(event.get("message"))))
        if found := _trouble_of_pod(pod, said):
            what, fix, final = found
            events_of_pod = tuple(dict.fromkeys(said))[-SHOWN_EVENTS:]
            return Trouble(what, fix, name(pod), events_of_pod, final, _failing_container(pod))
    if at(deployment, "status", "observedGeneration") != at(deployment, "metadata", "generation"):
        return None  # what the conditions say is about the release before
    conditions = {item["type"]: item for item in at(deployment, "status", "conditions") or ()}
    refused = conditions.get("ReplicaFailure", {})
    if refused.get("status") == "True":
        return Trouble(f"the cluster refuses the pods: {refused['message']}", "mend k8s/deployment.yaml", final=True)
    if conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded":
        return _not_ready(pods, events)
    return None


def _not_ready(pods: Sequence[Document], events: Sequence[Document]) -> Trouble:
    waiting = next((name(pod) for pod in pods if not _ready(pod)), "")
    if not waiting:
        return Trouble("the release was not complete in time", "see `make status`", final=True)
    said = tuple(dict.fromkeys(str(event.get("message")) for event in _about(events, waiting)))
    return Trouble(
        f"pod {waiting} runs, but does not become ready",
        "the logs and the readiness probe's answer say why; mend it, then `make image push deploy`",
        waiting,
        said[-SHOWN_EVENTS:],
        final=True,
    )


def _trouble_of_pod(pod: Document, said: Sequence[str]) -> tuple[str, str, bool] | None:
    """What is wrong, how to mend it, and whether waiting is in vain."""
    for status in _statuses(pod):
        waiting = at(status, "state", "waiting") or {}
        ended = at(status, "lastState", "terminated") or at(status, "state", "terminated") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in IMAGE_REASONS:
            return f"the image {status['image']} cannot be pulled", "`make image push`, or say which with IMAGE=", False
        if absent := ABSENT.search(message):
            return *_absent(*absent.groups()), True
        if ended.get("reason") == "OOMKilled":
            return "the server needs more memory than it may have", "raise memory in k8s/deployment.yaml", True
        if reason == "CrashLoopBackOff" or (ended and status.get("restartCount", 0) > 0):
            what = "the server" if status.get("name", SERVER) == SERVER else f"container {status['name']!r}"
            again = status["restartCount"] > 1
            return f"{what} ends with code {ended.get('exitCode')}", "see its logs above", again
        if reason == "CreateContainerConfigError":
            return f"the container cannot be made: {message}", "mend k8s/deployment.yaml", False
    return _trouble_of_start(pod, said)


def _trouble_of_start(pod: Document, said: Sequence[str]) -> tuple[str, str, bool] | None:
    """What keeps a pod from getting to its containers: a node, or a volume."""
    if at(pod, "status", "phase") != "Pending":
        return None
    for condition in at(pod, "status", "conditions") or ():
        if condition.get("reason") == "Unschedulable":
            return *_unschedulable(str(condition["message"])), False
    for message in said:
        if absent := ABSENT.search(message):
            return *_absent(*absent.groups()), True
    return None


def _statuses(pod: Document) -> list[Any]:
    """Of all containers, those that run first included."""
    found = pod.get("status") or {}
    return [*(found.get("initContainerStatuses") or ()), *(found.get("containerStatuses") or ())]


def _failing_container(pod: Document) -> str:
    """The first container that has not come to run; an init container that is done has."""
    for status in _statuses(pod):
        done = at(status, "state", "terminated", "reason") == "Completed"
        if not done and at(status, "state", "running") is None:
            return str(status.get("name", SERVER))
    return SERVER


def _unschedulable(message: str) -> tuple[str, str]:
    """Why no node takes a pod: a claim, room, or what the pod asks of a node."""
    if claim := re.search(r'persistentvolumeclaim "([^"]+)" not found', message):
        return f"there is no PersistentVolumeClaim {claim[1]!r}", "make it with the storage that the cluster has"
    if "unbound" in message:
        return f"a volume claim is not bound: {message}", "see `kubectl get pvc`: the cluster has no such storage"
    if "Insufficient" in message:
        return f"no node has room for a pod: {message}", "free some, or lower what k8s/deployment.yaml requests"
    return f"no node fits a pod: {message}", "mend its nodeSelector or tolerations, or prepare a node"


def _absent(kind: Any, missing: Any) -> tuple[str, str]:
    if kind == "secret":
        return f"there is no Secret {missing!r}", "make it as k8s/secret.example.yaml says, or mark it optional"
    return f"there is no ConfigMap {missing!r}", "list its file in k8s/kustomization.yaml, or apply it"


def _about(events: Sequence[Document], pod: str) -> list[Document]:
    return [event for event in events if at(event, "involvedObject", "name") == pod]


def _ready(pod: Document) -> bool:
    conditions: list[Any] = at(pod, "status", "conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
