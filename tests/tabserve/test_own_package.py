"""The package that a project has of its own, as the template ships it: its example, and the command."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from tabserve.contract.encoding import layout
from tabserve.errors import UserError
from tabserve.settings import ServeSettings
from tests.conftest import ROOT
from tests.tabserve.conftest import OWN, Trained, example, pipelines_of, wait_until_ready

RUFF = str(Path(sys.executable).with_name("ruff"))
CODE = re.compile(r"^( *)# ?(?=from |class |def |add_hello|$|    |@)", re.MULTILINE)


def uncommented(text: str) -> str:
    """app.py as an editor's command to uncomment leaves it: what is code, without the two sentences before it."""
    kept = [line for line in text.splitlines() if not re.match(r"# (For|An example|`curl)", line)]
    return CODE.sub(r"\1", "\n".join(kept) + "\n")


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """app.py with the example, formatted as `make format` does."""
    path = tmp_path / "app.py"
    path.write_text(uncommented((OWN / "app.py").read_text(encoding="utf-8")), encoding="utf-8")
    options = ("--no-cache", "--quiet", "--config", str(ROOT / "template/ruff.toml"))
    for command in (("check", "--fix"), ("format",), ("check",)):
        done = subprocess.run([RUFF, *command, *options, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    return path


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("edited_app", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ONE_MODEL = pytest.mark.parametrize("trained", ["bought"], indirect=True)


@ONE_MODEL
def test_the_example_works_when_it_is_uncommented(
    edited: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text('[app]\ngreeting = "Good morning"\norigins = ["https://a.example"]\n')
    application = imported(edited).create_app(ServeSettings(model=trained.model))
    with TestClient(application) as client:
        wait_until_ready(client)
        assert client.get("/hello").json() == {"message": "Good morning, world!"}
        assert client.get("/hello", params={"name": "you"}).json() == {"message": "Good morning, you!"}
        assert client.get("/hello", params={"name": "\x1b"}).status_code == 422
        assert "/hello" in client.get("/openapi.json").json()["paths"]
        answer = client.post("/predict", json=example(client), headers={"Origin": "https://a.example"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://a.example"


@ONE_MODEL
def test_own_settings_come_from_the_environment_too_and_typos_are_named(
    edited: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_GREETING", "Hi")
    create_app = imported(edited).create_app
    with TestClient(create_app(ServeSettings(model=trained.model))) as client:
        assert client.get("/hello").json() == {"message": "Hi, world!"}
    (tmp_path / "config.toml").write_text("[app]\ngreting = 'Hi'\n")
    with pytest.raises(UserError, match=r"^config.toml: \[app\] has no setting 'greting'; did you mean greeting"):
        create_app(ServeSettings(model=trained.model))


@ONE_MODEL
def test_any_asgi_server_can_run_the_application(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`granian --factory PACKAGE.app:create_app` calls it without arguments; settings come from config.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVE_MODEL", str(trained.model))
    with TestClient(imported(OWN / "app.py").create_app()) as client:
        wait_until_ready(client)
        assert client.post("/predict", json=example(client)).status_code == 200


CHANGED: dict[str, dict[str, Any]] = {
    "hist_gradient_boosting": {"learning_rate": 0.5, "max_iter": 7},
    "random_forest": {"n_estimators": 7, "min_samples_leaf": 9},
    "linear": {"alpha": 2.0},
    "xgboost": {"n_estimators": 7, "learning_rate": 0.5, "max_depth": 2},
    "lightgbm": {"n_estimators": 7, "learning_rate": 0.5},
}


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("estimator", CHANGED)
@ONE_MODEL
def test_pipelines_take_parameters_and_have_defaults(estimator: str, task: str, trained: Trained) -> None:
    pipelines, columns = pipelines_of(estimator), layout(trained.contract)
    first, *parameters = inspect.signature(pipelines).parameters.values()
    assert [first.name, *(each.name for each in parameters[:2])] == ["task", "columns", "seed"]
    assert {each.name for each in parameters[2:]} == set(CHANGED[estimator])
    assert all(each.default is not inspect.Parameter.empty for each in parameters[2:])
    ((name, usual),) = pipelines(task, columns, 3).items()
    assert name == estimator
    assert usual.steps[-1][1].get_params()["random_state"] == 3
    changed = cast(Any, pipelines)(task, columns, 3, **CHANGED[estimator])[name].steps[-1][1].get_params()
    expected = {"C": 0.5} if (estimator, task) == ("linear", "classification") else CHANGED[estimator]
    assert {key: changed[key] for key in expected} == expected
