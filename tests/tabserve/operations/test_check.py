import copy
import functools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabserve.operations import check as check_k8s
from tabserve.operations.deploy import DeployError, progress_of, release, with_image
from tabserve.operations.diagnosis import SHOWN_EVENTS, trouble_of
from tabserve.operations.manifests import Document, Manifests, is_kustomize, read

FOLDER = check_k8s.ROOT / check_k8s.K8S
ABSENT = {"absent": "label"}

Documents = list[Document]
Find = Callable[[Documents], Any]
Mutation = Callable[[Documents], object]
Expected = str | tuple[str, ...]


# --- the project's manifests, and one correct document of every other kind that has rules


@functools.cache
def files() -> Documents:
    documents, problems = read(sorted(set(FOLDER.glob("*.yaml")) - set(FOLDER.glob(check_k8s.EXAMPLES))))
    assert not problems
    return [document for document in documents if not is_kustomize(document)]


@functools.cache
def examples() -> Documents:
    return read(sorted(FOLDER.glob(check_k8s.EXAMPLES)))[0]


def own() -> Documents:
    return copy.deepcopy(files())


def whole() -> Documents:
    """The project's documents with one of every kind, so that cases need not ask what a project has."""
    documents = own()
    for add in ADDITIONS.values():
        add(documents)
    return documents


def problems_of(documents: Documents) -> list[str]:
    return list(check_k8s.check(Manifests(documents, examples(), check_k8s.routes())))


def of(kind: str) -> Find:
    """The last document of a kind: one that was added comes after the project's own."""
    return lambda documents: [document for document in documents if document["kind"] == kind][-1]


def pod(documents: Documents) -> Any:
    return of("Deployment")(documents)["spec"]["template"]["spec"]


def server(documents: Documents) -> Any:
    return next(container for container in pod(documents)["containers"] if container["name"] == "server")


def job_container(documents: Documents) -> Any:
    """A container that no autoscaler measures."""
    return of("Job")(documents)["spec"]["template"]["spec"]["containers"][0]


def service_port(documents: Documents) -> Any:
    return of("Service")(documents)["spec"]["ports"][0]


def metric(documents: Documents) -> Any:
    return of("HorizontalPodAutoscaler")(documents)["spec"]["metrics"][0]


def named(find: Find) -> Callable[[Documents], str]:
    return lambda documents: str(find(documents)["metadata"]["name"])


def document(documents: Documents, version: str, kind: str, **content: Any) -> Document:
    """A document in the project's namespace, under a name that the project does not use."""
    metadata = {"name": f"added-{kind.lower()}", "namespace": named(of("Namespace"))(documents)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def add_autoscaler(documents: Documents) -> None:
    if any(found["kind"] == "HorizontalPodAutoscaler" for found in documents):
        return
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": named(of("Deployment"))(documents)}
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    spec: Document = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5}
    spec["metrics"] = [{"type": "Resource", "resource": resource}]
    of("Deployment")(documents)["spec"].pop("replicas", None)
    documents.append(document(documents, "autoscaling/v2", "HorizontalPodAutoscaler", spec=spec))


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


def job_spec(documents: Documents) -> dict[str, Any]:
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


def add_init_container(documents: Documents) -> None:
    """Kubernetes refuses probes and lifecycle here, so the rules must not ask for them."""
    container = {key: server(documents)[key] for key in ("image", "resources", "securityContext", "envFrom")}
    pod(documents)["initContainers"] = [copy.deepcopy(container) | {"name": "init"}]


ADDITIONS: dict[str, Mutation] = {
    "an autoscaler": add_autoscaler,
    "an ingress": add_ingress,
    "a route": add_route,
    "a monitor": add_monitor,
    "a network policy": add_policy,
    "a job": add_job,
    "a cron job": add_cron_job,
}


# --- mutations


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


def foreign(version: str, kind: str) -> Mutation:
    return lambda documents: documents.append(document(documents, version, kind))


def volume(**content: object) -> Mutation:
    return append(pod, {"name": "more", **content}, "volumes")


def port(**content: object) -> Mutation:
    return append(server, {"name": "more", "containerPort": 9_999, **content}, "ports")


def same_port(key: str) -> Mutation:
    return lambda documents: port(**{key: server(documents)["ports"][0][key]})(documents)


def variable(source: str, key: str, find: Callable[[], str]) -> Mutation:
    """A variable that comes from a key; who holds the key is known when the test runs."""

    def mutate(documents: Documents) -> None:
        item = {
            "name": "MORE",
            "valueFrom": {source: {"name": find() or named(of("ConfigMap"))(documents), "key": key}},
        }
        append(server, item, "env")(documents)

    return mutate


def backend(kind: str, **changed: object) -> Mutation:
    """Lead an Ingress or an HTTPRoute somewhere else."""

    def mutate(documents: Documents) -> None:
        rule = of(kind)(documents)["spec"]["rules"][0]
        target = rule["http"]["paths"][0]["backend"]["service"] if kind == "Ingress" else rule["backendRefs"][0]
        target.update(changed)

    return mutate


def live_as_ready(documents: Documents) -> None:
    server(documents)["livenessProbe"]["httpGet"]["path"] = server(documents)["readinessProbe"]["httpGet"]["path"]


def kept(amount: object) -> Mutation:
    """A budget that says how many pods stay, and not how many may go."""
    return lambda documents: of("PodDisruptionBudget")(documents).update(
        spec={"minAvailable": amount, "selector": of("PodDisruptionBudget")(documents)["spec"]["selector"]}
    )


