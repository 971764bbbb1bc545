"""Rules for every pod template: Pod Security `restricted` and more, images, probes, resources, ports.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabserve.operations.manifests import SERVER, Manifests, Pod, at, quantity

LOWEST_USER = 10_000
VOLUMES = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
# Source: https://github.com/distribution/reference
IMAGE = re.compile(
    r"(?:[a-zA-Z0-9][a-zA-Z0-9.-]*(?::\d{1,5})?/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
# Ready: the model answers. Live: the process does, whatever it waits for; else a slow model would have it killed.
PROBED = {
    "startupProbe": ("/livez", "/readyz"),
    "readinessProbe": ("/readyz",),
    "livenessProbe": ("/livez",),
}
PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")

Container = Mapping[str, Any]


def pod_security(pod: Pod) -> Iterator[str]:
    """What the pod as a whole must say."""
    context = pod.spec.get("securityContext") or {}
    user = context.get("runAsUser")
    if context.get("runAsNonRoot") is not True:
        yield "securityContext.runAsNonRoot must be true"
    if not isinstance(user, int) or user < LOWEST_USER:
        yield f"securityContext.runAsUser must be a number of {LOWEST_USER} or more, not {user}"
    if at(context, "seccompProfile", "type") not in ("RuntimeDefault", "Localhost"):
        yield "securityContext.seccompProfile.type must be RuntimeDefault"
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken must be false: the pod never talks to Kubernetes"
    if pod.spec.get("enableServiceLinks") is not False:
        yield "enableServiceLinks must be false: variables of other services could be taken for settings"
    yield from (f"{key} must not be true" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key))
    for what in ("containers", "volumes"):
        names = [item.get("name") for item in pod.spec.get(what) or ()]
        yield from (f"{what}: {name!r} stands there twice" for name in sorted({n for n in names if names.count(n) > 1}))
    if pod.kind == "Deployment" and SERVER not in [item.get("name") for item in pod.spec.get("containers") or ()]:
        yield f"there must be a container {SERVER!r}: `make deploy` gives it the image"
    for volume in pod.spec.get("volumes") or ():
        for kind in sorted(set(volume) - {"name"} - VOLUMES):
            yield f"volume {volume.get('name')!r}: {kind} is not allowed in a restricted namespace"
        if "emptyDir" in volume and not at(volume, "emptyDir", "sizeLimit"):
            yield f"volume {volume.get('name')!r}: emptyDir needs a sizeLimit, or it can fill the node"


def container_security(container: Container) -> Iterator[str]:
    """What each container must say."""
    context = container.get("securityContext") or {}
    capabilities = context.get("capabilities") or {}
    if context.get("allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation must be false"
    if context.get("privileged"):
        yield "securityContext.privileged must not be true"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "securityContext.readOnlyRootFilesystem must be true"
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "securityContext.capabilities.drop must hold ALL"
    if added := [item for item in capabilities.get("add") or () if item != "NET_BIND_SERVICE"]:
        yield f"securityContext.capabilities.add must not hold {', '.join(added)}"
    if at(context, "seccompProfile", "type") not in (None, "RuntimeDefault", "Localhost"):
        yield "securityContext.seccompProfile.type must be RuntimeDefault"
    if context.get("runAsUser", LOWEST_USER) < LOWEST_USER or context.get("runAsNonRoot") is False:
        yield f"securityContext must not give the container a user below {LOWEST_USER}"


def image(container: Container) -> Iterator[str]:
    """The image's reference is one, and says which."""
    reference = str(container.get("image", ""))
    if not IMAGE.fullmatch(reference):
        yield f"image {reference!r} is no legal reference: write registry/name:tag in lower case"
    elif ":" not in reference.rsplit("/", 1)[-1]:
        yield f"image {reference!r} has no tag and no digest: say which"


