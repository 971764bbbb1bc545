"""An example request is typical, valid and no row of the table, or there is none."""

from __future__ import annotations

import datetime as dt
import os
import random
from typing import Any

import polars as pl
import pytest

from tabserve.contract import schema
from tabserve.contract.model import Column, Contract, label_text
from tabserve.training.example import example

TABLES = int(os.environ.get("TABLES", "50"))  # 500 before a release
TYPES: dict[str, Any] = {"integer": pl.Float64, "number": pl.Float64, "boolean": pl.Boolean, "date": pl.Date}
TYPES |= {"category": pl.String, "text": pl.String, "datetime": pl.Datetime("us"), "time": pl.Time}
DAY = dt.datetime(2020, 1, 1)


def column(chance: random.Random) -> tuple[Column, list[Any]]:
    """A random column and a few values that it allows: few, so that many rows are alike."""
    kind, few = chance.choice(list(TYPES)), chance.choice([1, 2, 5, 1000])
    missing = chance.random() < 0.3
    given: dict[str, Any] = {}
    if kind in ("integer", "number"):
        size = 10.0 ** chance.randint(-3, 6)
        values: list[Any] = [float(f"{chance.uniform(-1, 3) * size:.6g}") for _ in range(few)]
        values = [float(round(value)) for value in values] if kind == "integer" else values
        given["range"] = (min(values), max(values)) if chance.random() < 0.8 else None
        given["na_values"] = (values[0],) if few > 1 and chance.random() < 0.2 and missing else ()
    elif kind == "category":
        kinds: list[list[Any]] = [list("abcde"), [1, 2, 30], [False, True], ["-", "x y"]]
        labels = chance.choice(kinds)[:few]
        given |= {"categories": tuple(labels), "other": chance.random() < 0.3}
        values = list(map(label_text, labels))
    else:
        days = [DAY + dt.timedelta(days=chance.randint(0, 3000), minutes=chance.randint(0, 1439)) for _ in range(few)]
        of_kind: dict[str, list[Any]] = {
            "boolean": [False, True][:few],
            "text": [f"words of customer {number}" for number in range(few)],
            "date": [day.date() for day in days],
            "datetime": days,
            "time": [day.time() for day in days],
        }
        values = of_kind[kind]
    return Column(role="feature", type=kind, missing=missing, **given), values + [None] * missing  # type: ignore[arg-type]


def table(seed: int) -> tuple[Contract, pl.DataFrame]:
    """A random contract with a table that keeps it."""
    chance = random.Random(seed)
    made = [column(chance) for _ in range(chance.randint(1, 6))]
    rows = chance.choice([1, 10, 300])
    drawn = {
        f"c{number}": pl.Series(chance.choices(values, k=rows), dtype=TYPES[str(kind.type)])
        for number, (kind, values) in enumerate(made)
    }
    columns = {f"c{number}": kind for number, (kind, _) in enumerate(made)}
    target = Column(role="target", type="number")
    return Contract(version=1, data="t.csv", task="regression", columns={**columns, "y": target}), pl.DataFrame(drawn)


@pytest.mark.parametrize("seed", range(TABLES))
def test_no_example_is_a_row_of_the_table(seed: int) -> None:
    contract, rows = table(seed)
    made = example(contract, rows)
    documents = [schema.json_row(contract, row) for row in rows.to_dicts()]
    if made is None:
        assert len(rows.unique()) <= 2 ** len(rows.columns) * 5, "only of a table with few possible rows"
        return
    schema.row_adapter(contract).validate_python(made)
    assert made not in documents


def test_an_example_is_typical_and_rounded() -> None:
    ages = [float(20 + number % 50) for number in range(501)]
    rows = pl.DataFrame(
        {
            "age": ages,
            "income": [31_234.56 + 10 * age for age in ages],
            "colour": ["green"] * 300 + ["red"] * 197 + ["rare"] * 4,
            "since": pl.Series([dt.date(2020, 3, 17)] * 501, dtype=pl.Date),
            "note": [f"called {number}" for number in range(501)],
        }
    )
    columns = {
        "age": Column(role="feature", type="integer", range=(20, 69)),
        "income": Column(role="feature", type="number", range=(31_000, 32_000)),
        "colour": Column(role="feature", type="category", categories=("green", "rare", "red")),
        "since": Column(role="feature", type="date"),
        "note": Column(role="feature", type="text"),
        "y": Column(role="target", type="number"),
    }
    contract = Contract(version=1, data="t.csv", task="regression", columns=columns)
    made = example(contract, rows)
    assert made == {"age": 40, "income": 32000.0, "colour": "green", "since": "2020-03-01", "note": "some text"}


def test_there_is_no_example_where_every_row_is_one_of_the_table() -> None:
    columns = {"a": Column(role="feature", type="boolean"), "y": Column(role="target", type="number")}
    contract = Contract(version=1, data="t.csv", task="regression", columns=columns)
    assert example(contract, pl.DataFrame({"a": [True, False]})) is None
