"""Files as people really have them, from `make contract` to predictions with no edit, or with one clear line."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence

import pytest

from tests.conftest import run
from tests.heldout import differences, held_out
from tests.project.conftest import Prepared
from tests.tables import LEARNED, REFUSED, Driven, Hostile, driven

USELESS = ("outliers.csv",)  # its model is worse than the mean, and the project's tests say so


def named(tables: Sequence[Hostile]) -> pytest.MarkDecorator:
    """A test for each table."""
    return pytest.mark.parametrize("table", tables, ids=lambda table: table.name)


@pytest.fixture(scope="module")
def results(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Driven]:
    """What became of each table."""
    return driven(prepared(), tmp_path_factory.mktemp("tables"), [*LEARNED, *REFUSED])


@named(LEARNED)
def test_the_table_is_learned_with_no_edit(results: dict[str, Driven], table: Hostile) -> None:
    """The API, the scored file and the check agree, or the exit code would not be 0."""
    result = results[table.name]
    assert result.code == 0, result.printed + result.errors
    contract = result.document("contract.yaml")
    assert contract["task"] == table.task
    assert {key: _said(contract["columns"], key) for key in table.columns} == table.columns
    assert table.says in result.printed
    assert len(result.document("predictions.json")) >= 30


@named(LEARNED)
def test_the_held_out_rows_get_the_predictions_of_the_pipeline(results: dict[str, Driven], table: Hostile) -> None:
    """What the fitted pipeline said of a row is what the scored file says of it."""
    result = results[table.name]
    expected = held_out(result.folder)
    rows, predictions = result.document("rows.json"), result.document("predictions.json")
    found = []
    for one in expected:
        position = next(i for i, row in enumerate(rows) if _equal(row, one.row))
        found.append(predictions[position])
        rows[position] = {}
    assert expected
    assert differences(expected, found) == []


@named(random.Random(1).sample([table for table in LEARNED if table.name not in USELESS], 4))
def test_the_projects_own_tests_hold_for_it(results: dict[str, Driven], prepared: Prepared, table: Hostile) -> None:
    """Without the manifests, which know no table."""
    project, folder = prepared(), results[table.name].folder
    shutil.copytree(project / "tests", folder / "tests", ignore=shutil.ignore_patterns("test_manifests.py"))
    command = (str(project / ".venv/bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert " passed" in run(*command, cwd=folder)


@named(REFUSED)
def test_the_table_is_refused_in_one_line(results: dict[str, Driven], table: Hostile) -> None:
    """And nothing is written."""
    result = results[table.name]
    assert (result.code, len(result.errors.strip().splitlines())) == (1, 1), result.errors
    assert result.errors.startswith("error: ")
    assert table.error in result.errors
    left = {path.name for path in result.folder.iterdir()} - {"result.json", table.name}
    assert left == set()


def _said(columns: dict[str, dict[str, object]], key: str) -> str:
    """The type of a column, `ignored`, or the value of one of its fields."""
    name, _, field = key.partition("=")
    column = columns[name]
    if field:
        return str(column[field])
    return "ignored" if column["role"] == "ignored" else str(column["type"])


def _equal(row: dict[str, object], other: dict[str, object]) -> bool:
    """Whether a row of the file is a held-out row, which has moments to the microsecond."""
    return bool(row) and all(_plain(row.get(name)) == _plain(value) for name, value in other.items())


def _plain(value: object) -> object:
    return value.replace(" ", "T").split(".")[0].rstrip("Z") if isinstance(value, str) and ":" in value else value