def kept_by_budget(documents: Documents) -> None:
    """As many pods as there are at least, where there is no autoscaler."""
    documents[:] = [found for found in documents if found["kind"] != "HorizontalPodAutoscaler"]
    of("Deployment")(documents)["spec"]["replicas"] = 3
    of("PodDisruptionBudget")(documents)["spec"].pop("maxUnavailable", None)
    of("PodDisruptionBudget")(documents)["spec"]["minAvailable"] = 3


def monitor(**changed: object) -> Mutation:
    return lambda documents: of("ServiceMonitor")(documents)["spec"]["endpoints"][0].update(changed)


def policy_port(documents: Documents) -> None:
    of("NetworkPolicy")(documents)["spec"]["ingress"][0]["ports"][0]["port"] = "gone"


# --- what is right


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_each_correct_document_alone_gives_no_problem(add: Mutation) -> None:
    documents = own()
    add(documents)
    assert problems_of(documents) == []


def test_the_manifests_give_no_problem_with_and_without_all_correct_documents() -> None:
    assert problems_of(own()) == []
    assert problems_of(whole()) == []


RIGHT: dict[str, Mutation] = {
    "an init container": add_init_container,
    "a service on the node": both(
        put(of("Service"), "NodePort", "spec", "type"), put(service_port, 30_000, "nodePort")
    ),
    "a service with a load balancer": put(of("Service"), "LoadBalancer", "spec", "type"),
    "a target port by number": lambda documents: put(
        service_port, server(documents)["ports"][0]["containerPort"], "targetPort"
    )(documents),
    "an ingress to a named port": lambda documents: backend("Ingress", port={"name": service_port(documents)["name"]})(
        documents
    ),
    "an optional ConfigMap": append(server, {"configMapRef": {"name": "gone", "optional": True}}, "envFrom"),
    "an image by its digest": put(server, f"registry.internal:5000/a/b_c@sha256:{'0' * 64}", "image"),
    "an autoscaler on requests per second": append(
        lambda documents: of("HorizontalPodAutoscaler")(documents)["spec"],
        {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "9"}}},
        "metrics",
    ),
    "a daily cron job": put(of("CronJob"), "@daily", "spec", "schedule"),
    "a capability for low ports": put(server, ["NET_BIND_SERVICE"], "securityContext", "capabilities", "add"),
}


@pytest.mark.parametrize("change", RIGHT.values(), ids=RIGHT)
def test_what_is_allowed_gives_no_problem(change: Mutation) -> None:
    documents = whole()
    change(documents)
    assert problems_of(documents) == []


# --- what is wrong: one defect each, and what is said of it

SCALER = of("HorizontalPodAutoscaler")
BUDGET = of("PodDisruptionBudget")

