"""The stable way to predict from a notebook: `tabserve.load(path).predict(rows)`."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

import tabserve
from tabserve.errors import UserError
from tests.tabserve.conftest import Trained, example


def test_it_answers_what_the_api_answers(trained: Trained, client: TestClient) -> None:
    model, row = tabserve.load(str(trained.model)), example(client)
    many = [row, row | {"rooms, total": 1}]
    assert model.predict(many) == client.post("/predict", json=many).json()["predictions"]
    assert model.predict(row) == client.post("/predict", json=row).json()["predictions"]
    assert model.predict([]) == []


def test_it_takes_values_of_python_and_numpy(trained: Trained, client: TestClient) -> None:
    model, row = tabserve.load(trained.model), example(client)
    text = row | {"seit": "2020-02-29", "last.seen": "2024-01-01T12:30:00", "Uhrzeit": "07:05:00"}
    day, moment, time = dt.date(2020, 2, 29), dt.datetime(2024, 1, 1, 12, 30), dt.time(7, 5)
    assert model.predict(row | {"seit": day, "last.seen": moment, "Uhrzeit": time}) == model.predict(text)
    numbers = row | {"rooms, total": 3, "Wohnfläche (m²)": 80.5, "warm?": True}
    arrays = row | {"rooms, total": np.int64(3), "Wohnfläche (m²)": np.float64(80.5), "warm?": np.bool_(True)}
    assert model.predict(arrays) == model.predict(numbers)
    absent = {name: value for name, value in row.items() if name != "Wohnfläche (m²)"}
    assert model.predict(row | {"Wohnfläche (m²)": math.nan}) == model.predict(absent)


NaTType = type("NaTType", (dt.datetime,), {})  # as in pandas
NAType = type("NAType", (), {})


def test_it_takes_what_pandas_writes_for_missing_values(trained: Trained, client: TestClient) -> None:
    model, row = tabserve.load(trained.model), example(client)
    missing = row | {"seit": None, "warm?": None}
    assert model.predict(row | {"seit": NaTType(1, 1, 1), "warm?": NAType()}) == model.predict(missing)


def test_a_table_is_refused(trained: Trained, client: TestClient) -> None:
    model, row = tabserve.load(trained.model), example(client)
    table = pl.DataFrame([row, row])
    with pytest.raises(UserError, match=r"^predict takes rows: of a table, to_dicts\(\)"):
        model.predict(table)  # type: ignore[arg-type]
    assert model.predict(table.select(list(model.contract.features)).to_dicts()) == model.predict([row, row])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rooms, total": "many"}, r"^row 1: rooms, total: Input should be a valid number"),
        ({"rooms, total": None}, r"^row 1: rooms, total: Input should be a valid number"),
        ({"Wohnfläche (m²)": math.inf}, r"^row 1: Wohnfläche \(m²\): .*finite"),
        ({"rooms, total": 10**5000}, r"."),
        ({"unknown": 1}, r"^row 1: unknown: Extra inputs are not permitted$"),
        ({"rooms, total": object()}, r"a row holds object: give it text, numbers, booleans, dates or None$"),
    ],
)
def test_a_row_that_breaks_the_contract_is_named(
    trained: Trained, client: TestClient, change: dict[str, object], message: str
) -> None:
    row = example(client)
    with pytest.raises(UserError, match=message):
        tabserve.load(trained.model).predict([row, row | change])
