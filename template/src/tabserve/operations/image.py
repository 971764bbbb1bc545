"""The names of the images of the server and of jobs."""

import re
from pathlib import Path

from tabserve.errors import UserError
from tabserve.files import toml
from tabserve.operations import programs
from tabserve.operations.manifests import SERVER, items, read

# What is in the server's image besides the model: a change elsewhere, as in k8s/, needs no new image.
INPUTS = (".dockerignore", "Dockerfile", "config.toml", "pyproject.toml", "src", "uv.lock", "uv.txt")


def name(model: Path) -> str:
    """Registry, repository and tag: commit and start of the model's digest."""
    digest = programs.output("git", "hash-object", str(model))[:8] if model.is_file() else ""
    return f"{repository()}:{commit()}-{digest or 'without-model'}"


def repository() -> str:
    """Registry and repository, as in k8s/deployment.yaml."""
    for document in read([Path("k8s/deployment.yaml")])[0]:
        for container in items(document, "spec", "template", "spec", "containers"):
            if container.get("name") == SERVER and container.get("image"):
                return untagged(str(container["image"]))
    raise UserError(f"k8s/deployment.yaml has no image in its container {SERVER!r}: write registry/name:tag there")


def untagged(image: str) -> str:
    """An image's name without tag and digest."""
    return re.sub(r":[^:/]*$", "", image.partition("@")[0])


def commit() -> str:
    """The last commit that changed the image, or `uncommitted`."""
    found = programs.output("git", "log", "-1", "--format=%h", "--abbrev=12", "--", *INPUTS)
    dirty = programs.output("git", "status", "--porcelain", "--", *INPUTS)
    return f"{found}{'-dirty' if dirty else ''}" if found else "uncommitted"


def version() -> str:
    """The project's version, from pyproject.toml."""
    try:
        return str(toml(Path("pyproject.toml"))["project"]["version"])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"pyproject.toml: [project] version cannot be read: {error}") from None


def jobs(image: str) -> str:
    """The name of the image for training and batch scoring in a cluster."""
    return f"{untagged(image)}-jobs:{version()}"
