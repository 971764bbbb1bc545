"""One trained project, its image, and what is derived from them; all containers and images go away at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Render, missing, run
from tests.image.engine import REGISTRY, SLUG, docker, separate_streams, status
from tests.project.conftest import Prepared, make, task
from tests.project.conftest import prepared as prepared
from tests.project.servers import free_port


@pytest.fixture(scope="session", autouse=True)
def engine() -> Iterator[None]:
    """Docker Engine; without it every test of this layer is skipped."""
    if problem := engine_problem():
        missing("docker", problem)
    clean()
    yield
    clean()


def engine_problem() -> str:
    """Why no Docker Engine can be used, or nothing."""
    try:
        done = separate_streams("info")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`docker info` does not work: {error}"
    return f"`docker info` fails: {done.stderr.strip()}" if done.returncode else ""


def clean() -> None:
    """Remove this layer's containers and images, also those that an interrupted run left."""
    for container in docker("ps", "--all", "--quiet", "--filter", f"name=^{SLUG}").split():
        docker("rm", "--force", "--volumes", container)
    label = f"label=org.opencontainers.image.title={SLUG}"
    for image in set(docker("images", "--quiet", "--no-trunc", "--filter", label).split()):
        docker("rmi", "--force", image)


@pytest.fixture(scope="session")
def registry(engine: None) -> str:
    """A registry that takes images."""
    code, answer = status(f"http://{REGISTRY}/v2/")
    if code != 200:
        missing("docker", f"there is no registry on {REGISTRY}: {code} {answer}")
    return REGISTRY


@pytest.fixture(scope="session")
def project(engine: None, prepared: Prepared) -> Path:
    """A trained project with a first commit; only read it."""
    folder = prepared(project_name="Image Tests", registry=REGISTRY)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-q", "-m", "First", cwd=folder)
    return folder


@pytest.fixture(scope="session")
def commit(project: Path) -> str:
    """The commit as the Makefile spells it."""
    return run("git", "rev-parse", "--short=12", "HEAD", cwd=project).strip()


@pytest.fixture(scope="session")
def image(project: Path, commit: str) -> str:
    """The project's image, as `make image` builds it."""
    name = f"{REGISTRY}/{SLUG}:{commit}"
    make(project, "image", f"IMAGE={name}")
    return name


@pytest.fixture
def edited(project: Path, image: str, tmp_path: Path) -> Path:
    """A copy with an edit of a source file that no build has seen; the edit holds the folder's name."""
    folder = duplicate(project, tmp_path, f"edited-{uuid.uuid4().hex}")
    with (folder / "src/tabserve/errors.py").open("a", encoding="utf-8") as file:
        file.write(f"\nEDITED = {folder.name!r}\n")
    return folder


@pytest.fixture
def without_model(project: Path, image: str, tmp_path: Path) -> str:
    """An image that was built where there was no model."""
    folder = duplicate(project, tmp_path)
    shutil.rmtree(folder / "model")
    docker("build", "--tag", f"{SLUG}-empty", ".", cwd=folder)
    return f"{SLUG}-empty"


@pytest.fixture
def other_model(project: Path, tmp_path: Path) -> Path:
    """A folder with a model of the same contract from another training."""
    folder = duplicate(project, tmp_path)
    run(str(project / ".venv/bin/python"), "-m", "image_tests", "train", "--seed", "1", cwd=folder)
    return folder / "model"


@pytest.fixture
def truncated_model(project: Path, tmp_path: Path) -> Path:
    """A folder with the first half of the model."""
    whole = (project / "model/model.onnx").read_bytes()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.onnx").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "model"


@pytest.fixture(scope="session")
def port(engine: None) -> int:
    """A free port, for the project that is rendered for it."""
    return free_port()


@pytest.fixture(scope="session")
def composed(render: Render, project: Path, image: str, port: int) -> Path:
    """The same project rendered for a port of its own, with the trained model."""
    folder = render(project_name="Image Tests", registry=REGISTRY, port=port)
    for name in ("model", "uv.lock", "contract.yaml"):
        copy = shutil.copytree if (project / name).is_dir() else shutil.copy2
        copy(project / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def pushed(project: Path, image: str, registry: str) -> str:
    """The project's image, as `make push` brought it into the registry."""
    task(project, "push", "--image", image)
    return image


@pytest.fixture(scope="session")
def swarm(engine: None) -> Iterator[None]:
    """A swarm of this machine, which is left again if it was made here."""
    inactive = json.loads(docker("info", "--format", "{{json .Swarm.LocalNodeState}}")) == "inactive"
    if inactive:
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    yield
    if inactive:
        docker("swarm", "leave", "--force")


def duplicate(project: Path, folder: Path, name: str = "project") -> Path:
    """A copy of a project that may be changed, without environment, history and caches."""
    ignored = shutil.ignore_patterns(".venv", ".git", ".*_cache", "__pycache__")
    return shutil.copytree(project, folder / name, ignore=ignored)
