"""Texts that a spreadsheet would run are marked in what we write, and come back as they were."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tabserve.tables import reader
from tabserve.tables.cells import marked, unmarked

ALPHABET = st.one_of(st.sampled_from("=+-@＝＋－＠'\" \t\r\n,;15.x\u00a0"), st.characters(exclude_categories=["Cs"]))
TEXTS = st.lists(st.text(ALPHABET), min_size=1, max_size=10)


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\rx", " =1", '"=1', "＝1", "'=1"]
)
def test_a_text_that_a_spreadsheet_runs_is_marked(text: str) -> None:
    table = marked(pl.DataFrame({text: [text]}))
    assert table.rows() == [(f"'{text}",)]
    assert table.columns == [f"'{text}"]


NUMBERS = ("-5", "+3.5", "-1,234.5", "-1e-7", "-1.234,5", " -5", "-5%", "-$5", "-5 kg", "- 5")


@pytest.mark.parametrize("text", [*NUMBERS, "a=b", "", "'quoted'", "5-"])
def test_numbers_and_other_texts_stay(text: str) -> None:
    assert marked(pl.DataFrame({"a": [text]})).rows() == [(text,)]


@given(TEXTS)
def test_every_text_comes_back(texts: list[str]) -> None:
    table = pl.DataFrame({"a": texts}, schema={"a": pl.String})
    assert unmarked(marked(table)).equals(table)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(TEXTS)
def test_every_text_comes_back_from_a_file(tmp_path: Path, texts: list[str]) -> None:
    texts = [text.replace("\0", "") for text in texts]
    path = tmp_path / "t.csv"
    table = pl.DataFrame({"=a": texts, "b": ["x"] * len(texts)})
    marked(table).write_csv(path)
    found = pl.concat(reader.batches(path))
    assert found.columns == ["=a", "b"]
    assert found["=a"].fill_null("").to_list() == texts
