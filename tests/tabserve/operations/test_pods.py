import copy

import pytest

from tests.tabserve.operations.conftest import Problems
from tests.tabserve.operations.documents import (
    ADDITIONS,
    Cases,
    Documents,
    Expected,
    Mutation,
    add_init_container,
    append,
    assert_just,
    both,
    drop,
    job_container,
    job_pod,
    of,
    pod,
    put,
    server,
    volume,
)


def port(**content: object) -> Mutation:
    return append(server, {"name": "more", "containerPort": 9_999, **content}, "ports")


def same_port(key: str) -> Mutation:
    return lambda documents: port(**{key: server(documents)["ports"][0][key]})(documents)


def live_as_ready(documents: Documents) -> None:
    server(documents)["livenessProbe"]["httpGet"]["path"] = server(documents)["readinessProbe"]["httpGet"]["path"]


def another_deployment(documents: Documents) -> None:
    """A cache, say: it has other probes, and is not asked for settings of the server."""
    made = copy.deepcopy(of("Deployment")(documents))
    made["metadata"]["name"] = "cache"
    labels = made["spec"]["selector"]["matchLabels"] = {"app": "cache"}
    made["spec"]["template"]["metadata"]["labels"] = labels
    spec = made["spec"]["template"]["spec"]
    spec["topologySpreadConstraints"] = []
    (container,) = spec["containers"]
    for key in ("startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "envFrom"):
        container.pop(key)
    container |= {"name": "cache", "ports": [{"name": "cache", "containerPort": 6_379}]}
    documents.append(made)


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_each_correct_document_alone_gives_no_problem(add: Mutation, own: Documents, problems_of: Problems) -> None:
    add(own)
    assert problems_of(own) == []


def test_the_manifests_give_no_problem_with_and_without_all_correct_documents(
    own: Documents, whole: Documents, problems_of: Problems
) -> None:
    assert problems_of(own) == []
    assert problems_of(whole) == []


RIGHT: dict[str, Mutation] = {
    "an init container": add_init_container,
    "an image by its digest": put(server, f"registry.internal:5000/a/b_c@sha256:{'0' * 64}", "image"),
    "an image by its tag and digest": put(server, f"a/b:1@sha256:{'0' * 64}", "image"),
    "a capability for low ports": put(server, ["NET_BIND_SERVICE"], "securityContext", "capabilities", "add"),
    "a container with another user": put(server, 10_000, "securityContext", "runAsUser"),
    "a sidecar": lambda documents: pod(documents)["containers"].append(
        {key: server(documents)[key] for key in ("image", "resources", "securityContext")} | {"name": "beside"}
    ),
    "a sidecar with a port": lambda documents: pod(documents)["containers"].append(
        {key: server(documents)[key] for key in ("image", "resources", "securityContext")}
        | {"name": "beside", "ports": [{"name": "more", "containerPort": 9_999}]}
    ),
    "another deployment": another_deployment,
    "profiles of the runtime": both(
        put(pod, {"type": "RuntimeDefault"}, "securityContext", "appArmorProfile"),
        put(server, {"type": "container_t"}, "securityContext", "seLinuxOptions"),
    ),
    "a startup probe of readiness": put(server, "/readyz", "startupProbe", "httpGet", "path"),
    "a port by its number": lambda documents: put(
        server, server(documents)["ports"][0]["containerPort"], "readinessProbe", "httpGet", "port"
    )(documents),
}


@pytest.mark.parametrize("change", RIGHT.values(), ids=RIGHT)
def test_what_is_allowed_gives_no_problem(change: Mutation, whole: Documents, problems_of: Problems) -> None:
    change(whole)
    assert problems_of(whole) == []


CASES: Cases = {
    "a pod that may be root": (put(pod, False, "securityContext", "runAsNonRoot"), "runAsNonRoot must be true"),
    "a pod with no user": (drop(pod, "securityContext", "runAsUser"), "runAsUser must be a number of 10000 or more"),
    "a pod with a user of the system": (
        put(pod, 1_000, "securityContext", "runAsUser"),
        "securityContext.runAsUser 1000 must be a number of 10000 or more",
    ),
    "a pod without seccomp": (
        put(pod, "Unconfined", "securityContext", "seccompProfile", "type"),
        "securityContext.seccompProfile.type 'Unconfined' must be RuntimeDefault",
    ),
    "a pod with a token": (drop(pod, "automountServiceAccountToken"), "automountServiceAccountToken must be false"),
    "a pod with variables of services": (put(pod, True, "enableServiceLinks"), "enableServiceLinks must be false"),
    "a pod on the node's network": (put(pod, True, "hostNetwork"), "hostNetwork must not be true"),
    "a pod among the node's processes": (put(pod, True, "hostPID"), "hostPID must not be true"),
    "a pod in the node's memory": (put(pod, True, "hostIPC"), "hostIPC must not be true"),
    "a pod without the server": (
        put(server, "main", "name"),
        "no Deployment has a container 'server': `make deploy` gives it the image",
    ),
    "a folder of the node": (volume(hostPath={"path": "/"}), "volume 'more': hostPath is not allowed"),
    "a folder that can fill the node": (volume(emptyDir={}), "volume 'more': emptyDir needs a sizeLimit"),
    "a volume twice": (
        both(*[volume(emptyDir={"sizeLimit": "1Mi"})] * 2),
        "volumes: duplicate name 'more'",
    ),
    "a container twice": (
        lambda documents: job_pod(documents)["containers"].append(job_container(documents)),
        "containers: duplicate name 'job'",
    ),
    "a container that may gain rights": (
        drop(server, "securityContext", "allowPrivilegeEscalation"),
        "container 'server': securityContext.allowPrivilegeEscalation must be false",
    ),
    "a privileged container": (put(server, True, "securityContext", "privileged"), "privileged must not be true"),
    "a container that may write anywhere": (
        put(server, False, "securityContext", "readOnlyRootFilesystem"),
        "readOnlyRootFilesystem must be true",
    ),
    "a container that keeps capabilities": (
        put(server, ["CHOWN"], "securityContext", "capabilities", "drop"),
        "capabilities.drop ['CHOWN'] must contain ALL",
    ),
    "a container that drops no capabilities": (
        drop(server, "securityContext", "capabilities"),
        "capabilities.drop must contain ALL",
    ),
    "a container that adds capabilities": (
        put(server, ["NET_BIND_SERVICE", "SYS_ADMIN"], "securityContext", "capabilities", "add"),
        "capabilities.add ['NET_BIND_SERVICE', 'SYS_ADMIN'] must contain NET_BIND_SERVICE at most",
    ),
    "a container that is user 0": (
        put(server, 0, "securityContext", "runAsUser"),
        "container 'server': securityContext.runAsUser 0 must be a number of 10000 or more",
    ),
    "a container that may be root": (
        put(server, False, "securityContext", "runAsNonRoot"),
        "container 'server': securityContext.runAsNonRoot must not be false",
    ),
    "a container without seccomp": (
        put(server, "Unconfined", "securityContext", "seccompProfile", "type"),
        "container 'server': securityContext.seccompProfile.type 'Unconfined' must be RuntimeDefault",
    ),
    "an init container with too many rights": (
        both(add_init_container, lambda documents: pod(documents)["initContainers"][0].pop("securityContext")),
        ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities.drop"),
    ),
    "an image in capitals": (
        put(server, "registry.internal/App:1", "image"),
        "image 'registry.internal/App:1' must be registry/name:tag or registry/name@digest in lower case",
    ),
    "an image without a name": (drop(server, "image"), "image must be registry/name:tag"),
    "an image without a tag": (
        put(server, "localhost:5000/app", "image"),
        "image 'localhost:5000/app' must be registry/name:tag",
    ),
    "no memory limit": (drop(server, "resources", "limits", "memory"), "resources.limits.memory is missing"),
    "no CPU request": (drop(job_container, "resources", "requests", "cpu"), "resources.requests.cpu is missing"),
    "not a quantity": (
        put(server, "512MB", "resources", "limits", "ephemeral-storage"),
        "resources.limits.ephemeral-storage '512MB' is not a valid quantity: write 250m",
    ),
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
        "env: duplicate name 'MORE'",
    ),
    "a port with an invalid name": (port(name="More_Ports"), "port 9999: name 'More_Ports' must be up to 15 of a-z"),
    "a port with a long name": (port(name="sixteen-letters-"), "name 'sixteen-letters-' must be up to 15 of a-z"),
    "a port without a name": (port(name=None), "port 9999: name must be up to 15 of a-z"),
    "a port of the node": (port(hostPort=9_999), "port 9999: hostPort 9999 is not allowed"),
    "a port's name twice": (same_port("name"), "ports: duplicate name "),
    "a port's number twice": (same_port("containerPort"), "ports: duplicate containerPort "),
    "no startup probe": (drop(server, "startupProbe"), "startupProbe.httpGet.path must be /livez"),
    "no readiness probe": (drop(server, "readinessProbe"), "readinessProbe.httpGet.path must be /readyz"),
    "a probe without a path": (
        put(server, {"tcpSocket": {"port": "http"}}, "livenessProbe"),
        "livenessProbe.httpGet.path must be /livez",
    ),
    "a probe of a path that is not there": (
        put(server, "/health", "readinessProbe", "httpGet", "path"),
        "readinessProbe.httpGet.path '/health' must be /readyz",
    ),
    "a probe of a port that is not there": (
        put(server, "gone", "livenessProbe", "httpGet", "port"),
        "livenessProbe: the container has no port 'gone'",
    ),
    "a probe that kills a server that loads": (live_as_ready, "livenessProbe.httpGet.path '/readyz' must be /livez"),
    "a mount without a volume": (
        append(server, {"name": "gone", "mountPath": "/more"}, "volumeMounts"),
        "volumeMounts: the pod has no volume 'gone'",
    ),
    "two mounts in one place": (
        both(
            volume(emptyDir={"sizeLimit": "1Mi"}),
            *[append(server, {"name": "more", "mountPath": "/more"}, "volumeMounts")] * 2,
        ),
        "volumeMounts: duplicate mountPath '/more'",
    ),
    "a job with a token": (
        drop(job_pod, "automountServiceAccountToken"),
        "Job/added-job: automountServiceAccountToken",
    ),
    "a cron job that may be root": (
        put(of("CronJob"), False, "spec", "jobTemplate", "spec", "template", "spec", "securityContext", "runAsNonRoot"),
        "CronJob/added-cronjob: securityContext.runAsNonRoot must be true",
    ),
    "a stateful set that may be root": (
        drop(of("StatefulSet"), "spec", "template", "spec", "securityContext", "runAsNonRoot"),
        "StatefulSet/added-statefulset: securityContext.runAsNonRoot must be true",
    ),
}


@pytest.mark.parametrize(("mutate", "expected"), CASES.values(), ids=CASES)
def test_one_defect_gives_just_its_own_message(
    mutate: Mutation, expected: Expected, whole: Documents, problems_of: Problems
) -> None:
    mutate(whole)
    assert_just(problems_of(whole), expected)
