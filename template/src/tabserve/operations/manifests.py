"""Kubernetes manifests as plain data: reading them, and finding the pods in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

SERVER = "server"  # the container that `make deploy` gives the image
KUSTOMIZE = "kustomize.config.k8s.io/"
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
UNITS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}
QUANTITY = re.compile(r"((?:\d+(?:\.\d*)?|\.\d+)(?:e\d+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


@dataclass(frozen=True)
class Pod:
    """A pod template, and where it stands.

    Attributes:
        owner: the document that it is part of, as `kind/name`.
        kind: of the owner.
        labels: of the pods.
        spec: of the pods.
    """

    owner: str
    kind: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        """All containers, those that run first included."""
        return [*(self.spec.get("initContainers") or ()), *(self.spec.get("containers") or ())]


@dataclass(frozen=True)
class Manifests:
    """Everything that is applied together.

    Attributes:
        documents: the applied documents.
        examples: documents that are not applied; they name what else the cluster may hold, as `secret.example.yaml`.
        routes: the paths that the application answers.
    """

    documents: list[Document]
    examples: list[Document] = field(default_factory=list)
    routes: frozenset[str] = frozenset()

    def of(self, kind: str) -> list[Document]:
        """The documents of a kind."""
        return [document for document in self.documents if document.get("kind") == kind]

    @property
    def pods(self) -> list[Pod]:
        """The pod templates of all documents."""
        return [pod for document in self.documents if (pod := pod_of(document))]


def pod_of(document: Document) -> Pod | None:
    """The pod template of a document, if it has one."""
    path = TEMPLATES.get(document.get("kind", ""))
    if path is None:
        return None
    template = at(document, *path) or {}
    return Pod(label(document), document["kind"], at(template, "metadata", "labels") or {}, template.get("spec") or {})


def at(document: Any, *path: str) -> Any:
    """The value under a path of keys, or None."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def label(document: Document) -> str:
    """`kind/name`, as kubectl writes it."""
    return f"{str(document.get('kind', '?')).lower()}/{at(document, 'metadata', 'name') or '?'}"


def name(document: Document) -> str:
    """The name of a document."""
    return str(at(document, "metadata", "name"))


def selects(selector: Mapping[str, str], pod: Pod) -> bool:
    """Whether the labels of a selector are all on the pods."""
    return bool(selector) and all(pod.labels.get(key) == value for key, value in selector.items())


def quantity(value: Any) -> float | None:
    """A Kubernetes quantity as a number, or None where it is none.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    found = QUANTITY.fullmatch(str(value))
    return float(found[1]) * UNITS[found[2] or ""] if found else None


def read(paths: Iterable[Path]) -> tuple[list[Document], list[str]]:
    """The documents of YAML files, and what is wrong with the files."""
    documents: list[Document] = []
    problems: list[str] = []
    for path in paths:
        try:
            parsed = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=StrictLoader))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            problems.append(f"{path}: no valid YAML: {' '.join(str(error).split())}")
            continue
        problems += [f"{path}: a document that is no mapping" for item in parsed if not isinstance(item, dict)]
        documents += [item for item in parsed if isinstance(item, dict)]
    return documents, problems


class StrictLoader(yaml.SafeLoader):
    """YAML forbids a key that stands twice in a mapping; PyYAML would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping.

        Raises:
            yaml.YAMLError: a key stands twice.
        """
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} stands here twice", node.start_mark)
        return super().construct_mapping(node, deep)


def is_kustomize(document: Document) -> bool:
    """Whether a document steers kustomize and is not applied."""
    return str(document.get("apiVersion", "")).startswith(KUSTOMIZE)


def settings_of(manifests: Manifests, container: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a container gets from ConfigMaps, and those of its own, which win."""
    names = [at(item, "configMapRef", "name") for item in container.get("envFrom") or ()]
    maps = [document.get("data") or {} for document in manifests.of("ConfigMap") if name(document) in names]
    own = {str(item.get("name")): item["value"] for item in container.get("env") or () if "value" in item}
    return {key: value for data in maps for key, value in data.items()} | own


def strings(value: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value
