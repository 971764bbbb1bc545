"""A project that starts from a file of the user's own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import copy
from tests.project.conftest import make
from tests.project.servers import get, post, serving

NAME = "Wohn fläche, m²"


def table(rows: int) -> str:
    """A CSV with awkward column names and a binary target that depends on them."""
    chance = random.Random(1)
    lines = [f'id,"{NAME}",Stadt,ist teuer?']
    for number in range(rows):
        area = round(chance.uniform(20, 200), 1)
        lines.append(f"{number},{area},{chance.choice(['Köln', 'Łódź'])},{'ja' if area > 110 else 'nein'}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def project(copier_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "project"
    answers = {"data_source": "file", "data_path": "data/my flats.csv", "target_column": "ist teuer?", "ci": "none"}
    return copy(copier_template, folder, answers)


def test_train_says_which_file_is_missing_then_serves_the_users_columns(project: Path) -> None:
    assert "error: data/my flats.csv does not exist" in make(project, "train", code=2)
    (project / "data").mkdir()
    (project / "data/my flats.csv").write_text(table(300), encoding="utf-8")
    make(project, "train")
    with serving(project) as url:
        row = get(f"{url}/openapi.json")["components"]["schemas"]["Row"]
        assert list(row["properties"]) == [NAME, "Stadt"]
        answer = post(f"{url}/predict", [{NAME: 30, "Stadt": "Köln"}, {NAME: 190.5, "Stadt": "Łódź"}])
        assert [prediction["label"] for prediction in answer["predictions"]] == ["nein", "ja"]


def test_an_update_of_the_data_is_found_by_the_contract(project: Path) -> None:
    (project / "data/my flats.csv").write_text(table(300).replace("Köln", "Bonn"), encoding="utf-8")
    printed = make(project, "contract", "DATA=data/my flats.csv", code=2)
    assert "'Stadt' categories: new [Bonn], removed [Köln]" in printed
    assert "WRITE=1" in printed
