"""From rows to the matrix: each value fills the columns that the layout names, also where there is none."""

import datetime as dt
from typing import Any

import numpy as np
import pytest

from tabserve.contract.encoding import layout, row_encoder
from tabserve.contract.model import Column, Contract, Kind
from tabserve.errors import UserError
from tests.tabserve.conftest import Trained

VALUES: dict[Kind, Any] = {
    "integer": 3,
    "number": 0.5,
    "boolean": True,
    "category": "b",
    "date": dt.date(2024, 2, 29),
    "datetime": dt.datetime(2024, 2, 29, 6, 30),
    "time": dt.time(6, 30),
    "text": "some words",
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_missing_value_fills_as_many_columns_as_a_value(kind: Kind) -> None:
    categories = ("a", "b") if kind == "category" else ()
    columns = {
        "first": Column(role="feature", type="number", missing=True),
        "x": Column(role="feature", type=kind, missing=True, categories=categories),
        "last": Column(role="feature", type="number", missing=True),
        "y": Column(role="target", type="number"),
    }
    contract = Contract(version=1, data="x", task="regression", columns=columns)
    present, absent = (
        row_encoder(contract)([{"first": 7.0, "x": value, "last": 8.0}]) for value in (VALUES[kind], None)
    )
    assert present.shape == absent.shape == (1, len(layout(contract).names))
    assert not np.isnan(present).any()
    assert (present[0, 0], present[0, -1]) == (absent[0, 0], absent[0, -1]) == (7.0, 8.0)
    inner = absent[0, 1:-1]
    assert (inner == 0).all() if kind == "category" else np.isnan(inner).all() or kind == "text"


def test_each_category_has_a_code_and_so_have_none_and_others() -> None:
    column = Column(role="feature", type="category", missing=True, categories=("a", "b"), other=True)
    columns = {"x": column, "y": Column(role="target", type="number")}
    contract = Contract(version=1, data="x", task="regression", columns=columns)
    rows = [{"x": value} for value in (None, "a", "b", "z")]
    assert row_encoder(contract)(rows)[:, 0].tolist() == [0, 1, 2, 3]
    assert layout(contract).codes == ((0, 1, 2, 3),)


def test_an_unknown_name_of_the_matrix_gets_the_near_one(trained: Trained) -> None:
    names = layout(trained.contract).names
    assert [names.index(name) for name in names] == list(range(len(names)))
    with pytest.raises(UserError) as error:
        names.index(f"{names[0]}e")
    assert f"there is no column '{names[0]}e'; did you mean {names[0]}?; it has " in str(error.value)
