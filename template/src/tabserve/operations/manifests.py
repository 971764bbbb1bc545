"""Kubernetes manifests as plain data, and the pod templates in them."""

import re
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabserve.documents import documents as documents_of

Document = dict[str, Any]

SERVER = "server"  # the container that `make deploy` gives the image
STANDARD_INPUT = Path("-")
SELECTING = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController")  # their own pods
TEMPLATES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*SELECTING, "Job"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
    "PodTemplate": ("template",),
}
UNITS = {
    **{"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3},
    **{letter: 1e3**power for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTPE", 1)},
}
QUANTITY = re.compile(rf"((?:\d+(?:\.\d*)?|\.\d+)(?:e\d+)?)({'|'.join(UNITS)})")


@dataclass(frozen=True)
class Pod:
    """A pod template, and the `Kind/name` and kind of its document."""

    owner: str
    kind: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Document]:
        """All containers, including init containers."""
        return [*items(self.spec, "initContainers"), *items(self.spec, "containers")]


@dataclass(frozen=True)
class Manifests:
    """What is applied together, examples of what else there is, and the application's paths."""

    documents: list[Document]
    examples: list[Document] = field(default_factory=list)
    routes: frozenset[str] = frozenset()

    def of(self, *kinds: str) -> list[Document]:
        """The documents of some kinds."""
        return [document for document in self.documents if document.get("kind") in kinds]

    def named(self, kind: str) -> dict[str, Document]:
        """The documents of a kind by name."""
        return {name(document): document for document in self.of(kind)}

    @property
    def pods(self) -> list[Pod]:
        """The pod templates of all documents."""
        found = ((each, each["kind"], at(each, *TEMPLATES[each["kind"]])) for each in self.of(*TEMPLATES))
        return [
            Pod(label(owner), kind, at(template, "metadata", "labels") or {}, at(template, "spec") or {})
            for owner, kind, template in found
        ]

    def selected(self, labels: Mapping[str, str]) -> list[Pod]:
        """The pods that have all these labels; none where there are no labels."""
        return [pod for pod in self.pods if labels and labels.items() <= pod.labels.items()]


def at(document: Any, *path: str) -> Any:
    """The value under a path of keys, or None."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def items(document: Any, *path: str) -> list[Document]:
    """The mappings in the list under a path of keys."""
    found = at(document, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def mappings(value: Any, key: str = "") -> Iterator[tuple[str, Document]]:
    """Each mapping in a document, with its key or that of its list."""
    if isinstance(value, dict):
        yield key, value
        for inner, held in value.items():
            yield from mappings(held, inner)
    for item in value if isinstance(value, list) else ():
        yield from mappings(item, key)


def label(document: Document) -> str:
    """`Kind/name`."""
    return f"{document.get('kind') or '?'}/{at(document, 'metadata', 'name') or '?'}"


def name(document: Document) -> str:
    """The name of a document."""
    return str(at(document, "metadata", "name"))


def twice(values: Iterable[Hashable]) -> list[Hashable]:
    """The values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


def quantity(value: Any) -> float | None:
    """A Kubernetes quantity as a number, or None where it is not a valid one.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    found = QUANTITY.fullmatch(str(value))
    return float(found[1]) * UNITS[found[2]] if found else None


def settings_of(manifests: Manifests, container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container; its own override those of ConfigMaps."""
    maps = manifests.named("ConfigMap")
    names = [at(item, "configMapRef", "name") for item in items(container, "envFrom")]
    found = {key: value for each in names if each in maps for key, value in (maps[each].get("data") or {}).items()}
    return found | {item["name"]: item["value"] for item in items(container, "env") if "value" in item}


def read(paths: Iterable[Path], lists: bool = False) -> tuple[list[Document], list[str]]:
    """The documents of YAML files, and the problems; JSON patches are `lists`."""
    documents: list[Document] = []
    problems: list[str] = []
    for path in paths:
        try:
            content = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
            found = [document for document, _ in documents_of(content) if document is not None]
            documents += [document for document in found if isinstance(document, dict)]
            wrong = [item for item in found if not isinstance(item, dict | list if lists else dict)]
            problems += [f"{path}: each document must be a mapping" for _ in wrong]
        except FileNotFoundError:
            problems.append(f"{path} is missing")
        except ValueError as error:
            problems.append(f"{path}: not valid YAML: {error}")
    return documents, problems
