"""What the image is made of, how it is built again, and which model it serves."""

from __future__ import annotations

import json
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

from tests.conftest import run
from tests.heldout import differences, held_out
from tests.image.conftest import duplicate
from tests.image.engine import (
    QUICK_HEALTH,
    SLUG,
    START,
    address,
    build_steps,
    container,
    docker,
    inspect,
    listed,
    python,
    python_in,
    ready,
    served,
    state,
    status,
    wait_until_health,
)
from tests.project.servers import get, post

BASE = "python:3.13-slim"
MEGABYTE = 10**6
CONTENT = """
import importlib.metadata, json, pathlib, shutil, sys
PACKAGES = next(folder for folder in sys.path if folder.startswith("/app/.venv/"))
app = pathlib.Path("/app")
files = [str(path.relative_to(app)) for path in app.rglob("*") if path.is_file()]
print(json.dumps({
    "files": [name for name in files if not name.startswith(".venv/") and "__pycache__" not in name],
    "environment": [name for name in files if name.startswith(".venv/")],
    "compiled": [name for name in files if name.startswith("src/") and name.endswith(".pyc")],
    "packages": [item.metadata["Name"].lower() for item in importlib.metadata.distributions(path=[PACKAGES])],
    "tools": [name for name in ("uv", "uvx", "gcc", "cc", "git", "make") if shutil.which(name)],
}))
"""
TRAINING = {
    "polars",
    "scikit-learn",
    "scipy",
    "matplotlib",
    "onnx",
    "skl2onnx",
    "pandas",
    "rich",
    "pyyaml",
    "questionary",
}
TOOLS = {"uv", "pip", "setuptools", "pytest", "mypy", "ruff", "hypothesis", "pre-commit", "httpx2", SLUG}