POD_CASES: dict[str, tuple[Mutation, Expected]] = {
    "a pod that may be root": (put(pod, False, "securityContext", "runAsNonRoot"), "runAsNonRoot must be true"),
    "a pod with no user": (drop(pod, "securityContext", "runAsUser"), "a number of 10000 or more, not None"),
    "a pod with a user of the system": (put(pod, 1_000, "securityContext", "runAsUser"), "10000 or more, not 1000"),
    "a pod without seccomp": (
        put(pod, "Unconfined", "securityContext", "seccompProfile", "type"),
        "seccompProfile.type must be RuntimeDefault",
    ),
    "a pod with a token": (drop(pod, "automountServiceAccountToken"), "automountServiceAccountToken must be false"),
    "a pod with variables of services": (put(pod, True, "enableServiceLinks"), "enableServiceLinks must be false"),
    "a pod on the node's network": (put(pod, True, "hostNetwork"), "hostNetwork must not be true"),
    "a pod among the node's processes": (put(pod, True, "hostPID"), "hostPID must not be true"),
    "a pod in the node's memory": (put(pod, True, "hostIPC"), "hostIPC must not be true"),
    "a folder of the node": (volume(hostPath={"path": "/"}), "volume 'more': hostPath is not allowed"),
    "a folder that can fill the node": (volume(emptyDir={}), "volume 'more': emptyDir needs a sizeLimit"),
    "a container that may gain rights": (
        drop(server, "securityContext", "allowPrivilegeEscalation"),
        "allowPrivilegeEscalation must be false",
    ),
    "a privileged container": (put(server, True, "securityContext", "privileged"), "privileged must not be true"),
    "a container that may write anywhere": (
        put(server, False, "securityContext", "readOnlyRootFilesystem"),
        "readOnlyRootFilesystem must be true",
    ),
    "a container that keeps capabilities": (
        put(server, ["CHOWN"], "securityContext", "capabilities", "drop"),
        "capabilities.drop must hold ALL",
    ),
    "a container that adds capabilities": (
        put(server, ["NET_BIND_SERVICE", "SYS_ADMIN", "CHOWN"], "securityContext", "capabilities", "add"),
        "capabilities.add must not hold SYS_ADMIN, CHOWN",
    ),
    "a container that is user 0": (
        put(server, 0, "securityContext", "runAsUser"),
        "must not give the container a user below",
    ),
    "a container that may be root": (
        put(server, False, "securityContext", "runAsNonRoot"),
        "must not give the container a user below",
    ),
    "an init container with too many rights": (
        both(add_init_container, lambda documents: pod(documents)["initContainers"][0].pop("securityContext")),
        ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities.drop"),
    ),
    "an image in capitals": (put(server, "registry.internal/App:1", "image"), "'registry.internal/App:1' is no legal"),
    "an image without a name": (drop(server, "image"), "image '' is no legal reference"),
    "an image without a tag": (put(server, "localhost:5000/app", "image"), "has no tag and no digest"),
    "no memory limit": (drop(server, "resources", "limits", "memory"), "resources.limits.memory is missing"),
    "no CPU request": (drop(job_container, "resources", "requests", "cpu"), "resources.requests.cpu is missing"),
    "no quantity": (put(server, "one", "resources", "limits", "cpu"), "resources.limits.cpu: 'one' is no quantity"),
    "a request above the limit": (
        put(server, "900", "resources", "requests", "cpu"),
        "the cpu request 900 is above the limit",
    ),
    "memory that is not there": (
        put(server, "1Mi", "resources", "requests", "memory"),
        "memory request and limit must be equal",
    ),
    "a variable twice": (
        both(*[append(server, {"name": "MORE", "value": "1"}, "env")] * 2),
        "env: 'MORE' stands there twice",
    ),
    "a variable that is a number": (
        append(server, {"name": "MORE", "value": 1}, "env"),
        "env: the value of 'MORE' must be text",
    ),
    "a nameless variable that is a number": (append(server, {"value": 1}, "env"), "env: the value of None must be"),
    "a port with an illegal name": (port(name="More_Ports"), "port 9999: 'More_Ports' is no port name"),
    "a port with a long name": (port(name="sixteen-letters-"), "'sixteen-letters-' is no port name"),
    "a port without a name": (port(name=None), "port 9999: None is no port name"),
    "a port of the node": (port(hostPort=9_999), "port 'more': hostPort must not be there"),
    "a port's name twice": (same_port("name"), "ports: name "),
    "a port's number twice": (same_port("containerPort"), "ports: containerPort "),
    "no startup probe": (drop(server, "startupProbe"), "startupProbe is missing"),
    "no readiness probe": (drop(server, "readinessProbe"), "readinessProbe is missing"),
    "a probe that asks no path": (
        put(server, {"tcpSocket": {"port": "http"}}, "livenessProbe"),
        "livenessProbe is missing, or asks no path",
    ),
    "a probe of a path that is not there": (
        put(server, "/health", "readinessProbe", "httpGet", "path"),
        "readinessProbe: the application has no path '/health'; it has ",
    ),
    "a probe of a port that is not there": (
        put(server, "gone", "livenessProbe", "httpGet", "port"),
        "livenessProbe: the container has no port 'gone'",
    ),
    "a probe that kills a server that loads": (
        live_as_ready,
        "/readyz does not answer what this probe asks; use /livez",
    ),
    "a mount without a volume": (
        append(server, {"name": "gone", "mountPath": "/more"}, "volumeMounts"),
        "volumeMounts: the pod has no volume 'gone'",
    ),
    "two mounts in one place": (
        both(
            volume(emptyDir={"sizeLimit": "1Mi"}),
            *[append(server, {"name": "more", "mountPath": "/more"}, "volumeMounts")] * 2,
        ),
        "volumeMounts: /more stands there twice",
    ),
}

