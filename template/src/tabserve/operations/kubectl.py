"""The cluster that kubectl is set up for: what runs there, its logs, its end; and a cluster on this machine."""

from pathlib import Path

from tabserve.operations import programs
from tabserve.operations.deploy import node_ports, reachable
from tabserve.operations.manifests import read

KINDS = "deployments,pods,services,horizontalpodautoscalers,poddisruptionbudgets"
SCRIPT = Path(__file__).with_name("cluster.sh")
NODE_PORT = 30080
LOG_LINES = "100"


def namespace() -> tuple[str, ...]:
    """The option that names the project's namespace, as in k8s/kustomization.yaml; none where there is none."""
    documents, _ = read([Path("k8s/kustomization.yaml")])
    found = next((document["namespace"] for document in documents if document.get("namespace")), None)
    return ("--namespace", str(found)) if found else ()


def show() -> None:
    """Show what runs.

    Raises:
        UserError: there is no cluster.
    """
    reachable()
    programs.call("kubectl", *namespace(), "get", KINDS)


def show_logs() -> None:
    """Show the last lines of each pod's log.

    Raises:
        UserError: there is no cluster.
    """
    reachable()
    for pod in programs.output("kubectl", *namespace(), "get", "pods", "--output", "name").split():
        lines = programs.output("kubectl", *namespace(), "logs", pod, "--prefix", "--tail", LOG_LINES)
        print(lines or f"{pod} has no logs yet", flush=True)


def delete() -> None:
    """Remove everything that k8s/ describes, the namespace and all that is in it among it.

    Raises:
        UserError: there is no cluster.
    """
    reachable()
    programs.call("kubectl", "delete", "--ignore-not-found", "--kustomize", "k8s")


def make_cluster(name: str) -> None:
    """Make a cluster on this machine, with a node port that this machine can reach.

    Raises:
        UserError: there is no shell; the script itself says what else is missing.
    """
    documents, _ = read([Path("k8s/service.yaml")])
    ports = node_ports(documents) or [NODE_PORT]
    programs.call("sh", str(SCRIPT), name, str(ports[0]))
