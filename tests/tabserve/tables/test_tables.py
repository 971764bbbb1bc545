"""Any table: generated ones, whose values are known, in many spellings, dialects and encodings."""

import datetime as dt
import gzip
import json
import math
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tabserve.contract import schema
from tabserve.contract.encoding import encode_table, row_encoder
from tabserve.contract.model import Contract, label_text
from tabserve.discovery import infer
from tabserve.errors import UserError
from tabserve.inference import batch, model
from tabserve.tables import casting, reader
from tabserve.training import train
from tests.tabserve.conftest import PIPELINES

Random = random.Random
Cell = tuple[str, Any]


def grouped(value: float, group: str, point: str) -> str:
    return f"{value:,.2f}".replace(",", "\0").replace(".", point).replace("\0", group)


def number(chance: Random) -> float:
    return round(chance.uniform(-1_000, 9_000) * chance.choice((1, 10, 100, 1_000)), 2)


def spelled(write: Callable[[float], str]) -> Callable[[Random], Cell]:
    def make(chance: Random) -> Cell:
        value = number(chance)
        return write(value), value

    return make


def day(format: str) -> Callable[[Random], Cell]:
    def make(chance: Random) -> Cell:
        value = dt.date(2000, 1, 1) + dt.timedelta(days=chance.randrange(9_000))
        return value.strftime(format), value

    return make


def timestamp(format: str) -> Callable[[Random], Cell]:
    def make(chance: Random) -> Cell:
        value = dt.datetime(2000, 1, 1) + dt.timedelta(minutes=chance.randrange(9_000_000))
        return value.strftime(format), value

    return make


def word(words: dict[str, Any]) -> Callable[[Random], Cell]:
    return lambda chance: chance.choice(list(words.items()))


def sentence(chance: Random) -> Cell:
    text = " ".join(chance.choice(["a", "fine", "bad", "ünïcode", 'quo"ted', "comma,", "semi;"]) for _ in range(9))
    return text, text


# By kind: the type that must be found, and what writes a cell and tells its value.
KINDS: dict[str, tuple[str, Callable[[Random], Cell]]] = {
    "plain": ("number", spelled(lambda value: f"{value}")),
    "exponent": ("number", spelled(lambda value: f"{value:.8e}")),
    "thousands": ("number", spelled(lambda value: grouped(value, ",", "."))),
    "swiss": ("number", spelled(lambda value: grouped(value, "'", "."))),
    "dollars": ("number", spelled(lambda value: f"{'-' * (value < 0)}${grouped(abs(value), ',', '.')}")),
    "percent": ("number", spelled(lambda value: f"{value:.2f} %")),
    "kilograms": ("number", spelled(lambda value: f"{value:.2f}kg")),
    "brackets": ("number", spelled(lambda value: f"({-value:.2f})" if value < 0 else f"{value:.2f}")),
    "boolean": ("boolean", word({"yes": True, "No": False, "TRUE": True, "f": False})),
    "category": ("category", word({"red": "red", "green": "green", "Blau": "Blau"})),
    "code": ("category", word({"007": "007", "0042": "0042", "1000": "1000"})),
    "iso day": ("date", day("%Y-%m-%d")),
    "german day": ("date", day("%d.%m.%Y")),
    "short day": ("date", day("%d-%b-%y")),
    "compact day": ("date", day("%Y%m%d")),
    "long day": ("date", day("%B %d, %Y")),
    "iso timestamp": ("datetime", timestamp("%Y-%m-%dT%H:%M:00Z")),
    "german timestamp": ("datetime", timestamp("%d.%m.%Y %H:%M")),
    "half days": ("datetime", timestamp("%Y-%m-%d %I:%M %p")),
    "text": ("text", sentence),
}
DECIMAL_COMMAS = ("number", spelled(lambda value: grouped(value, ".", ",")))
TARGETS: dict[str, Callable[[float], str]] = {
    "yes and no": lambda value: "yes" if value > 0.5 else "no",
    "signs": lambda value: "1" if value > 0.5 else "-1",
    "many spellings": lambda value: (
        ("Y", "yes", "TRUE")[int(value * 97) % 3] if value > 0.5 else ("n", "No")[int(value * 97) % 2]
    ),
    "classes": lambda value: f"class {int(value * 5)}",
    "number": lambda value: f"{value * 1_000:.3f}",
}