LINK_CASES: dict[str, tuple[Mutation, Expected]] = {
    "an unknown kind": (foreign("apps/v1", "StatefulSet"), "unknown kind 'StatefulSet'; add it to VERSIONS"),
    "an old version": (
        put(BUDGET, "policy/v1beta1", "apiVersion"),
        "apiVersion 'policy/v1beta1' should be policy/v1",
    ),
    "an illegal name": (put(BUDGET, "My_Budget", "metadata", "name"), "'My_Budget' is no RFC 1123 label"),
    "a document twice": (twice("PodDisruptionBudget"), " stands there twice"),
    "two namespaces": (twice("Namespace", "more"), "there must be one Namespace, not 2"),
    "no namespace": (without("Namespace"), "there must be one Namespace, not 0"),
    "a namespace that admits everything": (
        put(of("Namespace"), "baseline", "metadata", "labels", "pod-security.kubernetes.io/enforce"),
        "pod-security.kubernetes.io/enforce must be restricted",
    ),
    "a document in another namespace": (
        put(BUDGET, "elsewhere", "metadata", "namespace"),
        "namespace 'elsewhere' should be ",
    ),
    "a document in no namespace": (drop(BUDGET, "metadata", "namespace"), "namespace None should be "),
    "a word that waits": (append(server, "see TODO", "args"), "'TODO' is a placeholder"),
    "brackets that wait": (
        put(of("Ingress"), "api.<your-host>", "spec", "ingressClassName"),
        "'<your-host>' is a placeholder",
    ),
    "letters that wait in a list": (put(server, ["--key", "xxxx"], "args"), "'xxxx' is a placeholder"),
    "a secret in git": (foreign("v1", "Secret"), "the values of a Secret must not be in git"),
    "a deployment that selects nothing": (
        put(of("Deployment"), ABSENT, "spec", "selector", "matchLabels"),
        f": selector {ABSENT} finds no pod",
    ),
    "a deployment that selects the pods of a job": (
        put(of("Deployment"), {"task": "job"}, "spec", "selector", "matchLabels"),
        ": selector {'task': 'job'} finds no pod",
    ),
    "a service that selects nothing": (put(of("Service"), ABSENT, "spec", "selector"), f"{ABSENT} finds no pod"),
    "a service without a selector": (drop(of("Service"), "spec", "selector"), ": selector {} finds no pod"),
    "a budget that selects nothing": (
        put(BUDGET, ABSENT, "spec", "selector", "matchLabels"),
        f": selector {ABSENT} finds no pod",
    ),
    "a policy that selects nothing": (
        both(
            put(of("NetworkPolicy"), ABSENT, "spec", "podSelector", "matchLabels"),
            drop(of("NetworkPolicy"), "spec", "ingress"),
        ),
        f": podSelector {ABSENT} finds no pod",
    ),
    "a spread that selects nothing": (
        put(pod, [{"labelSelector": {"matchLabels": ABSENT}}], "topologySpreadConstraints"),
        f": topologySpreadConstraints {ABSENT} finds no pod",
    ),
    "a selector that changes with a release": (
        both(
            put(of("Deployment"), "1", "spec", "selector", "matchLabels", "version"),
            put(of("Deployment"), "1", "spec", "template", "metadata", "labels", "version"),
        ),
        ": selector holds 'version', which changes with a release",
    ),
    "no service account": (put(pod, "gone", "serviceAccountName"), "there is no ServiceAccount 'gone'"),
    "settings that are not there": (
        append(server, {"configMapRef": {"name": "gone"}}, "envFrom"),
        "there is no ConfigMap 'gone'",
    ),
    "a volume of a ConfigMap that is not there": (volume(configMap={"name": "gone"}), "there is no ConfigMap 'gone'"),
    "a volume of a secret that nothing shows": (
        volume(secret={"secretName": "gone", "optional": True}),
        "there is no Secret 'gone' in secret.example.yaml",
    ),
    "settings from a secret that nothing shows": (
        append(server, {"secretRef": {"name": "gone"}}, "envFrom"),
        "there is no Secret 'gone' in secret.example.yaml",
    ),
    "a ConfigMap's key that is not there": (variable("configMapKeyRef", "gone", str), "' has no key 'gone'"),
    "a secret's key that nothing shows": (
        variable("secretKeyRef", "gone", lambda: named(of("Secret"))(examples())),
        "' has no key 'gone'",
    ),
    "a service to a port that is not there": (
        put(service_port, "gone", "targetPort"),
        ": the pods have no port 'gone'",
    ),
    "a port of the node without a service there": (
        both(put(of("Service"), "ClusterIP", "spec", "type"), put(service_port, 30_000, "nodePort")),
        "nodePort needs type NodePort or LoadBalancer, not ClusterIP",
    ),
    "a port of the node out of range": (
        both(put(of("Service"), "NodePort", "spec", "type"), put(service_port, 80, "nodePort")),
        "nodePort 80 must be from 30000 to 32767",
    ),
    "an ingress to no service": (backend("Ingress", name="gone"), "ingress: there is no Service 'gone'"),
    "an ingress to no port": (backend("Ingress", port={"number": 9_999}), "' has no port 9999"),
    "an ingress to no named port": (backend("Ingress", port={"name": "gone"}), "' has no port 'gone'"),
    "a route to no service": (backend("HTTPRoute", name="gone"), "httproute: there is no Service 'gone'"),
    "a route to no port": (backend("HTTPRoute", port=9_999), "' has no port 9999"),
    "a monitor of no service": (
        put(of("ServiceMonitor"), ABSENT, "spec", "selector", "matchLabels"),
        f"no Service with the labels {ABSENT} has a port",
    ),
    "a monitor of every service": (drop(of("ServiceMonitor"), "spec", "selector"), "no Service with the labels {}"),
    "a monitor of no port": (monitor(port="gone"), " has a port 'gone'"),
    "a monitor of no path": (monitor(path="/stats"), "the application has no path '/stats'"),
    "a policy for a port that is not there": (policy_port, "networkpolicy: the pods have no port 'gone'"),
}

