"""Rules for pod templates: Pod Security `restricted` and more, resources, probes, mounts.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabserve.operations.manifests import SERVER, Manifests, Pod, at, items, quantity, twice

Container = Mapping[str, Any]
Fields = tuple[tuple[str, str, str], ...]  # a path, a pattern for its value as Python prints it, and what to say

PRESENT, OFF = "(?!None$).*", "None|False"
USER, PROFILE = r"[1-9]\d{4,}", "RuntimeDefault|Localhost"
# Source: https://github.com/distribution/reference
NAME = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:(?:localhost|(?=[^/]*[.:])[a-zA-Z0-9][a-zA-Z0-9.-]*)(?::\d{{1,5}})?/)?{NAME}(?:/{NAME})*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
BOTH: Fields = (
    ("securityContext.appArmorProfile.type", f"None|{PROFILE}", "must be RuntimeDefault"),
    ("securityContext.seLinuxOptions.type", "None|container_(t|init_t|kvm_t|engine_t)", "must be container_t"),
    ("securityContext.windowsOptions.hostProcess", OFF, "must not be true"),
)
POD: Fields = (
    *BOTH,
    ("securityContext.runAsNonRoot", "True", "must be true"),
    ("securityContext.runAsUser", USER, "must be a number of 10000 or more"),
    ("securityContext.seccompProfile.type", PROFILE, "must be RuntimeDefault"),
    ("automountServiceAccountToken", "False", "must be false: the pod never calls the Kubernetes API"),
    ("enableServiceLinks", "False", "must be false: variables of other services could be read as settings"),
    *((f"host{what}", OFF, "must not be true") for what in ("Network", "PID", "IPC")),
)
CONTAINER: Fields = (
    *BOTH,
    ("image", f"(?=.*[:@][^/]*$){IMAGE.pattern}", "must be registry/name:tag or registry/name@digest in lower case"),
    ("securityContext.allowPrivilegeEscalation", "False", "must be false"),
    ("securityContext.privileged", OFF, "must not be true"),
    ("securityContext.procMount", "None|Default", "must be Default"),
    ("securityContext.readOnlyRootFilesystem", "True", "must be true"),
    ("securityContext.runAsNonRoot", "None|True", "must not be false"),
    ("securityContext.runAsUser", f"None|{USER}", "must be a number of 10000 or more"),
    ("securityContext.seccompProfile.type", f"None|{PROFILE}", "must be RuntimeDefault"),
    ("securityContext.capabilities.drop", ".*'ALL'.*", "must contain ALL"),
    ("securityContext.capabilities.add", r"None|\[('NET_BIND_SERVICE')?\]", "must contain NET_BIND_SERVICE at most"),
    *((f"resources.{what}", PRESENT, "is missing") for what in ("requests.cpu", "requests.memory", "limits.memory")),
)
# Ready: the model answers. Live: the process does; else a slow model would get it killed.
SERVING: Fields = (
    ("startupProbe.httpGet.path", "/livez|/readyz", "must be /livez"),
    ("readinessProbe.httpGet.path", "/readyz", "must be /readyz"),
    ("livenessProbe.httpGet.path", "/livez", "must be /livez"),
)
PORT: Fields = (
    ("name", "(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", "must be up to 15 of a-z, 0-9 and -"),
    ("hostPort", "None", "is not allowed"),
)
UNIQUE = (
    *(("containers", "name"), ("volumes", "name"), ("env", "name")),
    *(("ports", "name"), ("ports", "containerPort"), ("volumeMounts", "mountPath")),
)
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def pods(manifests: Manifests) -> Iterator[str]:
    """All rules on all pods and their containers."""
    deployed = [item["name"] for pod in manifests.pods if pod.kind == "Deployment" for item in pod.containers]
    if deployed and SERVER not in deployed:
        yield f"no Deployment has a container {SERVER!r}: `make deploy` gives it the image"
    for pod in manifests.pods:
        yield from (f"{pod.owner}: {problem}" for problem in _pod_problems(pod))
        for container in pod.containers:
            found = _container_problems(pod, container)
            yield from (f"{pod.owner}, container {container['name']!r}: {problem}" for problem in found)


def _pod_problems(pod: Pod) -> Iterator[str]:
    yield from (*wrong_fields(pod.spec, POD), *duplicates(pod.spec))
    for volume in items(pod.spec, "volumes"):
        for kind in sorted(set(volume) - {"name"} - VOLUMES):
            yield f"volume {volume['name']!r}: {kind} is not allowed in a restricted namespace"
        if "emptyDir" in volume and not at(volume, "emptyDir", "sizeLimit"):
            yield f"volume {volume['name']!r}: emptyDir needs a sizeLimit, or it can fill the node"


def _container_problems(pod: Pod, container: Container) -> Iterator[str]:
    yield from (*wrong_fields(container, CONTAINER), *duplicates(container), *resources(container))
    for port in items(container, "ports"):
        yield from (f"port {port['containerPort']}: {problem}" for problem in wrong_fields(port, PORT))
    yield from wrong_fields(container, SERVING) if container["name"] == SERVER else ()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        port = at(container, probe, "httpGet", "port")
        if port is not None and port not in port_values(container):
            yield f"{probe}: the container has no port {port!r}"
    volumes = [volume["name"] for volume in items(pod.spec, "volumes")]
    mounted = [mount["name"] for mount in items(container, "volumeMounts")]
    yield from (f"volumeMounts: the pod has no volume {name!r}" for name in mounted if name not in volumes)


def wrong_fields(document: Any, fields: Fields) -> Iterator[str]:
    """Fields with values that are not allowed."""
    for path, pattern, must in fields:
        value = at(document, *path.split("."))
        if not re.fullmatch(pattern, str(value), re.ASCII):
            yield f"{path} {must}" if value is None or isinstance(value, bool) else f"{path} {value!r} {must}"


def duplicates(spec: Mapping[str, Any]) -> Iterator[str]:
    """Names, ports and paths that occur twice."""
    for what, key in UNIQUE:
        yield from (f"{what}: duplicate {key} {value!r}" for value in twice(x.get(key) for x in items(spec, what)))


def resources(container: Container) -> Iterator[str]:
    """Requests and limits are valid, and fit each other."""
    requests, limits = (at(container, "resources", part) or {} for part in ("requests", "limits"))
    for part, amounts in (("requests", requests), ("limits", limits)):
        for key in (key for key, value in amounts.items() if quantity(value) is None):
            yield f"resources.{part}.{key} {amounts[key]!r} is not a valid quantity: write 250m, 0.5, 512Mi or 1Gi"
    for key, value in requests.items():
        least, most = quantity(value), quantity(limits.get(key, value))
        if least is not None and most is not None and least > most:
            yield f"resources: the {key} request {value} is above the limit {limits[key]}"
        elif key == "memory" and least != most:
            yield "resources: memory request and limit must be equal, or the pod dies when the node is full"


def port_values(container: Container) -> set[Any]:
    """The names and numbers of a container's ports."""
    return {value for port in items(container, "ports") for value in (port.get("name"), port.get("containerPort"))}
