"""Check the manifests against each other and against the application, before a cluster sees them.

    make check-k8s

It reads `k8s/*.yaml` and, together with these, what each component in `k8s/components/` adds.
With `-` it reads manifests from standard input: `kubectl kustomize k8s | python -m tabserve.operations.check -`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from tabserve.errors import UserError
from tabserve.operations import link_rules, operation_rules, pod_rules
from tabserve.operations.manifests import Document, Manifests, StrictLoader, at, is_kustomize, label, name, read
from tabserve.settings import ServeSettings, load

APPLICATION = Path(__file__).parents[1] / "serving/app.py"
K8S = Path("k8s")
EXAMPLES = "*.example.yaml"
FASTAPI = ("/docs", "/redoc", "/openapi.json")
PREFIX = "SERVE_"
HASH = "internal.config.kubernetes.io/needsHashSuffix"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong; returns the exit code."""
    problems = piped() if list(arguments) == ["-"] else in_folder(K8S)
    found = list(dict.fromkeys(problems))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if not found:
        print("ok  k8s: the manifests agree with each other and with the application")
    return 1 if found else 0


def in_folder(folder: Path) -> Iterator[str]:
    """What is wrong in the folder's files, and in those of each component together with them."""
    examples, wrong = read(sorted(folder.glob(EXAMPLES)))
    base, problems = read(sorted(set(folder.glob("*.yaml")) - set(folder.glob(EXAMPLES))))
    yield from [*wrong, *problems]
    yield from hashed(base)
    yield from listed(folder)
    applied = [document for document in base if not is_kustomize(document)]
    alone = list(check(Manifests(applied, examples, routes())))
    yield from alone
    for component in sorted(folder.glob("components/*/")):
        added, problems = read(sorted(component.glob("*.yaml")))
        yield from problems
        yield from listed(component)
        resources = [document for document in added if not is_kustomize(document) and complete(document)]
        together = Manifests(applied + resources, examples, routes())
        yield from (f"{component.name}: {problem}" for problem in check(together) if problem not in alone)


def hashed(documents: list[Document]) -> Iterator[str]:
    """A ConfigMap's name changes with its data, so that a change rolls the pods."""
    pods = [pod for pod in Manifests(documents).pods if pod.kind == "Deployment"]
    used = {target for pod in pods for kind, target, *_ in link_rules.references_of(pod) if kind == "ConfigMap"}
    for document in Manifests(documents).of("ConfigMap"):
        if name(document) in used and at(document, "metadata", "annotations", HASH) != "enabled":
            yield f"{label(document)}: without the annotation {HASH}: enabled a change of it would not roll the pods"


def complete(document: Document) -> bool:
    """Whether a document stands for itself; a patch of a Deployment has no selector."""
    return document.get("kind") != "Deployment" or at(document, "spec", "selector") is not None


def problems_of(documents: list[Document]) -> list[str]:
    """What is wrong in documents that kustomize has built."""
    examples, _ = read(sorted(K8S.glob(EXAMPLES)))
    return list(dict.fromkeys(check(Manifests(documents, examples, routes()))))


def piped() -> Iterator[str]:
    """What is wrong in the manifests on standard input."""
    try:
        documents = [
            document for document in yaml.load_all(sys.stdin, Loader=StrictLoader) if isinstance(document, dict)
        ]
    except yaml.YAMLError as error:
        yield f"standard input: no valid YAML: {' '.join(str(error).split())}"
        return
    yield from problems_of(documents)


def check(manifests: Manifests) -> Iterator[str]:
    """What the rules say."""
    yield from settings(manifests)
    yield from pod_rules.check(manifests)
    yield from link_rules.check(manifests)
    yield from operation_rules.check(manifests)


def listed(folder: Path) -> Iterator[str]:
    """A kustomization lists every file beside it once, and only files that are there."""
    path = folder / "kustomization.yaml"
    if not path.is_file():
        yield f"{path} is missing"
        return
    documents, problems = read([path])
    if problems:
        return
    document = documents[0] if documents else {}
    patches = [patch["path"] for patch in document.get("patches") or () if "path" in patch]
    names = [*(document.get("resources") or ()), *patches]
    present = {file.name for file in set(folder.glob("*.yaml")) - set(folder.glob(EXAMPLES))} - {path.name}
    examples = sorted({file.name for file in folder.glob(EXAMPLES)} & set(map(str, names)))
    yield from (f"{path}: {file} is an example and must not be applied: take it off the list" for file in examples)
    yield from (f"{path}: {file} is listed, but not there" for file in names if not (folder / str(file)).exists())
    yield from (f"{path}: {file} is listed twice" for file in sorted({n for n in names if names.count(n) > 1}))
    yield from (f"{path}: {file} is there, but not listed" for file in sorted(present - set(names)))
    yield from (
        f"{path}: there is no component {file}"
        for file in document.get("components") or ()
        if not (folder / file / path.name).is_file()
    )


def settings(manifests: Manifests) -> Iterator[str]:
    """The server knows each setting in a ConfigMap, takes its value, and would not find a secret there."""
    given = [(label(document), document.get("data") or {}) for document in manifests.of("ConfigMap")]
    for pod in manifests.pods:
        own = [item for container in pod.containers for item in container.get("env") or () if "value" in item]
        given.append((pod.owner, {item.get("name"): item["value"] for item in own}))
    for where, values in given:
        for key, value in values.items():
            if str(key).startswith(PREFIX) and (problem := _setting_problem(str(key), value)):
                yield f"{where}: {problem}"


def _setting_problem(key: str, value: object) -> str | None:
    field = key.removeprefix(PREFIX).lower()
    if field not in ServeSettings.model_fields:
        return f"the server has no setting {key}"
    if field == "api_key":
        return f"{key} is a secret and must not be in git; see secret.example.yaml"
    problem = _refused(field, value)
    return f"{key}: {problem}" if problem else None


def _refused(field: str, value: object) -> str | None:
    try:
        load(ServeSettings, **{field: value})
    except UserError as error:
        return str(error).partition(": ")[2]
    return None


def routes() -> frozenset[str]:
    """The paths of the application: FastAPI's own, and all that serving/app.py writes down; read, not run."""
    nodes = ast.walk(ast.parse(APPLICATION.read_text(encoding="utf-8")))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return frozenset((*FASTAPI, *(text for text in texts if text.startswith("/"))))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
