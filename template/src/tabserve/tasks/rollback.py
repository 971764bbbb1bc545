"""`rollback`: go back to the release before."""

from __future__ import annotations

import argparse

from tabserve.operations import deploy
from tabserve.project import Project


def run(arguments: argparse.Namespace, project: Project) -> None:
    """`rollback`: undo the last release and wait, as for a new one."""
    with deploy.patient():
        deploy.rollback(deploy.manifests())