def resources(container: Container) -> Iterator[str]:
    """Requests and limits are there, legal, and fit each other."""
    amounts = {part: at(container, "resources", part) or {} for part in ("requests", "limits")}
    for part, items in amounts.items():
        needed = ("cpu", "memory") if part == "requests" else ("memory",)
        yield from (f"resources.{part}.{key} is missing" for key in needed if key not in items)
        for key, value in items.items():
            if quantity(value) is None:
                yield f"resources.{part}.{key}: {value!r} is no quantity: write 250m, 0.5, 512Mi or 1Gi"
    for key, value in amounts["requests"].items():
        least, most = quantity(value), quantity(amounts["limits"].get(key, value))
        if least is not None and most is not None and least > most:
            yield f"resources: the {key} request {value} is above the limit {amounts['limits'][key]}"
        elif key == "memory" and least != most:
            yield "resources: memory request and limit must be equal, or the pod dies when the node is full"


def environment(container: Container) -> Iterator[str]:
    """Variables have a name each, and text as their value."""
    names = [str(item.get("name")) for item in container.get("env") or ()]
    yield from (f"env: {name!r} stands there twice" for name in sorted({n for n in names if names.count(n) > 1}))
    for item in container.get("env") or ():
        if "value" in item and not isinstance(item["value"], str):
            yield f"env: the value of {item.get('name')!r} must be text: put it in quotes"


def ports(container: Container) -> Iterator[str]:
    """Ports are named, unique, and none of the node's own."""
    found = container.get("ports") or []
    for port in found:
        if not PORT_NAME.fullmatch(str(port.get("name", ""))):
            yield f"port {port.get('containerPort')}: {port.get('name')!r} is no port name: up to 15 of a-z, 0-9 and -"
        if "hostPort" in port:
            yield f"port {port.get('name')!r}: hostPort must not be there"
    for key in ("name", "containerPort"):
        values = [port.get(key) for port in found]
        yield from (f"ports: {key} {value!r} stands there twice" for value in set(values) if values.count(value) > 1)


def probes(container: Container, routes: frozenset[str]) -> Iterator[str]:
    """A server has three probes, of paths that the application answers and ports that the container has."""
    if not container.get("ports"):
        return
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = at(container, kind, "httpGet")
        if probe is None:
            yield f"{kind} is missing, or asks no path"
        elif probe.get("path") not in routes:
            yield f"{kind}: the application has no path {probe.get('path')!r}; it has {', '.join(sorted(routes))}"
        elif probe["path"] not in PROBED[kind]:
            yield f"{kind}: {probe['path']} does not answer what this probe asks; use {PROBED[kind][0]}"
        if probe and probe.get("scheme", "HTTP") != "HTTP":
            yield f"{kind}: the server speaks HTTP, not {probe['scheme']}"
        if probe and probe.get("port") not in port_values(container):
            yield f"{kind}: the container has no port {probe.get('port')!r}"


def port_values(container: Container) -> set[Any]:
    """The names and numbers of a container's ports."""
    return {value for port in container.get("ports") or () for value in (port.get("name"), port.get("containerPort"))}


def mounts(pod: Pod, container: Container) -> Iterator[str]:
    """What is mounted is there, and in one place each."""
    volumes = {volume.get("name") for volume in pod.spec.get("volumes") or ()}
    found = container.get("volumeMounts") or []
    for mount in found:
        if mount.get("name") not in volumes:
            yield f"volumeMounts: the pod has no volume {mount.get('name')!r}"
    paths = [mount.get("mountPath") for mount in found]
    yield from (f"volumeMounts: {path} stands there twice" for path in sorted({p for p in paths if paths.count(p) > 1}))


def check(manifests: Manifests) -> Iterator[str]:
    """All rules on all pods."""
    for pod in manifests.pods:
        yield from (f"{pod.owner}: {problem}" for problem in pod_security(pod))
        for container in pod.containers:
            found = [
                *container_security(container),
                *image(container),
                *resources(container),
                *environment(container),
                *ports(container),
                *probes(container, manifests.routes),
                *mounts(pod, container),
            ]
            yield from (f"{pod.owner}, container {container.get('name')!r}: {problem}" for problem in found)
