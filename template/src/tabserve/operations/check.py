"""Check the manifests against each other and against the application, before a cluster sees them.

    make check-k8s

It reads `k8s/*.yaml`, and with them what each component in `k8s/components/` adds.
With `-` it reads manifests from standard input: `kubectl kustomize k8s | python -m tabserve.operations.check -`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tabserve.operations import link_rules, operation_rules, pod_rules, schemas
from tabserve.operations.manifests import STANDARD_INPUT, Document, Manifests, at, items, label, name, read, twice

APPLICATION = Path(__file__).parents[1] / "serving/app.py"
K8S = Path("k8s")
EXAMPLES = "*.example.yaml"
FASTAPI = ("/docs", "/redoc", "/openapi.json")
HASH = "internal.config.kubernetes.io/needsHashSuffix"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong; returns the exit code."""
    if list(arguments) == ["-"]:
        documents, unreadable = read([STANDARD_INPUT])
        found = unreadable or problems_of(documents)
    else:
        found = list(dict.fromkeys(in_folder(K8S)))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if not found:
        print("ok  k8s: the manifests agree with each other and with the application")
    return 1 if found else 0


def problems_of(documents: list[Document]) -> list[str]:
    """What is wrong in documents that kustomize has built."""
    examples, problems = read(sorted(K8S.glob(EXAMPLES)))
    problems += schemas.check([*documents, *examples])
    return problems or list(dict.fromkeys(rules(documents, examples)))


def in_folder(folder: Path) -> Iterator[str]:
    """What is wrong in the folder's files, and in those of each component together with them."""
    examples, problems = read(sorted(folder.glob(EXAMPLES)))
    documents, unreadable, unlisted = part(folder)
    problems += [*unreadable, *schemas.check([*documents, *examples])]
    sound = not problems
    if sound:
        problems += [*rules(documents, examples), *unhashed(Manifests(documents))]
    yield from [*unlisted, *problems]
    for component in sorted(folder.glob("components/*/")):
        added, unreadable, unlisted = part(component)
        found = list(schemas.check(added))
        if sound and not found:
            found += rules(documents + added, examples)
        yield from [*unlisted, *unreadable]
        yield from (f"{component.name}: {problem}" for problem in found if problem not in problems)


def rules(documents: list[Document], examples: list[Document]) -> Iterator[str]:
    """What the rules say about documents that fit their schemas."""
    manifests = Manifests(documents, examples, routes())
    for rule in (pod_rules.pods, *link_rules.RULES, *operation_rules.RULES):
        yield from rule(manifests)


def routes() -> frozenset[str]:
    """The paths of the application: FastAPI's own, and those in the app.py of tabserve and of the project."""
    sources = [path.read_text(encoding="utf-8") for path in (APPLICATION, *Path("src").glob("*/app.py"))]
    return frozenset((*FASTAPI, *re.findall(r'"(/[^"]*)"', "".join(sources))))


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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