def base_image() -> Any:
    """The base image; a builder need not have put it among the engine's images."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        docker("pull", "--quiet", BASE)
    return inspect(BASE, "--type", "image")


def test_it_adds_at_most_135_mb_to_its_base(image: str) -> None:
    added = inspect(image)["Size"] - base_image()["Size"]
    assert 0 < added / MEGABYTE <= 135


def test_the_base_is_an_argument(project: Path) -> None:
    failing = ("--build-arg", "BASE=localhost:1/none", "--build-arg", "BASE_TAG=0", ".")
    assert "localhost:1/none:0" in docker("build", *failing, cwd=project, code=1)


def test_layers_are_ordered_from_slow_to_fast_to_change(image: str) -> None:
    newest_first = listed("history", image)
    (environment,) = indexes(newest_first, "/app/.venv .venv")
    (code,) = indexes(newest_first, "/app/src src")
    (model,) = indexes(newest_first, "model/ #")
    assert model < code < environment
    assert [layer["Size"] for layer in newest_first[:model]] == ["0B"] * model
    assert newest_first[model]["Size"] != "0B"


def indexes(layers: list[dict[str, Any]], text: str) -> list[int]:
    return [index for index, layer in enumerate(layers) if text in layer["CreatedBy"] and "COPY" in layer["CreatedBy"]]


def test_user_entrypoint_and_healthcheck(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "-m", "image_tests"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"][:3] == ["CMD", "python", "-c"]


def test_labels_say_which_version_and_commit_it_is(image: str, project: Path, commit: str) -> None:
    labels = inspect(image)["Config"]["Labels"]
    version = tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
    assert labels["org.opencontainers.image.title"] == SLUG
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.revision"] == commit
    assert run("git", "cat-file", "-t", commit, cwd=project).strip() == "commit"


def test_it_holds_what_the_server_needs_and_nothing_else(image: str, project: Path) -> None:
    content = json.loads(python_in(image, CONTENT))
    source = [str(path.relative_to(project)) for path in project.glob("src/**/*.py")]
    assert sorted(content["files"]) == sorted(["config.toml", "model/model.onnx", *source])
    assert len(content["compiled"]) == len(source)
    assert {"fastapi", "granian", "onnxruntime"} <= set(content["packages"])
    assert (TRAINING | TOOLS) & set(content["packages"]) == set()
    assert not [name for name in content["environment"] if "/tests/" in name or name.endswith(".pyi")]
    assert content["tools"] == []


def test_it_becomes_ready_and_healthy_as_a_user_without_rights(image: str) -> None:
    started = time.monotonic()
    with container(image, "--publish", "127.0.0.1::8080") as name:
        ready(address(name), name)
        assert time.monotonic() - started < START
        wait_until_health(name, "healthy")
        assert python(name, "import os; print(os.getuid(), os.getgid())").split() == ["10001", "10001"]
        command = python(name, "print(open('/proc/1/cmdline').read().replace(chr(0), ' '))")
        assert command.split() == ["python", "-m", "image_tests", "serve"]
        assert "FastAPI's path" not in docker("logs", name), "the fast path is as good in the image's Python"


def test_an_edit_of_the_code_installs_nothing_again(edited: Path) -> None:
    tag = f"{SLUG}-edited"
    steps = build_steps(edited, tag)
    assert [cached for step, cached in steps.items() if "uv sync" in step] == [True]
    assert [cached for step, cached in steps.items() if "pip install" in step] == [True]
    assert [cached for step, cached in steps.items() if "COPY src" in step] == [False]
    assert [cached for step, cached in steps.items() if "/app/.venv .venv" in step] == [True]
    assert python_in(tag, "from tabserve.errors import EDITED; print(EDITED)").strip() == edited.name


def test_a_change_of_the_dependencies_installs_again(edited: Path) -> None:
    """So that the test above can fail: what it reads does tell a cached step from another."""
    path = edited / "pyproject.toml"
    path.write_text(path.read_text().replace('description = "', f'description = "{edited.name}: '))
    steps = build_steps(edited, f"{SLUG}-changed")
    assert [cached for step, cached in steps.items() if "uv sync" in step] == [False]


# --- the model


def test_held_out_rows_get_the_predictions_of_the_pipeline(image: str, project: Path) -> None:
    expected = held_out(project)
    assert len(expected) == 800
    assert {one.label for one in expected} == {"no", "yes"}
    with served(image) as url:
        answer = post(f"{url}/predict", [one.row for one in expected])
    assert differences(expected, answer["predictions"]) == []


def test_a_mounted_model_is_served_instead_of_the_one_inside(image: str, other_model: Path) -> None:
    with served(image) as url:
        inside = get(f"{url}/model")["version"]
    with served(image, "--volume", f"{other_model}:/app/model:ro") as url:
        mounted = get(f"{url}/model")["version"]
        expected = held_out(other_model.parent)
        answer = post(f"{url}/predict", [one.row for one in expected])
    assert mounted != inside
    assert answer["model_version"] == mounted
    assert differences(expected, answer["predictions"]) == []


def test_without_a_model_it_lives_and_says_why_it_is_not_ready(without_model: str) -> None:
    reason = "there is no model at model/model.onnx: train one with `make train`"
    check_never_ready(without_model, reason)


def test_a_truncated_model_leaves_it_alive_and_not_ready(image: str, truncated_model: Path) -> None:
    reason = "model/model.onnx was changed after it was trained, or is damaged"
    check_never_ready(image, reason, "--volume", f"{truncated_model}:/app/model:ro")


def check_never_ready(image: str, reason: str, *options: str) -> None:
    with container(image, "--publish", "127.0.0.1::8080", *QUICK_HEALTH, *options) as name:
        wait_until_health(name, "unhealthy", 30)
        url = address(name)
        assert status(f"{url}/livez")[0] == 200
        code, answer = status(f"{url}/readyz")
        assert (code, reason in answer) == (503, True), answer
        assert status(f"{url}/predict", {})[0] == 503
        assert reason in state(name)["Health"]["Log"][-1]["Output"]
        lines = [json.loads(line) for line in docker("logs", name).splitlines()]
        assert [line["level"] for line in lines if reason in line["message"]] == ["error"]
        assert state(name)["Running"]


def test_what_lies_about_in_the_source_and_how_strict_the_host_is_do_not_matter(project: Path, tmp_path: Path) -> None:
    folder = duplicate(project, tmp_path)
    for name in ("src/.env", "src/image_tests/key.pem", "src/image_tests/customers.csv"):
        (folder / name).write_text("secret\n")
    for path in [*folder.joinpath("src").rglob("*"), *folder.joinpath("model").rglob("*"), folder / "config.toml"]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    name = f"{SLUG}-strict"
    docker("build", "--tag", name, ".", cwd=folder)
    with served(name) as url:
        assert get(f"{url}/readyz") == {"status": "ready"}
    found = python_in(name, "import pathlib; print(*pathlib.Path('/app/src').rglob('*'))").split()
    assert found
    assert all(Path(path).suffix in ("", ".py", ".pyc") and not Path(path).name.startswith(".") for path in found)
