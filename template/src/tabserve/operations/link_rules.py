"""Rules across documents: names, selectors, references, ports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabserve.operations.manifests import Document, Manifests, Pod, at, label, name, selects, strings
from tabserve.operations.pod_rules import port_values

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DOTTED = ("ConfigMap", "Secret")  # whose names may be DNS subdomains
VERSIONS = {
    "ConfigMap": "v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "Gateway": "gateway.networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Ingress": "networking.k8s.io/v1",
    "LimitRange": "v1",
    "ResourceQuota": "v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "Job": "batch/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "PodDisruptionBudget": "policy/v1",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
}
CHANGING = ("app.kubernetes.io/version", "version", "pod-template-hash")
PLACEHOLDER = re.compile(
    r"\b(TODO|FIXME|CHANGE[_-]?ME|REPLACE[_-]?ME|PLACEHOLDER)\b|<[a-z][a-z _-]*>|\bxxx+\b", re.IGNORECASE
)
NODE_PORTS = range(30_000, 32_768)


# --- each document


def identity(manifests: Manifests) -> Iterator[str]:
    """Kinds, versions and names are known and legal, and nothing stands there twice."""
    seen: set[str] = set()
    for document in manifests.documents:
        kind, known = str(document.get("kind")), VERSIONS.get(str(document.get("kind")))
        if known is None:
            yield f"{label(document)}: unknown kind {kind!r}; add it to VERSIONS in {__name__} if it is meant"
        elif document.get("apiVersion") != known:
            yield f"{label(document)}: apiVersion {document.get('apiVersion')!r} should be {known}"
        parts = name(document).split(".") if kind in DOTTED else [name(document)]
        if not all(LABEL.fullmatch(part) for part in parts):
            yield f"{label(document)}: metadata.name {name(document)!r} is no RFC 1123 label"
        if label(document) in seen:
            yield f"{label(document)} stands there twice"
        seen.add(label(document))


def namespaces(manifests: Manifests) -> Iterator[str]:
    """There is one namespace, it admits restricted pods only, and everything is in it."""
    found = manifests.of("Namespace")
    if len(found) != 1:
        yield f"there must be one Namespace, not {len(found)}"
        return
    if at(found[0], "metadata", "labels", "pod-security.kubernetes.io/enforce") != "restricted":
        yield f"{label(found[0])}: the label pod-security.kubernetes.io/enforce must be restricted"
    for document in manifests.documents:
        namespace = at(document, "metadata", "namespace")
        if document is not found[0] and namespace != name(found[0]):
            yield f"{label(document)}: namespace {namespace!r} should be {name(found[0])!r}"


def placeholders(manifests: Manifests) -> Iterator[str]:
    """No text is waiting to be replaced."""
    for document in manifests.documents:
        for text in strings({**document, "metadata": {"name": name(document)}}):
            if found := PLACEHOLDER.search(text):
                yield f"{label(document)}: {found[0]!r} is a placeholder: put the real value there"


def secrets(manifests: Manifests) -> Iterator[str]:
    """Values of secrets are never in files that are applied."""
    for document in manifests.of("Secret"):
        yield f"{label(document)}: the values of a Secret must not be in git; see secret.example.yaml"


# --- selectors


def selectors(manifests: Manifests) -> Iterator[str]:
    """Every selector finds pods, by labels that never change."""
    for document in manifests.documents:
        for where, selector in _selectors(document):
            pods = manifests.pods
            if document.get("kind") in ("Deployment",):
                pods = [pod for pod in pods if pod.owner == label(document)]
            if not any(selects(selector, pod) for pod in pods):
                yield f"{label(document)}: {where} {dict(selector)} finds no pod of these manifests"
            yield from (
                f"{label(document)}: {where} holds {key!r}, which changes with a release; a selector cannot"
                for key in CHANGING
                if key in selector
            )


def _selectors(document: Document) -> Iterator[tuple[str, Mapping[str, str]]]:
    kind, spec = document.get("kind"), document.get("spec") or {}
    if kind in ("Deployment", "PodDisruptionBudget") and not at(spec, "selector", "matchExpressions"):
        yield "selector", at(spec, "selector", "matchLabels") or {}
    if kind == "Service":
        yield "selector", spec.get("selector") or {}
    if kind == "NetworkPolicy" and spec.get("podSelector"):
        yield "podSelector", at(spec, "podSelector", "matchLabels") or {}
    for constraint in at(document, "spec", "template", "spec", "topologySpreadConstraints") or ():
        yield "topologySpreadConstraints", at(constraint, "labelSelector", "matchLabels") or {}


# --- references


def references(manifests: Manifests) -> Iterator[str]:
    """What a pod refers to is there: service account, ConfigMaps and their keys, secrets."""
    accounts = {name(document) for document in manifests.of("ServiceAccount")}
    for pod in manifests.pods:
        account = pod.spec.get("serviceAccountName")
        if account not in accounts:
            yield f"{pod.owner}: there is no ServiceAccount {account!r}"
        for kind, target, key, optional in references_of(pod):
            yield from (f"{pod.owner}: {problem}" for problem in _missing(manifests, kind, target, key, optional))


def _missing(manifests: Manifests, kind: str, target: str, key: str | None, optional: bool) -> Iterator[str]:
    # The values of secrets are made by hand: the example says which secrets there may be.
    known = manifests.of(kind) if kind == "ConfigMap" else [d for d in manifests.examples if d.get("kind") == kind]
    found = next((document for document in known if name(document) == target), None)
    if found is None and not (optional and kind == "ConfigMap"):
        yield f"there is no {kind} {target!r}{' in secret.example.yaml' if kind == 'Secret' else ''}"
    elif found is not None and key and key not in {**(found.get("data") or {}), **(found.get("stringData") or {})}:
        yield f"{kind} {target!r} has no key {key!r}"


def references_of(pod: Pod) -> Iterator[tuple[str, str, str | None, bool]]:
    """Kind, name, key and whether it may be absent, for each ConfigMap and Secret that a pod names."""
    kinds = {"configMap": "ConfigMap", "secret": "Secret"}
    for container in pod.containers:
        for item in container.get("envFrom") or ():
            for short, kind in kinds.items():
                if source := item.get(f"{short}Ref"):
                    yield kind, str(source.get("name")), None, bool(source.get("optional"))
        for item in container.get("env") or ():
            for short, kind in kinds.items():
                if source := at(item, "valueFrom", f"{short}KeyRef"):
                    yield kind, str(source.get("name")), str(source.get("key")), bool(source.get("optional"))
    for volume in pod.spec.get("volumes") or ():
        for short, kind in kinds.items():
            if source := volume.get(short):
                target = source.get("name") or source.get("secretName")
                yield kind, str(target), None, bool(source.get("optional"))


# --- ports


def services(manifests: Manifests) -> Iterator[str]:
    """Services lead to ports that their pods have."""
    for service in manifests.of("Service"):
        spec = service.get("spec") or {}
        for port in spec.get("ports") or ():
            target = port.get("targetPort", port.get("port"))
            pods = [pod for pod in manifests.pods if selects(spec.get("selector") or {}, pod)]
            for pod in (pod for pod in pods if pod.kind != "Deployment"):
                yield f"{label(service)}: it would send requests to {pod.owner}: give that other labels"
            if pods and not any(target in port_values(c) for pod in pods for c in pod.containers):
                yield f"{label(service)}: the pods have no port {target!r}"
            if "nodePort" in port and spec.get("type") not in ("NodePort", "LoadBalancer"):
                yield f"{label(service)}: nodePort needs type NodePort or LoadBalancer, not {spec.get('type')}"
            if "nodePort" in port and port["nodePort"] not in NODE_PORTS:
                yield f"{label(service)}: nodePort {port['nodePort']} must be from 30000 to 32767"


def backends(manifests: Manifests) -> Iterator[str]:
    """Ingresses, routes and monitors lead to services and ports that are there."""
    ports = {name(s): list(at(s, "spec", "ports") or ()) for s in manifests.of("Service")}
    for owner, service, port in _backends(manifests):
        if service not in ports:
            yield f"{owner}: there is no Service {service!r}"
        elif port not in {value for item in ports[service] for value in (item.get("name"), item.get("port"))}:
            yield f"{owner}: Service {service!r} has no port {port!r}"
    for monitor in manifests.of("ServiceMonitor"):
        wanted = at(monitor, "spec", "selector", "matchLabels") or {}
        found = [s for s in manifests.of("Service") if wanted.items() <= (at(s, "metadata", "labels") or {}).items()]
        names = {port.get("name") for service in found for port in ports[name(service)]}
        for endpoint in at(monitor, "spec", "endpoints") or ():
            if not wanted or endpoint.get("port") not in names:
                yield f"{label(monitor)}: no Service with the labels {wanted} has a port {endpoint.get('port')!r}"
            if endpoint.get("path") not in manifests.routes:
                yield f"{label(monitor)}: the application has no path {endpoint.get('path')!r}"


def _backends(manifests: Manifests) -> Iterator[tuple[str, Any, Any]]:
    for ingress in manifests.of("Ingress"):
        for rule in at(ingress, "spec", "rules") or ():
            for path in at(rule, "http", "paths") or ():
                service = at(path, "backend", "service") or {}
                port = service.get("port") or {}
                yield label(ingress), service.get("name"), port.get("name", port.get("number"))
    for route in manifests.of("HTTPRoute"):
        for rule in at(route, "spec", "rules") or ():
            for backend in rule.get("backendRefs") or ():
                yield label(route), backend.get("name"), backend.get("port")


def policies(manifests: Manifests) -> Iterator[str]:
    """Network policies open ports that the pods have."""
    for policy in manifests.of("NetworkPolicy"):
        selector = at(policy, "spec", "podSelector", "matchLabels") or {}
        pods = [pod for pod in manifests.pods if not selector or selects(selector, pod)]
        for rule in at(policy, "spec", "ingress") or ():
            for port in rule.get("ports") or ():
                if not any(port.get("port") in port_values(c) for pod in pods for c in pod.containers):
                    yield f"{label(policy)}: the pods have no port {port.get('port')!r}"


RULES = (identity, namespaces, placeholders, secrets, selectors, references, services, backends, policies)


def check(manifests: Manifests) -> Iterator[str]:
    """All rules."""
    for rule in RULES:
        yield from rule(manifests)
