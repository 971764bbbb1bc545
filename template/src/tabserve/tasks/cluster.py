"""The tasks of the cluster that kubectl is set up for."""

import argparse
import sys
from pathlib import Path

import yaml

from tabserve.errors import UserError, say
from tabserve.operations import check, programs
from tabserve.operations import deploy as deploying
from tabserve.operations.kubectl import check_reachable, in_namespace
from tabserve.operations.manifests import read
from tabserve.project import Project
from tabserve.references import application
from tabserve.settings import ServeSettings, load
from tabserve.tasks.image import name

KINDS = "deployments,pods,services,horizontalpodautoscalers,poddisruptionbudgets"
SCRIPT = Path(check.__file__).with_name("cluster.sh")
NODE_PORT = 30080


def check_k8s(arguments: argparse.Namespace, project: Project) -> None:
    """`check-k8s`: check `k8s/`, or with `-` what kustomize made of it."""
    _check(project, arguments.piped == "-")


def _check(project: Project, piped: bool = False) -> None:
    if code := check.run(piped, paths(project)):
        raise SystemExit(code)


def paths(project: Project) -> frozenset[str]:
    """The paths of the project's application."""
    return check.paths_of(application(project.application, load(ServeSettings)))


def cluster(arguments: argparse.Namespace, project: Project) -> None:
    """`cluster`: make a cluster on this machine, with a node port."""
    documents, _ = read([Path("k8s/service.yaml")])
    port = next(iter(deploying.node_ports(documents)), NODE_PORT)
    programs.call("sh", str(SCRIPT), project.name, str(port))


def deploy(arguments: argparse.Namespace, project: Project) -> None:
    """`deploy`: check, apply and wait."""
    documents = deploying.release(name(arguments))
    if arguments.render:
        sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False))  # for a program: nothing is hidden
        return
    if not arguments.unchecked:
        _check(project)
        deploying.check(documents, paths(project))
    deploying.deploy(documents)


def rollback(arguments: argparse.Namespace, project: Project) -> None:
    """`rollback`: undo the last release and wait, as for a new one."""
    deploying.rollback(deploying.manifests())


def undeploy(arguments: argparse.Namespace, project: Project) -> None:
    """`undeploy`: remove everything, the namespace and all in it included."""
    check_reachable()
    programs.call("kubectl", "delete", "--ignore-not-found", "--kustomize", "k8s")


def status(arguments: argparse.Namespace, project: Project) -> None:
    """`status`: show what runs."""
    check_reachable()
    programs.call("kubectl", *in_namespace(), "get", KINDS, "--output", "wide")


def logs(arguments: argparse.Namespace, project: Project) -> None:
    """`logs`: show the last lines of each pod's log."""
    check_reachable()
    pods = programs.output("kubectl", *in_namespace(), "get", "pods", "--output", "name").split()
    if not pods:
        raise UserError("there are no pods: `make deploy` starts them")
    for pod in pods:
        lines = programs.output("kubectl", *in_namespace(), "logs", pod, "--prefix", "--tail", "100")
        say(lines or f"{pod} has no logs yet")
