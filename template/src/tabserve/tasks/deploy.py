"""`deploy`: apply `k8s/` with an image, and wait until it serves."""

from __future__ import annotations

import argparse

import yaml

from tabserve.operations import deploy
from tabserve.project import Project
from tabserve.tasks.check_k8s import paths


def run(arguments: argparse.Namespace, project: Project) -> None:
    """`deploy`: check, apply and wait."""
    with deploy.patient():
        documents = deploy.release(arguments.image)
        if arguments.render:
            print(yaml.safe_dump_all(documents, sort_keys=False), end="")
            return
        if not arguments.unchecked:
            deploy.check(documents, paths(project))
        deploy.deploy(documents)
