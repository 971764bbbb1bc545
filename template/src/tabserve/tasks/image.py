"""The tasks of images and containers."""

import argparse
import http.client
import json
import os
import re
import time

from tabserve import settings
from tabserve.errors import UserError, say
from tabserve.operations import image as images
from tabserve.operations import programs
from tabserve.operations import size as sizes
from tabserve.operations.container import POLL, READY_SECONDS, last_log
from tabserve.project import Project
from tabserve.tasks.model_file import train_if_missing

OF_THE_IMAGE = ("host", "port", "model")  # settings that a container has its own values for


def image(arguments: argparse.Namespace, project: Project) -> None:
    """`image`: build the server's image, tagged by commit and model, version, latest."""
    train_if_missing(project)
    built, version = name(arguments), images.version()
    base = images.untagged(built)
    labels = ("--build-arg", f"VERSION={version}", "--build-arg", f"COMMIT={images.commit()}")
    tags = (option for tag in (built, f"{base}:{version}", f"{base}:latest") for option in ("--tag", tag))
    programs.call("docker", "build", *labels, *tags, ".")
    say(f"ok  {built}")


def jobs_image(arguments: argparse.Namespace, project: Project) -> None:
    """`jobs-image`: build the image for jobs."""
    train_if_missing(project)
    programs.call("docker", "build", "--target", "jobs", "--tag", images.jobs(name(arguments)), ".")


def run(arguments: argparse.Namespace, project: Project) -> None:
    """`run`: a container of the image, on a port of this machine."""
    port = settings.load(settings.ServeSettings, port=arguments.port).port
    named = name(arguments)
    programs.path_of("docker")
    exposed = programs.output("docker", "image", "inspect", "--format", "{{json .Config.ExposedPorts}}", named)
    if not exposed:
        raise UserError(f"there is no image {named} on this machine: build it with `make image`")
    inside = next(iter(json.loads(exposed) or {}), f"{port}/tcp").partition("/")[0]
    publish = ("--publish", f"127.0.0.1:{port}:{inside}")
    # Docker takes the values, keys among them, from the environment, so that no list of processes shows them.
    given = (f"SERVE_{field.upper()}" for field in settings.ServeSettings.model_fields if field not in OF_THE_IMAGE)
    environment = [word for variable in given if variable in os.environ for word in ("--env", variable)]
    if code := programs.code_of("docker", "run", "--detach", *publish, *environment, "--name", project.name, named):
        left = (*_filter(project), "--filter", "status=created")  # its port was taken, say
        if found := programs.output("docker", "ps", "--all", "--quiet", *left):
            programs.output("docker", "rm", found)
        raise SystemExit(code)
    _wait_until_ready(project.name, port)
    say(f"ok  http://127.0.0.1:{port}/docs")


def _wait_until_ready(container: str, port: int) -> None:
    """Until the server answers that it is ready; `UserError` where it ends or stays unready."""
    status = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(port):
        state = programs.output("docker", "inspect", "--format", status, container)
        if state not in ("running healthy", "running starting", "running") or time.monotonic() > deadline:
            raise UserError(f"the container {container} is not ready{last_log(container)}")
        time.sleep(POLL)


def _is_ready(port: int) -> bool:
    """What `/readyz` says; asked without the proxy that the environment may name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _filter(project: Project) -> tuple[str, ...]:
    return ("--filter", f"name=^{project.name}$")


def ps(arguments: argparse.Namespace, project: Project) -> None:
    """`ps`: show the container."""
    programs.call("docker", "ps", "--all", *_filter(project))


def stop(arguments: argparse.Namespace, project: Project) -> None:
    """`stop`: stop the container; requests in flight are finished first."""
    programs.call("docker", "stop", "--time", "30", project.name)


def rm(arguments: argparse.Namespace, project: Project) -> None:
    """`rm`: remove the container."""
    programs.call("docker", "rm", project.name)


def push(arguments: argparse.Namespace, project: Project) -> None:
    """`push`: push the image, by commit and by version."""
    named = name(arguments)
    for tag in (named, f"{images.untagged(named)}:{images.version()}"):
        programs.call("docker", "push", "--quiet", tag)


def push_jobs(arguments: argparse.Namespace, project: Project) -> None:
    """`push-jobs`: push the image for jobs."""
    programs.call("docker", "push", "--quiet", images.jobs(name(arguments)))


def size(arguments: argparse.Namespace, project: Project) -> None:
    """`size`: measure what a pod needs, and propose or write it."""
    texts = {option: getattr(arguments, option) for option in ("rps", "seconds", "cpus", "memory")}
    given = {option: sizes.amount(text) for option, text in texts.items() if text is not None}
    sizes.run(name(arguments), write=arguments.write, **given)


def name(arguments: argparse.Namespace) -> str:
    """The image that was named, or that of the code and the model as they are."""
    if arguments.image and not re.fullmatch(r"\w[\w./:@-]*", arguments.image):
        raise UserError(f"{arguments.image} is not the name of an image: write IMAGE=registry/name:tag (or --image)")
    return arguments.image or images.name(settings.load(settings.ModelSettings).model)
