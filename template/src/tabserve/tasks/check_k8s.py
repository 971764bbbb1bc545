"""`check-k8s`: what is wrong in the manifests."""

from __future__ import annotations

import argparse

from tabserve.operations import check
from tabserve.project import Project
from tabserve.references import application
from tabserve.settings import ServeSettings, load


def run(arguments: argparse.Namespace, project: Project) -> None:
    """`check-k8s`: check `k8s/`, or with `-` what kustomize made of it, against the application."""
    raise SystemExit(check.run(arguments.piped == "-", paths(project)))


def paths(project: Project) -> frozenset[str]:
    """The paths of the project's application."""
    return check.paths_of(application(project.application, load(ServeSettings)))
