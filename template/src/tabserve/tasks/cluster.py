"""The tasks of the cluster that kubectl is set up for."""

import argparse

import yaml

from tabserve.operations import check, kubectl
from tabserve.operations import deploy as deploying
from tabserve.project import Project
from tabserve.references import application
from tabserve.settings import ServeSettings, load
from tabserve.tasks.image import name


def check_k8s(arguments: argparse.Namespace, project: Project) -> None:
    """`check-k8s`: check `k8s/`, or with `-` what kustomize made of it, against the application."""
    _check(project, arguments.piped == "-")


def _check(project: Project, piped: bool = False) -> None:
    if code := check.run(piped, paths(project)):
        raise SystemExit(code)


def paths(project: Project) -> frozenset[str]:
    """The paths of the project's application."""
    return check.paths_of(application(project.application, load(ServeSettings)))


def cluster(arguments: argparse.Namespace, project: Project) -> None:
    """`cluster`: make a cluster on this machine."""
    kubectl.make_cluster(project.name)


def deploy(arguments: argparse.Namespace, project: Project) -> None:
    """`deploy`: check, apply and wait."""
    with deploying.patient():
        documents = deploying.release(name(arguments))
        if arguments.render:
            print(yaml.safe_dump_all(documents, sort_keys=False), end="")
            return
        if not arguments.unchecked:
            _check(project)
            deploying.check(documents, paths(project))
        deploying.deploy(documents)


def rollback(arguments: argparse.Namespace, project: Project) -> None:
    """`rollback`: undo the last release and wait, as for a new one."""
    with deploying.patient():
        deploying.rollback(deploying.manifests())


def undeploy(arguments: argparse.Namespace, project: Project) -> None:
    """`undeploy`: remove everything from the cluster."""
    kubectl.delete()


def status(arguments: argparse.Namespace, project: Project) -> None:
    """`status`: show what runs."""
    kubectl.show()


def logs(arguments: argparse.Namespace, project: Project) -> None:
    """`logs`: show the pods' logs."""
    kubectl.show_logs()