@dataclass(frozen=True)
class Written:
    """A file, and what stands in it."""

    path: Path
    kinds: dict[str, str]
    values: dict[str, list[Any]]


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "seed": draw(st.integers(0, 10_000)),
        "rows": draw(st.sampled_from([30, 60, 150])),
        "kinds": draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6)),
        "target": draw(st.sampled_from(sorted(TARGETS))),
        "separator": draw(st.sampled_from([",", ";", "\t", "|"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"])),
        "missing": draw(st.sampled_from(["", "NA", "n/a", "?", "-", "null", "NaN"])),
        "gaps": draw(st.sampled_from([0, 0.05, 0.3])),
        "title": draw(st.booleans()),
        "commas": draw(st.booleans()),
        "compressed": draw(st.booleans()),
        "blanks": draw(st.sampled_from(["", " "])),
    }


def write(folder: Path, plan: dict[str, Any]) -> Written:
    """Make the table of a plan."""
    chance = Random(plan["seed"])
    kinds = {f"{kind} {position}": kind for position, kind in enumerate(plan["kinds"])}
    makers = {name: KINDS[kind] for name, kind in kinds.items()}
    if plan["commas"]:
        makers["size"], kinds["size"] = DECIMAL_COMMAS, "decimal commas"
    cells: dict[str, list[Cell]] = {name: [] for name in makers}
    target = []
    for _ in range(plan["rows"]):
        target.append(TARGETS[plan["target"]](chance.random()))
        for name, (_, make) in makers.items():
            cells[name].append((plan["missing"], None) if chance.random() < plan["gaps"] else make(chance))
    names, blank, separator = [*makers, "target"], plan["blanks"], plan["separator"]
    texts = zip(*([cell[0] for cell in column] for column in cells.values()), target, strict=True)
    lines = [separator.join(quoted(f"{blank}{cell}{blank}", separator) for cell in row) for row in (names, *texts)]
    title = "A title\n\n" if plan["title"] and len(names) > 2 else ""
    content = (title + "\n".join(lines) + "\n").encode(plan["encoding"])
    path = folder / ("table.csv.gz" if plan["compressed"] else "table.csv")
    path.write_bytes(gzip.compress(content, mtime=0) if plan["compressed"] else content)
    values = {name: [cell[1] for cell in column] for name, column in cells.items()}
    return Written(path, {name: makers[name][0] for name in makers}, values)


def quoted(cell: str, separator: str) -> str:
    doubled = cell.replace('"', '""')
    return f'"{doubled}"' if separator in cell or '"' in cell else cell


def same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if isinstance(one, float):
        return math.isclose(one, float(other), rel_tol=1e-9)
    return bool(one == other)


def examples(most: int) -> settings:
    return settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@examples(150)
@given(plan=plans())
def test_every_value_is_read_as_it_was_meant(tmp_path: Path, plan: dict[str, Any]) -> None:
    written = write(tmp_path, plan)
    try:
        contract = infer.infer(written.path, "target")
    except UserError as error:  # too few different values in thirty rows may leave nothing to learn
        assert "no usable feature" in str(error) or "single row" in str(error)
        return
    typed = casting.typed(contract, pl.concat(reader.batches(written.path)))
    assert typed.breaks == {}
    for name, column in contract.features.items():
        distinct = {value for value in written.values[name] if value is not None}
        if len(distinct) < 20 and written.kinds[name] not in ("boolean", "category"):
            continue  # a few dates or sentences may be categories
        expected = written.values[name]
        if column.type == "integer":
            expected = [value if value is None else float(value) for value in expected]
        assert column.type in (written.kinds[name], "integer"), (name, column)
        assert all(map(same, expected, typed.table[name].to_list())), (name, column)
    check_api(contract, typed.table)


def check_api(contract: Contract, table: pl.DataFrame) -> None:
    """The API reads the same rows into the same matrix."""
    rows = [schema.json_row(contract, row) for row in table.to_dicts()]
    parsed = schema.rows_adapter(contract).validate_json(json.dumps(rows))
    assert np.array_equal(row_encoder(contract)(parsed), encode_table(contract, table), equal_nan=True)


@examples(12)
@given(plan=plans().map(lambda plan: plan | {"rows": 150}))
def test_file_and_api_predict_the_same(tmp_path: Path, plan: dict[str, Any]) -> None:
    written = write(tmp_path, plan)
    contract = infer.infer(written.path, "target")
    outcome = train.train(PIPELINES, contract, written.path, 0, 0.2, lambda name: nullcontext(), 10**6)
    (tmp_path / "model.onnx").write_bytes(outcome.model)
    loaded = model.load(tmp_path / "model.onnx")
    scored, refused = batch.score_chunk(loaded, pl.concat(reader.batches(written.path)))
    assert refused.height == 0
    typed = casting.typed(contract, pl.concat(reader.batches(written.path))).table
    rows = [schema.json_row(contract, row) for row in typed.to_dicts()]
    parsed = schema.rows_adapter(contract).validate_json(json.dumps(rows))
    answers = json.loads(loaded.content(loaded.answers(loaded.run(loaded.encode(parsed)))))["predictions"]
    if contract.task == "regression":
        assert [answer["value"] for answer in answers] == scored["prediction"].to_list()
        return
    assert [answer["label"] for answer in answers] == scored["prediction"].to_list()
    for label in map(label_text, contract.classes):
        numbers = scored[f"probability_{label}"].to_list()
        assert [answer["probabilities"][label] for answer in answers] == numbers


@pytest.mark.parametrize("width", [1, 700])
def test_narrow_and_wide(tmp_path: Path, width: int) -> None:
    chance = Random(0)
    names = [f"c{position}" for position in range(width)]
    lines = [",".join([*(f"{chance.random():.4f}" for _ in names), "ab"[i % 2]]) for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join([",".join([*names, "y"]), *lines]))
    contract = infer.infer(tmp_path / "t.csv", "y")
    assert len(contract.features) == width
    assert (
        train.train(PIPELINES, contract, tmp_path / "t.csv", 0, 0.2, lambda name: nullcontext(), 10**6).train_rows == 48
    )