OPERATION_CASES: dict[str, tuple[Mutation, Expected]] = {
    "a setting that is a number": (put(of("ConfigMap"), 1, "data", "MORE"), "the value of 'MORE' must be text"),
    "a server on another port": (
        put(of("ConfigMap"), "1", "data", "SERVE_PORT"),
        "the server listens on SERVE_PORT 1, the container on ",
    ),
    "more threads than cores": (
        put(of("ConfigMap"), "256", "data", "SERVE_THREADS"),
        "SERVE_THREADS 256 is more than the ",
    ),
    "no wait before the end": (drop(server, "lifecycle"), "lifecycle.preStop.sleep is missing"),
    "an end that comes too early": (
        put(pod, 5, "terminationGracePeriodSeconds"),
        "terminationGracePeriodSeconds must be above",
    ),
    "an end without any grace": (
        put(pod, 0, "terminationGracePeriodSeconds"),
        "terminationGracePeriodSeconds must be above",
    ),
    "a grace that is longer than the end": (
        put(of("ConfigMap"), "9000", "data", "SERVE_GRACE_SECONDS"),
        "terminationGracePeriodSeconds must be above preStop and SERVE_GRACE_SECONDS together, 90",
    ),
    "a grace that is no number": (
        put(of("ConfigMap"), "20s", "data", "SERVE_GRACE_SECONDS"),
        (
            "SERVE_GRACE_SECONDS must be a number of seconds, not 20s",
            "SERVE_GRACE_SECONDS: Input should be a valid int",
        ),
    ),
    "a setting that the server does not know": (
        put(of("ConfigMap"), "3", "data", "SERVE_MAXROWS"),
        "the server has no setting SERVE_MAXROWS",
    ),
    "a setting that the server refuses": (
        put(of("ConfigMap"), "verbose", "data", "SERVE_LOG_LEVEL"),
        "SERVE_LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error', not 'verbose'",
    ),
    "a key in git": (
        put(of("ConfigMap"), "open-sesame", "data", "SERVE_API_KEY"),
        "SERVE_API_KEY is a secret and must not be in git",
    ),
    "a rollout that takes good pods away": (
        put(of("Deployment"), 1, "spec", "strategy", "rollingUpdate", "maxUnavailable"),
        "rollingUpdate.maxUnavailable must be 0",
    ),
    "a rollout that recreates": (
        put(of("Deployment"), {"type": "Recreate"}, "spec", "strategy"),
        "rollingUpdate.maxUnavailable must be 0",
    ),
    "a rollout without a deadline": (
        drop(of("Deployment"), "spec", "progressDeadlineSeconds"),
        "progressDeadlineSeconds is missing",
    ),
    "an autoscaler upside down": (put(SCALER, 99, "spec", "minReplicas"), "minReplicas 99 is above maxReplicas"),
    "an autoscaler of nothing": (
        put(SCALER, "gone", "spec", "scaleTargetRef", "name"),
        "there is no Deployment 'gone'",
    ),
    "an autoscaler of another kind": (
        put(SCALER, "StatefulSet", "spec", "scaleTargetRef", "kind"),
        "there is no Deployment ",
    ),
    "two who set the number of pods": (put(of("Deployment"), 3, "spec", "replicas"), "replicas must not be set"),
    "an autoscaler that measures what nobody requests": (
        put(metric, "ephemeral-storage", "resource", "name"),
        "it measures ephemeral-storage against the request, and container 'server' requests none",
    ),
    "an autoscaler that wants too much": (
        put(metric, 0, "resource", "target", "averageUtilization"),
        "averageUtilization must be a share of the request in per cent, not 0",
    ),
    "a budget that keeps every pod": (put(BUDGET, 0, "spec", "maxUnavailable"), "it never lets a pod go"),
    "a budget that keeps all per cent": (kept("100%"), "it never lets a pod go"),
    "a budget that keeps most per cent": (kept("90%"), "it never lets a pod go"),
    "a budget that says both": (put(BUDGET, 0, "spec", "minAvailable"), "it must say one of"),
    "a budget that keeps what an autoscaler keeps": (
        lambda documents: kept(SCALER(documents)["spec"]["minReplicas"])(documents),
        "it never lets a pod go",
    ),
    "a budget that keeps all replicas": (kept_by_budget, "it never lets a pod go"),
    "a job that starts again": (
        put(of("Job"), "Always", "spec", "template", "spec", "restartPolicy"),
        "job: restartPolicy must be Never or OnFailure",
    ),
    "a job that stays": (drop(of("Job"), "spec", "ttlSecondsAfterFinished"), "ttlSecondsAfterFinished is missing"),
    "a job that hangs": (
        drop(of("CronJob"), "spec", "jobTemplate", "spec", "activeDeadlineSeconds"),
        "cronjob: activeDeadlineSeconds is missing",
    ),
    "a cron job that overlaps": (
        put(of("CronJob"), "Allow", "spec", "concurrencyPolicy"),
        "concurrencyPolicy must be Forbid",
    ),
    "a cron job at no time": (put(of("CronJob"), "5 4 * *", "spec", "schedule"), "'5 4 * *' is no schedule"),
}

CASES = POD_CASES | LINK_CASES | OPERATION_CASES


def assert_just(problems: list[str], expected: Expected) -> None:
    """Every fragment is in some problem, and every problem holds a fragment."""
    fragments = (expected,) if isinstance(expected, str) else expected
    assert problems
    assert [fragment for fragment in fragments if not any(fragment in problem for problem in problems)] == []
    assert [problem for problem in problems if not any(fragment in problem for fragment in fragments)] == []


@pytest.mark.parametrize(("mutate", "expected"), CASES.values(), ids=CASES)
def test_one_defect_gives_just_its_own_message(mutate: Mutation, expected: Expected) -> None:
    documents = whole()
    mutate(documents)
    assert_just(problems_of(documents), expected)


# --- files


def kustomization(folder: Path, **changed: object) -> None:
    path = folder / "kustomization.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(yaml.safe_dump(found | changed), encoding="utf-8")


def listing(folder: Path, *more: object) -> None:
    path = folder / "kustomization.yaml"
    kustomization(folder, resources=[*yaml.safe_load(path.read_text(encoding="utf-8"))["resources"], *more])


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def extra_settings(folder: Path, **changed: object) -> None:
    """A file with a correct ConfigMap of its own, listed nowhere."""
    (folder / "extra.yaml").write_text(yaml.safe_dump(document(files(), "v1", "ConfigMap") | changed), encoding="utf-8")


def component(folder: Path, **changed: object) -> Path:
    """A correct component, but for what is changed in its document."""
    made = folder / "components" / "extra"
    made.mkdir(parents=True)
    head = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    kustomization(made, **head, resources=["extra.yaml"])
    extra_settings(made, **changed)
    return made


def budget_file(folder: Path, text: str) -> None:
    """Nothing refers to a budget, so a file that cannot be read breaks nothing else."""
    (folder / "disruption-budget.yaml").write_text(text, encoding="utf-8")


