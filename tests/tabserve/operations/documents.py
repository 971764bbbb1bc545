"""Correct documents of every kind that has rules, and how to change them."""

import copy
from collections.abc import Callable
from typing import Any

from tabserve.operations.check import paths_of
from tabserve.operations.manifests import Document
from tabserve.serving.app import model_app
from tabserve.settings import ServeSettings

PATHS = paths_of(model_app(ServeSettings.model_construct()))
ABSENT = {"absent": "label"}

Documents = list[Document]
Find = Callable[[Documents], Any]
Mutation = Callable[[Documents], object]
Expected = str | tuple[str, ...]
Cases = dict[str, tuple[Mutation, Expected]]


# --- finding


def of(kind: str) -> Find:
    """The last document of a kind: one that was added comes after the project's own."""
    return lambda documents: [document for document in documents if document["kind"] == kind][-1]


def pod(documents: Documents) -> Any:
    return of("Deployment")(documents)["spec"]["template"]["spec"]


def server(documents: Documents) -> Any:
    return next(container for container in pod(documents)["containers"] if container["name"] == "server")


def job_pod(documents: Documents) -> Any:
    return of("Job")(documents)["spec"]["template"]["spec"]


def job_container(documents: Documents) -> Any:
    """A container that no autoscaler measures."""
    return job_pod(documents)["containers"][0]


def service_port(documents: Documents) -> Any:
    return of("Service")(documents)["spec"]["ports"][0]


def metric(documents: Documents) -> Any:
    return of("HorizontalPodAutoscaler")(documents)["spec"]["metrics"][0]


def named(find: Find) -> Callable[[Documents], str]:
    return lambda documents: str(find(documents)["metadata"]["name"])


# --- one correct document of every other kind that has rules


def document(documents: Documents, version: str, kind: str, **content: Any) -> Document:
    """A document in the project's namespace, under a name that the project does not use."""
    metadata = {"name": f"added-{kind.lower()}", "namespace": named(of("Namespace"))(documents)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def add_ingress(documents: Documents) -> None:
    service = {"name": named(of("Service"))(documents), "port": {"number": service_port(documents)["port"]}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    spec = {"rules": [{"host": "model.internal", "http": {"paths": [path]}}]}
    documents.append(document(documents, "networking.k8s.io/v1", "Ingress", spec=spec))


def add_route(documents: Documents) -> None:
    backend = {"name": named(of("Service"))(documents), "port": service_port(documents)["port"]}
    spec = {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": [backend]}]}
    documents.append(document(documents, "gateway.networking.k8s.io/v1", "HTTPRoute", spec=spec))


def add_monitor(documents: Documents) -> None:
    labels = dict(of("Service")(documents)["metadata"]["labels"])
    spec: Document = {"selector": {"matchLabels": labels}}
    spec["endpoints"] = [{"port": service_port(documents)["name"], "path": "/metrics"}]
    documents.append(document(documents, "monitoring.coreos.com/v1", "ServiceMonitor", spec=spec))


def add_policy(documents: Documents) -> None:
    labels = dict(of("Deployment")(documents)["spec"]["selector"]["matchLabels"])
    ports = [{"protocol": "TCP", "port": server(documents)["ports"][0]["containerPort"]}]
    spec = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]}
    documents.append(document(documents, "networking.k8s.io/v1", "NetworkPolicy", spec=spec))


def job_spec(documents: Documents) -> Document:
    """A job with the server's image and rights, and with nothing of what a server needs."""
    container = {key: value for key, value in server(documents).items() if key in ("image", "resources")}
    container |= {"name": "job", "securityContext": server(documents)["securityContext"]}
    kept = ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "securityContext")
    spec = {key: pod(documents)[key] for key in kept} | {"restartPolicy": "Never", "containers": [container]}
    template = {"metadata": {"labels": {"task": "job"}}, "spec": spec}
    return copy.deepcopy({"ttlSecondsAfterFinished": 600, "activeDeadlineSeconds": 60, "template": template})


def add_job(documents: Documents) -> None:
    documents.append(document(documents, "batch/v1", "Job", spec=job_spec(documents)))


def add_cron_job(documents: Documents) -> None:
    spec = {"schedule": "5 4 * * mon-fri", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job_spec(documents)}}
    documents.append(document(documents, "batch/v1", "CronJob", spec=spec))


def add_stateful_set(documents: Documents) -> None:
    template = {"metadata": {"labels": {"task": "cache"}}, "spec": job_spec(documents)["template"]["spec"]}
    template["spec"]["restartPolicy"] = "Always"
    spec = {"serviceName": "cache", "selector": {"matchLabels": {"task": "cache"}}, "template": template}
    documents.append(document(documents, "apps/v1", "StatefulSet", spec=spec))


def add_init_container(documents: Documents) -> None:
    """Kubernetes refuses probes and lifecycle here, so the rules must not demand them."""
    container = {key: server(documents)[key] for key in ("image", "resources", "securityContext", "envFrom")}
    pod(documents)["initContainers"] = [copy.deepcopy(container) | {"name": "init"}]


def claim(documents: Documents) -> Document:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return document(documents, "v1", "PersistentVolumeClaim", spec=spec)


ADDITIONS: dict[str, Mutation] = {
    "an ingress": add_ingress,
    "a route": add_route,
    "a monitor": add_monitor,
    "a network policy": add_policy,
    "a job": add_job,
    "a cron job": add_cron_job,
    "a stateful set": add_stateful_set,
}


# --- changes


def put(find: Find, value: object, *path: str) -> Mutation:
    """Set a value in what is found, under a path of keys that are made where they are missing."""

    def mutate(documents: Documents) -> None:
        inner = find(documents)
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value

    return mutate


def drop(find: Find, *path: str) -> Mutation:
    """Remove a key, which must be there."""

    def mutate(documents: Documents) -> None:
        inner = find(documents)
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return mutate


def append(find: Find, item: object, key: str) -> Mutation:
    return lambda documents: find(documents).setdefault(key, []).append(item)


def both(*mutations: Mutation) -> Mutation:
    def mutate(documents: Documents) -> None:
        for mutation in mutations:
            mutation(documents)

    return mutate


def without(kind: str) -> Mutation:
    return lambda documents: documents.remove(of(kind)(documents))


def twice(kind: str, name: str = "") -> Mutation:
    """A copy of a document, under the same name or another one."""

    def mutate(documents: Documents) -> None:
        again = copy.deepcopy(of(kind)(documents))
        again["metadata"]["name"] = name or again["metadata"]["name"]
        documents.append(again)

    return mutate


def add(version: str, kind: str, **content: Any) -> Mutation:
    return lambda documents: documents.append(document(documents, version, kind, **content))


def volume(**content: object) -> Mutation:
    return append(pod, {"name": "more", **content}, "volumes")


# --- what is said


def assert_just(problems: list[str], expected: Expected) -> None:
    """Every fragment is in some problem, and every problem holds a fragment."""
    fragments = (expected,) if isinstance(expected, str) else expected
    assert problems
    assert [fragment for fragment in fragments if not any(fragment in problem for problem in problems)] == []
    assert [problem for problem in problems if not any(fragment in problem for fragment in fragments)] == []
    assert [problem for problem in problems if "\n" in problem] == []
