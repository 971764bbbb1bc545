"""A small table with every kind of column and hostile names, and models trained on it.

The machinery is read where it lies, in template/src; so is the package that a project has of its own.
"""

import datetime as dt
import importlib.util
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from fastapi.testclient import TestClient

from tabserve.contract.model import Contract, Task
from tabserve.discovery import infer
from tabserve.project import Project
from tabserve.serving.app import model_app
from tabserve.settings import ServeSettings
from tabserve.training import train
from tests.conftest import ROOT

ROWS = 400
TARGETS: dict[str, Task] = {"bought": "classification", "Größe": "classification", "prix €": "regression"}
SOURCE = ROOT / "template/src"
OWN = SOURCE / "{{ package_name }}"  # no file of it has any Jinja inside
PACKAGE = "loan_offers"


def pipelines_of(estimator: str) -> train.Pipelines:
    """The function of `pipeline.py` for an estimator."""
    (path,) = OWN.glob(f"*'{estimator}'*/pipeline.py")
    spec = importlib.util.spec_from_file_location("pipeline", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pipelines: train.Pipelines = module.pipelines
    return pipelines


PIPELINES = pipelines_of("hist_gradient_boosting")
PROJECT = Project("loan-offers", "", "", "")  # for tasks that read nothing of it


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of a project."""
    folder = tmp_path_factory.mktemp("src")
    made = folder / PACKAGE
    made.mkdir()
    (pipeline,) = OWN.glob("*'hist_gradient_boosting'*/pipeline.py")
    for path in (*OWN.glob("*.py"), pipeline):
        shutil.copy(path, made)
    return folder


@pytest.fixture
def environment(package: Path) -> dict[str, str]:
    """The environment of a process that finds both packages."""
    return variables(package)


def variables(package: Path) -> dict[str, str]:
    """As the fixture `environment`."""
    return os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{package}", "COLUMNS": "200", "NO_COLOR": "1"}


@dataclass(frozen=True, repr=False)
class Trained:
    """A model that was trained for the tests."""

    contract: Contract
    outcome: train.Outcome
    source: Path
    model: Path


def hostile_rows() -> Iterator[dict[str, Any]]:
    """Rows with numbers, categories, booleans, dates and gaps, under names that need care."""
    chance = random.Random(7)
    for position in range(ROWS):
        area = round(chance.uniform(20, 200), 1)
        city = chance.choice(["Köln", "São Paulo", "北京", 'O"Hara', "a,b"])
        warm = chance.random() < 0.5
        price = round(area * 10 + 300 * warm + chance.gauss(0, 40), 2)
        yield {
            "id": 1_000 + position,
            "Wohnfläche (m²)": None if position % 17 == 0 else area,
            "rooms, total": chance.randint(1, 6),
            'city "name"': None if position % 23 == 0 else city,
            "warm?": None if position % 29 == 0 else warm,
            "seit": None if position % 31 == 0 else dt.date(2020, 1, 1) + dt.timedelta(days=chance.randint(0, 900)),
            "last.seen": dt.datetime(2024, 1, 1, 12) + dt.timedelta(minutes=chance.randint(0, 500_000)),
            "Uhrzeit": None if position % 37 == 0 else dt.time(position % 24, position * 7 % 60, position % 3),
            "source": "web",
            "remark": f"{city} has {chance.randint(0, 10**9)} reasons to be visited",
            "bought": "yes" if price > 1_300 and chance.random() < 0.9 else "no",
            "Größe": "klein" if area < 70 else "mittel" if area < 140 else "groß",
            "prix €": price,
        }


@pytest.fixture(scope="session")
def table() -> pl.DataFrame:
    """The hostile table, with native types."""
    return pl.DataFrame(list(hostile_rows()), infer_schema_length=None)


@pytest.fixture(scope="session")
def csv_file(table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile table as CSV."""
    path = tmp_path_factory.mktemp("table") / "hostile table.csv"
    table.write_csv(path)
    return path


@pytest.fixture(scope="session", params=list(TARGETS))
def trained(request: pytest.FixtureRequest, csv_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A binary, a multiclass and a regression model."""
    contract = infer.infer(csv_file, request.param)
    outcome = train.train(
        PIPELINES, contract, csv_file, seed=0, test_size=0.25, step=lambda name: nullcontext(), max_rows=10**6
    )
    model = tmp_path_factory.mktemp("model") / "model.onnx"
    model.write_bytes(outcome.model)
    return Trained(contract, outcome, csv_file, model)


@pytest.fixture(scope="session")
def client(trained: Trained) -> Iterator[TestClient]:
    """A running application with the trained model; an exception inside it fails the test."""
    with TestClient(model_app(ServeSettings(model=trained.model, max_rows=50, max_body_bytes=100_000))) as client:
        wait_until_ready(client)
        yield client


def wait_until_ready(client: TestClient) -> None:
    """Ask until the model is loaded."""
    for _ in range(500):
        if client.get("/readyz").status_code == 200:
            return
    raise AssertionError(client.get("/readyz").text)


def example(client: TestClient) -> dict[str, Any]:
    """A row that the model of a client accepts."""
    row: dict[str, Any] = cast(Any, client.app).state.service.predictor.model.example
    return row