FILE_CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no kustomization": (lambda folder: (folder / "kustomization.yaml").unlink(), "kustomization.yaml is missing"),
    "a file that is not listed": (extra_settings, "kustomization.yaml: extra.yaml is there, but not listed"),
    "a file that is not there": (lambda folder: listing(folder, "gone.yaml"), "gone.yaml is listed, but not there"),
    "a ConfigMap whose changes roll nothing": (
        lambda folder: replace(folder / "configmap.yaml", "needsHashSuffix: enabled", "other: enabled"),
        "needsHashSuffix: enabled a change of it would not roll the pods",
    ),
    "an example that is applied": (
        lambda folder: listing(folder, "secret.example.yaml"),
        "secret.example.yaml is an example and must not be applied",
    ),
    "a file that is listed twice": (
        lambda folder: listing(folder, "deployment.yaml"),
        "deployment.yaml is listed twice",
    ),
    "a patch that is not there": (
        lambda folder: kustomization(folder, patches=[{"path": "gone.yaml"}]),
        "gone.yaml is listed, but not there",
    ),
    "a component that is not there": (
        lambda folder: kustomization(folder, components=["components/gone"]),
        "kustomization.yaml: there is no component components/gone",
    ),
    "a component without a kustomization": (
        lambda folder: (component(folder) / "kustomization.yaml").unlink(),
        "components/extra/kustomization.yaml is missing",
    ),
    "a component's file that is not listed": (
        lambda folder: kustomization(component(folder), resources=[]),
        "components/extra/kustomization.yaml: extra.yaml is there, but not listed",
    ),
    "a component's document with a defect": (
        lambda folder: component(folder, data={"MORE": 1}),
        "extra: configmap/added-configmap: the value of 'MORE' must be text",
    ),
    "a component's document that the base has": (
        lambda folder: component(folder, metadata=of("ConfigMap")(files())["metadata"]),
        " stands there twice",
    ),
    "a component's file that is no YAML": (
        lambda folder: (component(folder) / "extra.yaml").write_text("a: [", encoding="utf-8"),
        "components/extra/extra.yaml: no valid YAML",
    ),
    "no YAML": (lambda folder: budget_file(folder, "kind: [a"), "disruption-budget.yaml: no valid YAML"),
    "a key twice": (lambda folder: budget_file(folder, "kind: a\nkind: b"), "'kind' stands here twice"),
    "a key twice inside": (lambda folder: budget_file(folder, "a:\n  - b: 1\n    b: 2"), "'b' stands here twice"),
    "no mapping": (lambda folder: budget_file(folder, "- a"), "disruption-budget.yaml: a document that is no mapping"),
    "no UTF-8": (
        lambda folder: (folder / "disruption-budget.yaml").write_bytes(b"a: \xff"),
        "disruption-budget.yaml: no valid YAML",
    ),
    "a kustomization that is no YAML": (
        lambda folder: (folder / "kustomization.yaml").write_text("resources: [", encoding="utf-8"),
        "kustomization.yaml: no valid YAML",
    ),
    "an empty kustomization": (
        lambda folder: (folder / "kustomization.yaml").write_text("", encoding="utf-8"),
        "is there, but not listed",
    ),
    "a kustomization that lists nothing": (
        lambda folder: kustomization(folder, resources=None),
        "is there, but not listed",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what `tools/check_k8s.py` reads; returns its manifests."""
    for name in ("k8s", "tools", "src"):
        shutil.copytree(check_k8s.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "k8s"


@pytest.mark.parametrize(("change", "expected"), FILE_CASES.values(), ids=FILE_CASES)
def test_one_defect_in_files_gives_just_its_own_message(
    folder: Path, change: Callable[[Path], object], expected: str
) -> None:
    change(folder)
    assert_just(list(check_k8s.in_folder(folder)), expected)


def inline_patch(folder: Path) -> None:
    patch = {"target": {"kind": "Deployment"}, "patch": "- op: remove\n  path: /spec/replicas"}
    kustomization(folder, patches=[patch])


def patch_in_file(folder: Path) -> None:
    """A patch of a Deployment is no Deployment: it need not keep the rules of one."""
    made = component(folder)
    patch = document(files(), "apps/v1", "Deployment", spec={"template": {"spec": {}}})
    (made / "patch.yaml").write_text(yaml.safe_dump(patch), encoding="utf-8")
    kustomization(made, patches=[{"path": "patch.yaml"}])


@pytest.mark.parametrize(
    "change",
    [lambda folder: None, component, inline_patch, patch_in_file],
    ids=["the project's own", "a component", "an inline patch", "a patch in a file"],
)
def test_correct_files_give_no_problem(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    assert list(check_k8s.in_folder(folder)) == []


# --- the command line


def check(folder: Path, *arguments: str, piped: str = "") -> tuple[int, str, str]:
    """Run the tool in the project that a k8s folder is part of: exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "tools/check_k8s.py", *arguments],
        cwd=folder.parent,
        input=piped,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_says_that_correct_manifests_agree(folder: Path) -> None:
    code, out, err = check(folder)
    assert (code, err) == (0, "")
    assert out == "ok  k8s: the manifests agree with each other and with the application\n"


def test_the_command_prints_one_line_for_each_problem(folder: Path) -> None:
    listing(folder, "gone.yaml")
    extra_settings(folder, data={"MORE": 1})
    code, out, err = check(folder)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "error: k8s/kustomization.yaml: gone.yaml is listed, but not there",
        "error: k8s/kustomization.yaml: extra.yaml is there, but not listed",
        "error: configmap/added-configmap: the value of 'MORE' must be text: put it in quotes",
    ]


