"""`serve`: run the server until it is stopped."""

import argparse
import gc
from functools import partial

from tabserve import settings
from tabserve.project import Project
from tabserve.references import application
from tabserve.tasks.model_file import older


def serve(arguments: argparse.Namespace, project: Project) -> None:
    """`serve`: run the server until it is stopped."""
    gc.disable()  # until the server is ready
    from tabserve.serving import process

    configured = settings.load(settings.ServeSettings, host=arguments.host, port=arguments.port)
    process.serve(partial(application, project.application), configured, older(project, configured.model))
