import csv
import datetime as dt
import io
import json
import math
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tabserve.contract import schema
from tabserve.contract.encoding import encode_table, row_encoder
from tabserve.contract.model import ISO, Column, Contract, prediction_columns
from tabserve.contract.schema import json_row
from tabserve.discovery import infer
from tabserve.errors import UserError
from tabserve.inference import batch
from tabserve.inference import model as models
from tabserve.tables import casting, reader
from tabserve.training import report, train
from tests.tabserve.conftest import PIPELINES, Trained

WRITER = "x predict"


def score(trained: Trained, source: Path, out: Path) -> batch.Counts:
    return batch.score_file(models.load(trained.model), source, out, lambda rows: None, WRITER)


def answers(client: TestClient, trained: Trained, table: pl.DataFrame) -> list[dict[str, Any]]:
    typed = casting.typed(trained.contract, table).table
    found = []
    for start in range(0, typed.height, 50):
        rows = [json_row(trained.contract, row) for row in typed[start : start + 50].to_dicts()]
        found += client.post("/predict", json=rows).json()["predictions"]
    return found


def numbers(answer: dict[str, Any]) -> list[float]:
    return [answer["value"]] if "value" in answer else list(answer["probabilities"].values())


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_gets_the_answers_of_the_api(
    trained: Trained,
    client: TestClient,
    table: pl.DataFrame,
    tmp_path: Path,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "BATCH_ROWS", 64)
    monkeypatch.setattr(reader, "BATCH_BYTES", 5_000)
    source, out = tmp_path / f"in.{ending}", tmp_path / "deep" / f"out.{ending}"
    table.write_csv(source) if ending == "csv" else table.write_parquet(source)
    counts = score(trained, source, out)
    assert (counts.scored, counts.rejected) == (400, 0)
    assert not counts.rejects.exists()
    scored = pl.concat(reader.batches(out))
    assert scored.columns == [*table.columns, *prediction_columns(trained.contract)]
    assert scored["id"].cast(pl.Int64).to_list() == table["id"].to_list()
    expected = answers(client, trained, pl.concat(reader.batches(source)))
    names = prediction_columns(trained.contract)
    if trained.contract.task == "classification":
        assert scored["prediction"].to_list() == [answer["label"] for answer in expected]
        names = names[1:]
    actual = scored.select(pl.col(names).cast(pl.Float64)).to_numpy()
    assert np.abs(actual - [numbers(answer) for answer in expected]).max() <= 1e-6 * max(1.0, np.abs(actual).max())