def test_the_command_reads_manifests_from_standard_input(folder: Path) -> None:
    documents = whole()
    assert check(folder, "-", piped=yaml.safe_dump_all(documents))[::2] == (0, "")
    put(BUDGET, 0, "spec", "maxUnavailable")(documents)
    code, out, err = check(folder, "-", piped=yaml.safe_dump_all(documents))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("error: poddisruptionbudget/")
    assert "it never lets a pod go" in err


def test_nothing_on_standard_input_is_a_problem(folder: Path) -> None:
    assert check(folder, "-")[::2] == (1, "error: there must be one Namespace, not 0\n")


# --- diagnosis


def new_pod(phase: str = "Running", ready: bool = False, restarts: int = 0, **state: object) -> Document:
    """A pod as Kubernetes gives it, with what the cases look at; `state` and `lastState` are the server's."""
    container = {"name": "server", "image": "registry/app:1", "restartCount": restarts, **state}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": "new"},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": [container]},
    }


def waiting(reason: str, message: str = "") -> dict[str, object]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(reason: str, code: int) -> dict[str, object]:
    return {"terminated": {"reason": reason, "exitCode": code}}


def unschedulable() -> Document:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    return {"metadata": {"name": "new"}, "status": {"phase": "Pending", "conditions": [condition]}}


def said(*messages: str, pod: str = "new") -> Documents:
    return [{"involvedObject": {"name": pod}, "message": message} for message in messages]


def rollout(*conditions: dict[str, str]) -> Document:
    return {"status": {"conditions": list(conditions)}}


CRASH = waiting("CrashLoopBackOff", "back-off 10s restarting failed container")
NO_MOUNT = 'MountVolume.SetUp failed for volume "secrets" : secret "x" not found'
NO_IMAGE = "the image registry/app:1 cannot be pulled"
MAKE_SECRET = "make it as k8s/secret.example.yaml says, or mark it optional"

# The pod, what Kubernetes said about it, what is wrong, how to mend it, and whether waiting is in vain.
TROUBLES: dict[str, tuple[Document, Documents, str, str, bool]] = {
    "an image that cannot be pulled": (
        new_pod("Pending", state=waiting("ErrImagePull", "not found")),
        said("Failed to pull image"),
        NO_IMAGE,
        "`make image push`, or say which with IMAGE=",
        False,
    ),
    "an image that still cannot be pulled": (
        new_pod("Pending", state=waiting("ImagePullBackOff")),
        [],
        NO_IMAGE,
        "`make image push`",
        False,
    ),
    "an image with an illegal name": (
        new_pod("Pending", state=waiting("InvalidImageName")),
        [],
        NO_IMAGE,
        "IMAGE=",
        False,
    ),
    "no ConfigMap for variables": (
        new_pod("Pending", state=waiting("CreateContainerConfigError", 'configmap "x" not found')),
        [],
        "there is no ConfigMap 'x'",
        "list its file in k8s/kustomization.yaml",
        True,
    ),
    "no secret for variables": (
        new_pod("Pending", state=waiting("CreateContainerConfigError", 'secret "x" not found')),
        [],
        "there is no Secret 'x'",
        MAKE_SECRET,
        True,
    ),
    "no key for a variable": (
        new_pod("Pending", state=waiting("CreateContainerConfigError", "couldn't find key a in ConfigMap b/c")),
        [],
        "the container cannot be made: couldn't find key a in ConfigMap b/c",
        "mend k8s/deployment.yaml",
        False,
    ),
    "no secret for a volume": (
        new_pod("Pending", state=waiting("ContainerCreating")),
        said("Scheduled", NO_MOUNT),
        "there is no Secret 'x'",
        MAKE_SECRET,
        True,
    ),
    "too little memory": (
        new_pod(restarts=1, state=CRASH, lastState=ended("OOMKilled", 137)),
        [],
        "the server needs more memory than it may have",
        "raise memory in k8s/deployment.yaml",
        True,
    ),
    "a server that ended once": (
        new_pod(restarts=1, state=CRASH, lastState=ended("Error", 1)),
        [],
        "the server ends with code 1",
        "see its logs above",
        False,
    ),
    "a server that ends again and again": (
        new_pod(restarts=3, state=CRASH, lastState=ended("Error", 2)),
        [],
        "the server ends with code 2",
        "see its logs above",
        True,
    ),
    "a server that ended and runs again": (
        new_pod(restarts=2, state={"running": {}}, lastState=ended("Error", 3)),
        [],
        "the server ends with code 3",
        "see its logs above",
        True,
    ),
    "no room": (
        unschedulable(),
        said("0/1 nodes are available"),
        "no node has room for a pod: Insufficient cpu",
        "lower what k8s/deployment.yaml requests",
        False,
    ),
}


@pytest.mark.parametrize(("pod", "events", "what", "fix", "final"), TROUBLES.values(), ids=TROUBLES)
def test_the_trouble_of_a_pod_says_what_is_wrong_and_how_to_mend_it(
    pod: Document, events: Documents, what: str, fix: str, final: bool
) -> None:
    found = trouble_of(rollout(), [pod], events)
    assert found is not None
    assert found.what == what
    assert fix in found.fix
    assert found.final is final
    assert found.pod == "new"
    assert list(found.events) == [event["message"] for event in events]


@pytest.mark.parametrize(
    ("pod", "events"),
    [
        (new_pod(ready=True, state={"running": {}}), said(NO_MOUNT)),
        (new_pod(state={"running": {}}), said("Readiness probe failed")),
        (new_pod("Pending", state=waiting("ContainerCreating")), said(NO_MOUNT, pod="old")),
    ],
    ids=["one that serves", "one that starts", "one that waits while another is in trouble"],
)
def test_a_pod_that_needs_only_time_is_in_no_trouble(pod: Document, events: Documents) -> None:
    assert trouble_of(rollout({"type": "Progressing", "reason": "ReplicaSetUpdated"}), [pod], events) is None


