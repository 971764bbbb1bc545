"""The cluster that kubectl is set up for."""

import json
from pathlib import Path

from tabserve.errors import UserError
from tabserve.operations import programs
from tabserve.operations.manifests import Document, read


def kubectl(*arguments: str) -> str:
    """What kubectl prints; `UserError` with the last thing it said."""
    done = programs.run("kubectl", *arguments)
    if done.returncode:
        raise UserError(f"`kubectl {' '.join(arguments[:2])}` failed: {programs.last_line(done.stderr)}")
    return done.stdout


def get(namespace: str, *arguments: str) -> Document:
    """What kubectl knows of something, as data."""
    found: Document = json.loads(kubectl("get", "--namespace", namespace, "--output", "json", *arguments))
    return found


def check_reachable() -> None:
    """There is a cluster, and it lets us in, or `UserError`."""
    done = programs.run("kubectl", "get", "--raw", "/version", "--request-timeout", "15s")
    if done.returncode:
        reason = programs.last_line(done.stderr)
        raise UserError(f"kubectl reaches no cluster ({reason}): set KUBECONFIG, or make one with `make cluster`")


def in_namespace() -> tuple[str, ...]:
    """The option that names the namespace of k8s/kustomization.yaml, if there is one."""
    documents, _ = read([Path("k8s/kustomization.yaml")])
    found = next((document["namespace"] for document in documents if document.get("namespace")), None)
    return ("--namespace", str(found)) if found else ()