def test_rejected_rows_go_to_their_own_file(trained: Trained, table: pl.DataFrame, tmp_path: Path) -> None:
    bad = {
        2: ("rooms, total", "many", "rooms, total: Input should be a valid number"),
        3: ("rooms, total", "2.5", "rooms, total: Input should be a valid integer"),
        5: ("rooms, total", "-3", "rooms, total: Input should be greater than or equal to 0"),
        8: ("rooms, total", "", "rooms, total: Field required"),
        9: ("Wohnfläche (m²)", "inf", "Wohnfläche (m²): Input should be a finite number"),
        11: ('city "name"', "Atlantis", "city \"name\": Input should be 'Köln'"),
        14: ("warm?", "maybe", "warm?: Input should be a valid boolean"),
        15: ("seit", "31.31.2020", "seit: Input should be a valid date"),
    }
    rows = table.with_columns(pl.all().cast(pl.String)).to_dicts()
    for number, (name, value, _) in bad.items():
        rows[number - 1][name] = value
    good = [pl.Series(name, [row[name] for row in rows]) for name in table.columns]
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    pl.DataFrame(good).write_csv(source)
    counts = score(trained, source, out)
    assert (counts.scored, counts.rejected) == (392, 8)
    rejects = pl.concat(reader.batches(tmp_path / "out.rejected.csv"))
    assert rejects["row"].to_list() == [str(number) for number in bad]
    for reason, (_, _, expected) in zip(rejects["reason"], bad.values(), strict=True):
        assert reason.startswith(expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tabserve", "in.csv", "out.csv", "out.rejected.csv"]


def test_errors_leave_nothing_behind(trained: Trained, table: pl.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    lacking = tmp_path / "lacking.csv"
    table.drop("rooms, total").write_csv(lacking)
    ragged = tmp_path / "ragged.csv"
    table.write_csv(ragged)
    ragged.write_text(ragged.read_text() + "1,2,3\n" + ",".join(["x"] * 40) + "\n")
    taken = tmp_path / "taken.csv"
    table.with_columns(prediction=pl.lit(1)).write_csv(taken)
    empty = tmp_path / "empty.csv"
    table.head(0).write_csv(empty)
    for source, message in (
        (lacking, "lacks required columns 'rooms, total'"),
        (ragged, "cannot be read as CSV"),
        (taken, "already has a column 'prediction'"),
        (empty, "has a header but no rows"),
        (tmp_path / "none.csv", "does not exist"),
        (out, "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            score(trained, source, out)
    with pytest.raises(UserError, match="unknown kind of file"):
        score(trained, taken, tmp_path / "out.docx")
    with pytest.raises(UserError, match="is the input itself"):
        score(trained, lacking, lacking)
    assert {path.name for path in tmp_path.iterdir()} == {"lacking.csv", "ragged.csv", "taken.csv", "empty.csv"}


def test_the_input_is_never_overwritten(trained: Trained, table: pl.DataFrame, tmp_path: Path) -> None:
    source = tmp_path / "loans.rejected.csv"
    table.write_csv(source)
    before = source.read_bytes()
    with pytest.raises(UserError, match="is the input itself and would be overwritten"):
        score(trained, source, tmp_path / "loans.csv")
    assert source.read_bytes() == before


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to, None])
def test_the_input_is_not_overwritten_under_another_name(
    trained: Trained, table: pl.DataFrame, tmp_path: Path, link: Any
) -> None:
    source, other = tmp_path / "loans.csv", tmp_path / "other.csv"
    table.write_csv(source)
    before = source.read_bytes()
    if link:
        link(other, source)
    for name, out in ((f"file://{source}", source), (str(source), other if link else tmp_path / "x/../loans.csv")):
        with pytest.raises(UserError, match="is the input itself and would be overwritten"):
            batch.score_file(models.load(trained.model), name, out, lambda rows: None, WRITER, force=True)
    assert source.read_bytes() == before


def test_files_of_others_are_neither_overwritten_nor_removed(
    trained: Trained, table: pl.DataFrame, tmp_path: Path
) -> None:
    source = tmp_path / "loans.csv"
    table.write_csv(source)
    for name in ("out.csv", "out.rejected.csv"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match=rf"{name} was not written by `x predict`"):
            score(trained, source, tmp_path / "out.csv")
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    for _ in range(2):
        score(trained, source, tmp_path / "out.csv")
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(UserError, match="was changed since"):
        score(trained, source, tmp_path / "out.csv")


def test_formulas_are_marked_unless_raw_cells_are_wanted(trained: Trained, table: pl.DataFrame, tmp_path: Path) -> None:
    formula = "=HYPERLINK(1)"
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    changed = table.with_columns(pl.lit(formula).alias("remark"), pl.lit("-5").alias("=note"))
    changed.write_csv(source)
    score(trained, source, out)
    assert f"'{formula}" in out.read_text(encoding="utf-8")
    assert "'=note" in out.read_text(encoding="utf-8").splitlines()[0]
    found = pl.concat(reader.batches(out))
    assert found["remark"].unique().to_list() == [formula]
    assert found["=note"].unique().to_list() == ["-5"]
    batch.score_file(models.load(trained.model), source, out, lambda rows: None, WRITER, raw_cells=True)
    assert f"'{formula}" not in out.read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_gets_one_line(trained: Trained, csv_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        score(trained, csv_file, tmp_path / "file" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        score(trained, csv_file, tmp_path / "folder.csv")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_brackets_in_paths_are_no_patterns(trained: Trained, table: pl.DataFrame, tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "a[1]"
    folder.mkdir()
    source = folder / f"in[2].{ending}"
    table.write_csv(source) if ending == "csv" else table.write_parquet(source)
    assert score(trained, source, folder / "out[3].parquet").scored == 400


def test_a_quote_that_is_never_closed_ends_in_one_line(trained: Trained, csv_file: Path, tmp_path: Path) -> None:
    lines = csv_file.read_text(encoding="utf-8").splitlines()
    source = tmp_path / "open.csv"
    source.write_text("\n".join([lines[0], '"' + lines[1], *lines[2:] * 1_200]), encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be read|a quote is opened and never closed"):
        score(trained, source, tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("1,2,3,4\n", "the record in line 202 has 4 fields, the header has 3"),
        ('1,"2,3\n', "a quote that is opened in line 202 is closed 201 lines later"),
    ],
)
def test_the_error_names_the_malformed_record(tmp_path: Path, broken: str, message: str) -> None:
    rows = "".join(f"{i},{i % 7},{i % 2}\n" for i in range(200))
    (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}{broken}{rows}")
    with pytest.raises(UserError, match=message):
        infer.infer(tmp_path / "t.csv", "y")


@pytest.mark.parametrize("behind", [40, 1, 0])
def test_the_error_names_the_quote_that_is_never_closed(tmp_path: Path, behind: int) -> None:
    rows = "".join(f"{i},{i % 7},{i % 2}\n" for i in range(40))
    (tmp_path / "t.csv").write_text(f'a,b,y\n{rows}1,"2,3\n' + "1,2,3\n" * behind)
    with pytest.raises(UserError, match="a quote that is opened in line 42 is never closed"):
        infer.infer(tmp_path / "t.csv", "y")


def test_columns_that_a_csv_cannot_hold_become_text(trained: Trained, table: pl.DataFrame, tmp_path: Path) -> None:
    odd = table.with_columns(tags=pl.Series([["a", "b"]] * table.height), wait=pl.duration(seconds="rooms, total"))
    odd.write_parquet(tmp_path / "in.parquet")
    score(trained, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert pl.concat(reader.batches(tmp_path / "out.csv"))["tags"][0] == "['a', 'b']"


def test_an_absent_optional_column_counts_as_missing(trained: Trained, table: pl.DataFrame, tmp_path: Path) -> None:
    table.drop("warm?").write_csv(tmp_path / "in.csv")
    table.with_columns(pl.lit(None, dtype=pl.Boolean).alias("warm?")).write_csv(tmp_path / "null.csv")
    score(trained, tmp_path / "in.csv", tmp_path / "a.csv")
    score(trained, tmp_path / "null.csv", tmp_path / "b.csv")
    names = prediction_columns(trained.contract)
    assert pl.concat(reader.batches(tmp_path / "a.csv", names)).equals(
        pl.concat(reader.batches(tmp_path / "b.csv", names))
    )


@settings(max_examples=200, deadline=None)
@given(
    cells=st.lists(st.tuples(st.text('ab",\n '), st.text('xy",\n')), min_size=1, max_size=20), size=st.integers(1, 40)
)
def test_csv_blocks_end_where_records_end(cells: list[tuple[str, str]], size: int) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(cells)
    blocks = list(reader.whole_records(io.BytesIO(file.getvalue().encode()), size))
    read = [tuple(row) for block in blocks for row in csv.reader(io.StringIO(block.decode(), newline=""))]
    assert read == cells


# --- rows and tables are validated and encoded alike

COLUMNS = {
    "i": Column(role="feature", type="integer", range=(-5, 300), missing=True),
    "n": Column(role="feature", type="number", range=(-1e6, 1e6)),
    "b": Column(role="feature", type="boolean", missing=True),
    "c": Column(role="feature", type="category", categories=("a", "b c", "ü", "1"), missing=True),
    "o": Column(role="feature", type="category", categories=("x", "y"), other=True),
    "k": Column(role="feature", type="category", categories=(1, 2, 30)),
    "d": Column(role="feature", type="date", missing=True),
    "t": Column(role="feature", type="datetime"),
    "y": Column(role="target", type="number"),
}
CONTRACT = Contract(version=1, data="x.csv", task="regression", columns=COLUMNS)
TIMESTAMPS = st.from_regex(rf"\A(?:{ISO['datetime']})\Z") | st.sampled_from(
    [
        *("", "2020-13-01", "01.02.2020", "10:00", "24-1-1", "2024-1-1", "0000-01-01", "1704067200"),
        *("2024-01-01T10:00Z", "2024-01-01t10:00:00.123456789z", "2024-01-01 00:00:00", "2024-01-01T02:00:00+02:00"),
        *("0001-01-01T00:00+02:00", "9999-12-31T23:59-01:00", "2024-01-01T10:00:60", "2020-01-01T24:00"),
    ]
)
CELLS = st.fixed_dictionaries(
    {
        "i": st.sampled_from(["1", "-5", "300", "301", "2.5", "1e2", "", "NA", "x", "5.0"]),
        "n": st.floats(-1e6, 1e6).map(str) | st.sampled_from(["nan", "inf", "1e7", "", "0.1", "-0.0"]),
        "b": st.sampled_from(["true", "NO", "yes", "0", "1", "f", "?", "perhaps"]),
        "c": st.sampled_from(["a", " b c ", "ü", "1", "z", ""]),
        "o": st.sampled_from(["x", "y", "zzz", "", "0"]),
        "k": st.sampled_from(["1", "2", "30", "3", "1.0", ""]),
        "d": st.dates().map(str) | TIMESTAMPS,
        "t": st.datetimes().map(lambda time: time.isoformat()) | TIMESTAMPS,
    }
)


@settings(max_examples=300, deadline=None)
@given(cells=st.lists(CELLS, min_size=1, max_size=5))
def test_rows_and_tables_are_validated_and_encoded_alike(cells: list[dict[str, str]]) -> None:
    raw = pl.DataFrame(cells, schema=dict.fromkeys(CELLS_NAMES, pl.String))
    typed = casting.typed(CONTRACT, raw)
    adapter = schema.row_adapter(CONTRACT)
    reasons = batch.reasons(CONTRACT, raw, typed.table)
    for position, row in enumerate(typed.table.to_dicts()):
        if typed.rejected[position]:
            assert reasons[position] != "against the contract"
            continue
        parsed = adapter.validate_json(json.dumps(json_row(CONTRACT, row)))
        expected = row_encoder(CONTRACT)([parsed])
        assert np.array_equal(encode_table(CONTRACT, typed.table[position : position + 1]), expected, equal_nan=True)


@settings(max_examples=300, deadline=None)
@given(text=TIMESTAMPS | st.text("0123456789-T:Z+. ", max_size=20), name=st.sampled_from(["d", "t"]))
def test_dates_are_accepted_alike(text: str, name: str) -> None:
    column = COLUMNS[name]
    contract = Contract(version=1, data="x", task="regression", columns={name: column, "y": COLUMNS["y"]})
    values, bad = casting.typed_column(column, pl.Series(name, [text]))
    if values[0] is None and not bad[0]:
        return  # blank: a missing value, which JSON spells otherwise
    try:
        read = schema.row_adapter(contract).validate_json(json.dumps({name: text}))[name]
    except ValidationError:
        read = None
    assert text.strip() != text or values[0] == read


def test_features_may_be_called_as_the_columns_of_the_output(tmp_path: Path) -> None:
    names = ["row", "reason", "prediction", "probability_no"]
    target = "probability_yes"
    rows = [",".join([*(str((i * 7 + k) % 10) for k in range(4)), "yes" if i % 3 else "no"]) for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join([",".join([*names, target]), *rows, "1,2,3,99999,yes", "1,2,x,4,yes"]))
    contract = infer.infer(tmp_path / "t.csv", target)
    found = dict(contract.columns) | {name: Column(role="feature", type="integer", range=(0, 10)) for name in names}
    contract = contract.model_copy(update={"columns": found})
    outcome = train.train(PIPELINES, contract, tmp_path / "t.csv", 0, 0.25, lambda name: nullcontext(), 10**6)
    (tmp_path / "m.onnx").write_bytes(outcome.model)
    out = tmp_path / "out.csv"
    counts = batch.score_file(models.load(tmp_path / "m.onnx"), tmp_path / "t.csv", out, lambda rows: None, WRITER)
    assert (counts.scored, counts.rejected) == (60, 2)
    added = ["prediction_", "probability_no_", "probability_yes_"]
    assert pl.concat(reader.batches(out)).columns == [*names, target, *added]
    rejects = pl.concat(reader.batches(counts.rejects))
    assert rejects.columns == ["row_", *names, target, "reason_"]
    assert rejects["row_"].to_list() == ["61", "62"]
    assert report.holdout_csv(outcome, contract).splitlines()[0] == ",".join([*names, target, *added])


def test_predictions_that_are_not_finite_are_rejected(trained: Trained, table: pl.DataFrame) -> None:
    model = models.load(trained.model)
    size = max(len(trained.contract.classes), 1)

    class Overflowing:
        contract = trained.contract

        def run(self, matrix: np.ndarray) -> models.Prediction:
            numbers = np.ones((len(matrix), size), dtype=np.float32)
            numbers[2] = math.nan
            return models.Prediction(model.run(matrix).labels, numbers)

    scored, refused = batch.score_chunk(cast(models.Model, Overflowing()), table.head(5))
    assert scored.height == 4
    assert refused.select("row", "reason").rows() == [(3, models.OVERFLOW)]


def test_dates_that_python_cannot_hold_are_rejected(trained: Trained, table: pl.DataFrame, tmp_path: Path) -> None:
    late = table.head(2).with_columns(pl.lit(10**7).cast(pl.Int32).cast(pl.Date).alias("seit"))
    late.write_parquet(tmp_path / "late.parquet")
    counts = score(trained, tmp_path / "late.parquet", tmp_path / "out.csv")
    assert counts.rejected == 2
    assert "seit: Input should be a valid date" in pl.concat(reader.batches(counts.rejects))["reason"][0]


CELLS_NAMES = ["i", "n", "b", "c", "o", "k", "d", "t"]


@settings(max_examples=200, deadline=None)
@given(value=st.floats() | st.integers(-(10**20), 10**20))
def test_numbers_are_accepted_alike(value: float) -> None:
    column = Column(role="feature", type="number")
    contract = Contract(version=1, data="x", task="regression", columns={"v": column, "y": COLUMNS["y"]})
    _, bad = casting.typed_column(column, pl.Series("v", [str(value)]))
    try:
        schema.row_adapter(contract).validate_python({"v": value})
        accepted = True
    except ValidationError:
        accepted = False
    assert accepted == (not bad[0])
    assert accepted or not math.isfinite(value) or abs(value) > 3.4e38


def test_what_means_missing_in_files_means_missing_in_the_api(tmp_path: Path) -> None:
    chance = Random(0)
    rows = []
    for number in range(200):
        town = chance.choice(["Paris", "Rome", "NA", f"village {number}"])
        note = chance.choice(["n/a", "a b c d e", f"no {number} of all these words"])
        degrees = chance.choice([-999, chance.random()])
        rows.append({"town": town, "note": note, "cold": degrees, "y": "yes" if chance.random() < 0.5 else "no"})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    contract = infer.infer(tmp_path / "t.jsonl", "y")
    cold = contract.columns["cold"].model_copy(update={"na_values": (-999,), "missing": True})
    contract = contract.model_copy(update={"columns": contract.columns | {"cold": cold}})
    assert (contract.columns["town"].other, contract.columns["note"].type) == (True, "text")
    outcome = train.train(PIPELINES, contract, tmp_path / "t.jsonl", 0, 0.25, lambda name: nullcontext(), 10**6)
    (tmp_path / "model.onnx").write_bytes(outcome.model)
    model = models.load(tmp_path / "model.onnx")
    asked = [
        {"town": "NA", "note": "n/a", "cold": -999},
        {"town": " Paris ", "note": " a b c d e ", "cold": 0.5},
        {"town": "Oslo", "note": None, "cold": None},
    ]
    scored, refused = batch.score_chunk(model, pl.DataFrame(asked, infer_schema_length=None))
    assert refused.height == 0
    parsed = schema.rows_adapter(contract).validate_json(json.dumps(asked))
    answers = json.loads(model.content(model.answers(model.run(model.encode(parsed)))))["predictions"]
    probabilities = [answer["probabilities"]["yes"] for answer in answers]
    assert probabilities == scored["probability_yes"].to_list()


def test_a_column_may_be_called_like_a_part_of_another() -> None:
    features = {"seen": Column(role="feature", type="date"), "seen.month": Column(role="feature", type="number")}
    target = {"y": Column(role="target", type="number")}
    contract = Contract(version=1, data="x", task="regression", columns=features | target)
    row = {"seen": dt.date(2024, 5, 6), "seen.month": 77.0}
    assert row_encoder(contract)([row])[0, 1:].tolist() == [5, 1, 77]
    assert np.array_equal(row_encoder(contract)([row]), encode_table(contract, pl.DataFrame([row])))


@pytest.mark.parametrize(("kind", "word"), [("date", "1900-01-01"), ("category", "none given")])
def test_own_words_for_missing_values_win(kind: Any, word: str) -> None:
    labels = ("a", "b") if kind == "category" else ()
    column = Column(role="feature", type=kind, missing=True, na_values=(word,), categories=labels)
    values, bad = casting.typed_column(column, pl.Series("x", [word, "a" if labels else "2024-05-06"]))
    assert values.is_null().to_list() == [True, False]
    assert not bad.any()
