"""The tasks of images and containers."""

import argparse

from tabserve import settings
from tabserve.operations import image as images
from tabserve.operations import size as sizes
from tabserve.project import Project
from tabserve.tasks.model_file import train_if_missing


def image(arguments: argparse.Namespace, project: Project) -> None:
    """`image`: build the server's image, with the model."""
    train_if_missing(project)
    images.build(name(arguments))


def jobs_image(arguments: argparse.Namespace, project: Project) -> None:
    """`jobs-image`: build the image for jobs."""
    train_if_missing(project)
    images.build_jobs(name(arguments))


def run(arguments: argparse.Namespace, project: Project) -> None:
    """`run`: a container of the image."""
    port = settings.load(settings.ServeSettings, port=arguments.port).port
    images.run(name(arguments), project.name, port)


def ps(arguments: argparse.Namespace, project: Project) -> None:
    """`ps`: show the container."""
    images.show(project.name)


def stop(arguments: argparse.Namespace, project: Project) -> None:
    """`stop`: stop the container."""
    images.stop(project.name)


def rm(arguments: argparse.Namespace, project: Project) -> None:
    """`rm`: remove the container."""
    images.remove(project.name)


def push(arguments: argparse.Namespace, project: Project) -> None:
    """`push`: push the image, by commit and by version."""
    named = name(arguments)
    images.push(named, f"{images.untagged(named)}:{images.version()}")


def push_jobs(arguments: argparse.Namespace, project: Project) -> None:
    """`push-jobs`: push the image for jobs."""
    images.push(images.jobs(name(arguments)))


def size(arguments: argparse.Namespace, project: Project) -> None:
    """`size`: measure what a pod needs, and propose or write it."""
    given = {option: getattr(arguments, option) for option in ("rps", "seconds", "cpus", "memory")}
    options = [part for option, value in given.items() if value for part in (f"--{option}", value)]
    raise SystemExit(sizes.main([name(arguments), *options, *(["--write"] if arguments.write else [])]))


def name(arguments: argparse.Namespace) -> str:
    """The image that was named, or that of the code and the model as they are."""
    return arguments.image or images.name(settings.load(settings.ModelSettings).model)
