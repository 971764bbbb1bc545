"""The models of hostile tables, mounted into the container: it says what the scored file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.engine import served
from tests.project.servers import post
from tests.tables import LEARNED, Driven, Hostile, driven


@pytest.fixture(scope="module")
def results(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Driven]:
    """A model for each table, and what its scored file says."""
    return driven(project, tmp_path_factory.mktemp("tables"), LEARNED)


@pytest.mark.parametrize("table", LEARNED, ids=lambda table: table.name)
def test_the_container_says_what_the_scored_file_says(results: dict[str, Driven], image: str, table: Hostile) -> None:
    result = results[table.name]
    assert result.code == 0, result.printed + result.errors
    with served(image, "--env", "SERVE_PROJECT=", "--volume", f"{result.folder / 'model'}:/app/model:ro") as url:
        answer = post(f"{url}/predict", result.document("rows.json"))
    assert answer["predictions"] == result.document("predictions.json")
