"""Rules across documents: names, namespaces, selectors, references, ports."""

import re
from collections.abc import Iterator
from typing import Any

from tabserve.operations.manifests import SELECTING, Document, Manifests, Pod, at, items, label, mappings, name, twice
from tabserve.operations.pod_rules import port_values

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
UNDOTTED = ("CronJob", "Deployment", "Job", "Namespace", "Service")  # kinds whose names have no dots
CHANGING = ("app.kubernetes.io/version", "version", "pod-template-hash")
REFERENCES = {
    **dict.fromkeys(("configMap", "configMapRef", "configMapKeyRef"), "ConfigMap"),
    **dict.fromkeys(("secret", "secretRef", "secretKeyRef"), "Secret"),
    "persistentVolumeClaim": "PersistentVolumeClaim",
}
NODE_PORTS = range(30_000, 32_768)


def names(manifests: Manifests) -> Iterator[str]:
    """Names are valid and unique, and no values of a Secret are in git."""
    for document in manifests.documents:
        parts = [name(document)] if document["kind"] in UNDOTTED else name(document).split(".")
        if not all(map(NAME.fullmatch, parts)) and "rbac" not in document["apiVersion"]:
            yield f"{label(document)}: metadata.name must be up to 63 of a-z, 0-9 and -"
    yield from (f"{document} is defined twice" for document in twice(map(label, manifests.documents)))
    for document in manifests.of("Secret"):
        yield f"{label(document)}: the values of a Secret must not be in git; see secret.example.yaml"


def namespaces(manifests: Manifests) -> Iterator[str]:
    """There is one namespace, for restricted pods only, and all is in it."""
    found = manifests.of("Namespace")
    if len(found) != 1:
        yield f"there must be one Namespace, not {len(found)}"
        return
    if at(found[0], "metadata", "labels", "pod-security.kubernetes.io/enforce") != "restricted":
        yield f"{label(found[0])}: the label pod-security.kubernetes.io/enforce must be restricted"
    for document in manifests.documents:
        if (other := at(document, "metadata", "namespace")) not in (None, name(found[0])):
            yield f"{label(document)}: namespace {other!r} should be {name(found[0])!r}"


def selectors(manifests: Manifests) -> Iterator[str]:
    """Every selector matches pods, by labels that never change."""
    for owner, where, selector in _selectors(manifests):
        labels = selector.get("matchLabels", selector) or {}
        own = where == "selector" and owner.startswith(SELECTING)
        pods = [pod for pod in manifests.selected(labels) if pod.owner == owner or not own]
        if not pods and "matchExpressions" not in selector:
            yield f"{owner}: {where} {labels} matches no pod in these manifests"
        for key in (key for key in CHANGING if key in labels):
            yield f"{owner}: {where} contains {key!r}, which changes with a release; a selector must not"


def _selectors(manifests: Manifests) -> Iterator[tuple[str, str, Document]]:
    for document in manifests.of(*SELECTING, "PodDisruptionBudget", "Service"):
        if at(document, "spec", "type") != "ExternalName":
            yield label(document), "selector", at(document, "spec", "selector") or {}
    for policy in manifests.of("NetworkPolicy"):
        if selector := at(policy, "spec", "podSelector"):
            yield label(policy), "podSelector", selector
    for pod in manifests.pods:
        for constraint in items(pod.spec, "topologySpreadConstraints"):
            yield pod.owner, "topologySpreadConstraints", constraint.get("labelSelector") or {}


def references(manifests: Manifests) -> Iterator[str]:
    """What a pod refers to exists: accounts, ConfigMaps, Secrets, keys, claims."""
    for pod in manifests.pods:
        problems = (_missing(manifests, *reference) for reference in references_of(pod))
        yield from (f"{pod.owner}: {problem}" for problem in problems if problem)


