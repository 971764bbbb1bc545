"""Check the manifests against each other and the application, before a cluster sees them.

It reads `k8s/*.yaml`, and with them what each component in `k8s/components/` adds, but its patches; or what kustomize
made of all, from standard input.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabserve.errors import say
from tabserve.operations import link_rules, operation_rules, pod_rules, schemas
from tabserve.operations.manifests import STANDARD_INPUT, Document, Manifests, at, items, label, name, read, twice

K8S = Path("k8s")
EXAMPLES = "*.example.yaml"
HASH = "internal.config.kubernetes.io/needsHashSuffix"


def run(piped: bool, paths: frozenset[str]) -> int:
    """Print what is wrong in `k8s/` or standard input; returns the exit code."""
    if piped:
        documents, unreadable = read([STANDARD_INPUT])
        found = unreadable or problems_of(documents, paths)
    else:
        found = list(dict.fromkeys(in_folder(K8S, paths)))
    for problem in found:
        say(f"error: {problem}", error=True)
    if not found:
        say("ok  k8s: the manifests agree with each other and with the application")
    return 1 if found else 0


def problems_of(documents: list[Document], paths: frozenset[str]) -> list[str]:
    """What is wrong in documents that kustomize has built."""
    examples, problems = read(sorted(K8S.glob(EXAMPLES)))
    problems += schemas.check([*documents, *examples])
    return problems or list(dict.fromkeys(rules(documents, examples, paths)))


def in_folder(folder: Path, paths: frozenset[str]) -> Iterator[str]:
    """What is wrong in the folder's files, and with each component."""
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
        yield from (f"{component}: {problem}" for problem in found if problem not in problems)


def rules(documents: list[Document], examples: list[Document], paths: frozenset[str]) -> Iterator[str]:
    """What the rules say about documents that fit their schemas."""
    manifests = Manifests(documents, examples, paths)
    for rule in (pod_rules.pods, *link_rules.RULES, *operation_rules.RULES):
        yield from rule(manifests)


def paths_of(application: Any) -> frozenset[str]:
    """The paths that a FastAPI application answers."""
    return frozenset(path for route in getattr(application, "routes", ()) if (path := getattr(route, "path", "")))


def part(folder: Path) -> tuple[list[Document], list[str], list[str]]:
    """The documents of a folder but its patches, what is unreadable, and what is wrong in its list."""
    path = folder / "kustomization.yaml"
    heads, unreadable = read([path])
    head = heads[0] if heads else {}
    patches = [folder / str(patch["path"]) for patch in items(head, "patches") if "path" in patch]
    files = set(folder.glob("*.yaml")) - set(folder.glob(EXAMPLES)) - {path}
    listed = {folder / name for name in _names(head, "resources")} - set(folder.glob(EXAMPLES))
    unlisted = [] if unreadable else [f"{path}: {problem}" for problem in _unlisted(folder, head, patches, files)]
    documents, more = read(file for file in sorted({*files, *listed} - {*patches}) if file.is_file())
    return documents, [*unreadable, *more, *read(sorted(files & {*patches}), lists=True)[1]], unlisted


def _names(head: Document, key: str) -> list[str]:
    """The names in a list of a kustomization, but those of other repositories."""
    found = head.get(key)
    return [str(name) for name in found if "://" not in str(name)] if isinstance(found, list) else []


def _unlisted(folder: Path, head: Document, patches: list[Path], files: set[Path]) -> Iterator[str]:
    paths = [*(folder / name for name in _names(head, "resources")), *patches]
    yield from (f"{path.name} is an example: remove it from the list" for path in paths if path.match(EXAMPLES))
    yield from (f"{path.relative_to(folder)} is listed, but does not exist" for path in paths if not path.exists())
    yield from (f"{name} is listed twice" for name in twice(path.name for path in paths))
    yield from (f"{file.name} exists, but is not listed" for file in sorted(files - {*paths}))
    components = _names(head, "components")
    yield from (f"there is no component {name}" for name in components if not (folder / name).is_dir())


def unhashed(manifests: Manifests) -> Iterator[str]:
    """A ConfigMap's name changes with its data, which triggers a rollout."""
    pods = [pod for pod in manifests.pods if pod.kind == "Deployment"]
    used = [target for pod in pods for _, target, *_ in link_rules.references_of(pod)]
    for document in manifests.of("ConfigMap"):
        if name(document) in used and at(document, "metadata", "annotations", HASH) != "enabled":
            yield f"{label(document)}: without the annotation {HASH}: enabled a change would not trigger a rollout"
