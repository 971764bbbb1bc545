"""Check the manifests against each other and against the application, before a cluster sees them.

    make check-k8s

It reads `k8s/*.yaml`, and with them what each component in `k8s/components/` adds.
With `-` it reads manifests from standard input: `kubectl kustomize k8s | uv run NAME check-k8s -`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabserve.operations import link_rules, operation_rules, pod_rules, schemas
from tabserve.operations.manifests import STANDARD_INPUT, Document, Manifests, at, items, label, name, read, twice

K8S = Path("k8s")
EXAMPLES = "*.example.yaml"
HASH = "internal.config.kubernetes.io/needsHashSuffix"

Paths = frozenset[str] | None  # of the application; None stands for those of tabserve's own


def run(piped: bool = False, paths: Paths = None) -> int:
    """Print what is wrong in `k8s/`, or in standard input; returns the exit code."""
    if piped:
        documents, unreadable = read([STANDARD_INPUT])
        found = unreadable or problems_of(documents, paths)
    else:
        found = list(dict.fromkeys(in_folder(K8S, paths)))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if not found:
        print("ok  k8s: the manifests agree with each other and with the application")
    return 1 if found else 0


def problems_of(documents: list[Document], paths: Paths = None) -> list[str]:
    """What is wrong in documents that kustomize has built."""
    examples, problems = read(sorted(K8S.glob(EXAMPLES)))
    problems += schemas.check([*documents, *examples])
    return problems or list(dict.fromkeys(rules(documents, examples, paths)))


def in_folder(folder: Path, paths: Paths = None) -> Iterator[str]:
    """What is wrong in the folder's files, and in those of each component together with them."""
    examples, problems = read(sorted(folder.glob(EXAMPLES)))
    documents, unreadable, unlisted = part(folder)
    problems += [*unreadable, *schemas.check([*documents, *examples])]
    sound = not problems
    if sound:
        problems += [*rules(documents, examples, paths), *unhashed(Manifests(documents))]
    yield from [*unlisted, *problems]
    for component in sorted(folder.glob("components/*/")):
        added, unreadable, unlisted = part(component)
        found = list(schemas.check(added))
        if sound and not found:
            found += rules(documents + added, examples, paths)
        yield from [*unlisted, *unreadable]
        yield from (f"{component.name}: {problem}" for problem in found if problem not in problems)


def rules(documents: list[Document], examples: list[Document], paths: Paths = None) -> Iterator[str]:
    """What the rules say about documents that fit their schemas."""
    manifests = Manifests(documents, examples, served() if paths is None else paths)
    for rule in (pod_rules.pods, *link_rules.RULES, *operation_rules.RULES):
        yield from rule(manifests)


def paths_of(application: Any) -> frozenset[str]:
    """The paths that a FastAPI application answers."""
    return frozenset(path for route in application.routes if (path := getattr(route, "path", "")))


@functools.cache
def served() -> frozenset[str]:
    """The paths of the application without anything added."""
    from tabserve.serving.app import model_app
    from tabserve.settings import ServeSettings

    return paths_of(model_app(ServeSettings.model_construct()))


def part(folder: Path) -> tuple[list[Document], list[str], list[str]]:
    """The documents of a folder but its patches, what cannot be read, and what is wrong in its kustomization."""
    path = folder / "kustomization.yaml"
    heads, unreadable = read([path])
    head = heads[0] if heads else {}
    patches = [str(patch["path"]) for patch in items(head, "patches") if "path" in patch]
    files = sorted(set(folder.glob("*.yaml")) - set(folder.glob(EXAMPLES)) - {path})
    unlisted = [] if unreadable else [f"{path}: {problem}" for problem in _unlisted(folder, head, patches, files)]
    documents, more = read(file for file in files if file.name not in patches)
    return documents, [*unreadable, *more, *read(file for file in files if file.name in patches)[1]], unlisted


def _unlisted(folder: Path, head: Document, patches: list[str], files: list[Path]) -> Iterator[str]:
    resources, components = (list(map(str, head.get(key) or ())) for key in ("resources", "components"))
    names = [*resources, *patches]
    examples = [name for name in names if (folder / name).match(EXAMPLES)]
    yield from (f"{name} is an example and must not be applied: remove it from the list" for name in examples)
    yield from (f"{name} is listed, but does not exist" for name in names if not (folder / name).exists())
    yield from (f"{name} is listed twice" for name in twice(names))
    yield from (f"{file.name} exists, but is not listed" for file in files if file.name not in names)
    yield from (f"there is no component {name}" for name in components if not (folder / name).is_dir())


def unhashed(manifests: Manifests) -> Iterator[str]:
    """A ConfigMap's name changes with its data, so that a change rolls the pods."""
    pods = [pod for pod in manifests.pods if pod.kind == "Deployment"]
    used = [target for pod in pods for _, target, *_ in link_rules.references_of(pod)]
    for document in manifests.of("ConfigMap"):
        if name(document) in used and at(document, "metadata", "annotations", HASH) != "enabled":
            yield f"{label(document)}: without the annotation {HASH}: enabled a change of it would not roll the pods"