def _missing(manifests: Manifests, kind: str, target: str, key: str | None, optional: bool) -> str:
    known = Manifests(manifests.examples).named(kind)
    if kind != "Secret":  # the values of secrets are not in git: the example says which ones there are
        known |= manifests.named(kind)
    if target in known:
        data = {**(known[target].get("data") or {}), **(known[target].get("stringData") or {})}
        return f"{kind} {target!r} has no key {key!r}" if key and key not in data else ""
    if (optional and kind == "ConfigMap") or (kind == "PersistentVolumeClaim" and not known):
        return ""  # where the manifests have no claim, all of them are made by hand
    return f"there is no {kind} {target!r}{' in secret.example.yaml' if kind == 'Secret' else ''}"


def references_of(pod: Pod) -> Iterator[tuple[str, str, str | None, bool]]:
    """Kind, name, key and whether it is optional, of all that a pod names."""
    yield "ServiceAccount", pod.spec.get("serviceAccountName") or "default", None, False
    for short, source in mappings(pod.spec):
        if kind := REFERENCES.get(short):
            target = next((str(source[key]) for key in ("name", "secretName", "claimName") if key in source), "")
            yield kind, target, source.get("key"), bool(source.get("optional"))


def services(manifests: Manifests) -> Iterator[str]:
    """Services lead to ports that their pods have, and not to jobs."""
    for service in manifests.of("Service"):
        kind, pods = at(service, "spec", "type"), manifests.selected(at(service, "spec", "selector") or {})
        for pod in (pod for pod in pods if pod.kind in ("Job", "CronJob")):
            yield f"{label(service)}: it would send requests to {pod.owner}: give that other labels"
        for port in items(service, "spec", "ports"):
            yield from _closed(service, pods, port.get("targetPort") or port["port"])
            if (number := port.get("nodePort")) and kind not in ("NodePort", "LoadBalancer"):
                yield f"{label(service)}: nodePort needs type NodePort or LoadBalancer, not {kind}"
            if number and number not in NODE_PORTS:
                yield f"{label(service)}: nodePort {number} must be from 30000 to 32767"


def policies(manifests: Manifests) -> Iterator[str]:
    """Network policies open ports that the pods have."""
    for policy in manifests.of("NetworkPolicy"):
        selector = at(policy, "spec", "podSelector", "matchLabels")
        pods = manifests.selected(selector) if selector else manifests.pods
        for port in (found.get("port") for key, found in mappings(at(policy, "spec", "ingress")) if key == "ports"):
            yield from _closed(policy, pods, port)


def _closed(document: Document, pods: list[Pod], port: Any) -> Iterator[str]:
    if pods and not any(port in port_values(container) for pod in pods for container in pod.containers):
        yield f"{label(document)}: the pods have no port {port!r}"


def backends(manifests: Manifests) -> Iterator[str]:
    """Ingresses and routes lead to services and ports that exist."""
    services = {name(each): items(each, "spec", "ports") for each in manifests.of("Service")}
    for document in manifests.of("Ingress", "HTTPRoute"):
        for found in (found for key, found in mappings(document) if key in ("service", "backendRefs")):
            service, port = str(found.get("name")), found.get("port")
            port = port.get("name", port.get("number")) if isinstance(port, dict) else port
            if service not in services:
                yield f"{label(document)}: there is no Service {service!r}"
            elif port not in [each.get(key) for each in services[service] for key in ("name", "port")]:
                yield f"{label(document)}: Service {service!r} has no port {port!r}"


def monitors(manifests: Manifests) -> Iterator[str]:
    """Monitors find a service with their port, and a path of the application."""
    for monitor in manifests.of("ServiceMonitor"):
        selector = at(monitor, "spec", "selector", "matchLabels")
        wanted = selector if isinstance(selector, dict) else {}
        services = [s for s in manifests.of("Service") if wanted.items() <= (at(s, "metadata", "labels") or {}).items()]
        ports = [port.get("name") for service in services for port in items(service, "spec", "ports")]
        for endpoint in items(monitor, "spec", "endpoints"):
            port, path = endpoint.get("port"), str(endpoint.get("path", "/metrics"))
            if not wanted or port not in ports:
                yield f"{label(monitor)}: no Service with the labels {wanted} has a port {port!r}"
            if manifests.routes and path not in manifests.routes:
                yield f"{label(monitor)}: the application has no path {path!r}"


RULES = (names, namespaces, selectors, references, services, policies, backends, monitors)