@pytest.mark.parametrize(
    ("message", "what", "fix"),
    [
        (
            '0/1 nodes are available: persistentvolumeclaim "models" not found.',
            "there is no PersistentVolumeClaim 'models'",
            "make it with the storage",
        ),
        ("pod has unbound immediate PersistentVolumeClaims", "a volume claim is not bound", "kubectl get pvc"),
        ("0/1 nodes: 1 Insufficient memory.", "no node has room for a pod", "lower what k8s/deployment.yaml requests"),
        ("0/1 nodes: 1 node(s) didn't match Pod's node affinity/selector", "no node fits a pod", "nodeSelector"),
    ],
)
def test_what_keeps_a_pod_from_a_node_is_told_apart(message: str, what: str, fix: str) -> None:
    pod = unschedulable()
    pod["status"]["conditions"][0]["message"] = message
    found = trouble_of(rollout(), [pod], [])
    assert found is not None
    assert what in found.what
    assert fix in found.fix


def test_an_image_that_is_none_is_refused_before_anything_is_applied() -> None:
    for image in ("", "Bad_Name", "a b", "registry/name:tag:tag", "-x"):
        with pytest.raises(DeployError, match="names no image: write IMAGE=registry/name:tag"):
            release(image)


def test_pods_that_the_cluster_refuses_are_final_trouble_without_a_pod() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}
    found = trouble_of(rollout(refused), [], [])
    assert found is not None
    assert found.what == "the cluster refuses the pods: violates PodSecurity"
    assert found.fix == "mend k8s/deployment.yaml"
    assert (found.pod, found.events, found.final) == ("", (), True)
    assert trouble_of(rollout(refused | {"status": "False"}), [], []) is None


def test_a_pod_that_never_becomes_ready_is_final_trouble_after_the_deadline() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    serving = new_pod(ready=True, state={"running": {}}) | {"metadata": {"name": "serving"}}
    probed = ["Readiness probe failed: 503"] * 2
    found = trouble_of(rollout(late), [serving, new_pod(state={"running": {}})], said(*probed))
    assert found is not None
    assert found.what == "pod new runs, but does not become ready"
    assert "readiness probe" in found.fix
    assert "`make image push deploy`" in found.fix
    assert (found.pod, found.events, found.final) == ("new", ("Readiness probe failed: 503",), True)


def test_trouble_comes_with_the_newest_events_each_once() -> None:
    messages = [f"message {number}" for number in range(SHOWN_EVENTS + 2)]
    found = trouble_of(rollout(), [unschedulable()], said(messages[0], *messages, messages[-1]))
    assert found is not None
    assert list(found.events) == messages[-SHOWN_EVENTS:]


# --- deploy


def progress(generation: int = 2, observed: int = 2, wanted: int = 3, **status: int) -> str | None:
    spec, status = {"replicas": wanted}, {"observedGeneration": observed, **status}
    return progress_of({"metadata": {"generation": generation}, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (
            {"observed": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3},
            "waiting for the cluster to notice",
        ),
        ({}, "0 of 3 pods are new"),
        ({"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3}, "1 of 3 pods are new"),
        ({"replicas": 5, "updatedReplicas": 3, "availableReplicas": 5}, "2 old pods go"),
        ({"replicas": 3, "updatedReplicas": 3}, "0 of 3 pods are ready"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}, "2 of 3 pods are ready"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, None),
        ({"wanted": 0}, None),
    ],
)
def test_progress_says_what_a_rollout_waits_for(numbers: dict[str, int], expected: str | None) -> None:
    assert progress(**numbers) == expected


def test_progress_of_a_deployment_that_is_new_to_the_cluster() -> None:
    assert progress_of({"metadata": {"generation": 1}, "spec": {"replicas": 1}}) == "waiting for the cluster to notice"


def containers(kind: str) -> Iterator[Document]:
    """A document of a kind whose pods have a server and something beside it, before and after a release."""
    for image, annotations in (
        ("old:1", {"kept": "yes"}),
        ("new:2", {"kept": "yes", "kubernetes.io/change-cause": "new:2"}),
    ):
        pods = [{"name": "beside", "image": "beside:1"}, {"name": "server", "image": image}]
        yield {
            "kind": kind,
            "metadata": {"name": "app", "annotations": annotations},
            "spec": {"template": {"spec": {"containers": pods}}},
        }


def test_only_the_server_of_a_deployment_gets_the_image() -> None:
    before, after = containers("Deployment")
    assert with_image(before, "new:2") == after


@pytest.mark.parametrize("kind", ["Job", "StatefulSet"])
def test_other_documents_stay_as_they_are(kind: str) -> None:
    before, _ = containers(kind)
    assert with_image(copy.deepcopy(before), "new:2") == before


def test_the_image_is_the_cause_of_a_change_in_the_projects_own_deployment() -> None:
    before = of("Deployment")(own())
    after = with_image(copy.deepcopy(before), "new:2")
    assert server([after])["image"] == "new:2"
    assert after["metadata"]["annotations"]["kubernetes.io/change-cause"] == "new:2"
    put(server, server([before])["image"], "image")([after])
    del after["metadata"]["annotations"]["kubernetes.io/change-cause"]
    assert after["spec"] == before["spec"]
