"""Checking a file against a model: what breaks the contract, and what has drifted."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tabserve import cli
from tabserve.contract.model import Column
from tabserve.inference import batch
from tabserve.inference.model import Model, load
from tabserve.monitoring import check, drift
from tabserve.monitoring import page as check_page
from tabserve.tables import reader
from tests.tabserve.conftest import PROJECT, Trained


@pytest.fixture(scope="module")
def model(trained: Trained) -> Model:
    return load(trained.model)


def checked(model: Model, path: Path) -> check.Check:
    return check.check(model, path, 0.25, lambda rows: None)


def finding(model: Model, path: Path, name: str) -> check.Finding:
    return next(found for found in checked(model, path).findings if found.name == name)


def test_the_training_data_keeps_the_contract_and_has_not_drifted(model: Model, trained: Trained) -> None:
    found = checked(model, trained.source)
    assert (found.rows, found.rejected, found.unknown, found.breaks(0)) == (400, 0, (), False)
    assert not any(item.drifted or item.problem for item in found.findings)
    assert {item.name for item in found.findings} == {*model.contract.features, model.contract.target}


def test_check_and_batch_scoring_reject_the_same_rows(model: Model, trained: Trained, tmp_path: Path) -> None:
    broken = pl.concat(reader.batches(trained.source)).with_row_index()
    rooms = pl.when(pl.col("index") < 7).then(pl.lit("many")).otherwise(pl.col("rooms, total")).alias("rooms, total")
    broken.with_columns(rooms).write_csv(tmp_path / "broken.csv")
    found = checked(model, tmp_path / "broken.csv")
    counts = batch.score_file(model, tmp_path / "broken.csv", tmp_path / "out.csv", lambda rows: None, "x predict")
    broken_column = "rooms, total" in model.contract.features
    assert found.rejected == counts.rejected == (7 if broken_column else 0)
    assert found.unknown == ("index",)
    if broken_column:
        assert found.breaks(0)
        assert not found.breaks(0.1)
        problem = finding(model, tmp_path / "broken.csv", "rooms, total").problem
        assert problem.startswith("7 of 400 rows break the contract, as 'many'; it should be integer, from ")


def test_columns_that_are_absent_or_new(model: Model, trained: Trained, tmp_path: Path) -> None:
    pl.concat(reader.batches(trained.source)).drop("last.seen", "seit").with_columns(new=1).write_csv(
        tmp_path / "t.csv"
    )
    found = checked(model, tmp_path / "t.csv")
    absent = {item.name: item.problem for item in found.findings if item.psi is None}
    assert absent == {"last.seen": check.ABSENT, "seit": check.ABSENT}
    assert found.unknown == ("new",)
    assert found.breaks(1.0)
    assert found.rejected == 400


def test_drift_is_found(model: Model, trained: Trained, tmp_path: Path) -> None:
    table = pl.concat(reader.batches(trained.source))
    name = "Wohnfläche (m²)"
    table.with_columns(pl.col(name).cast(pl.Float64) * 1.3).write_csv(tmp_path / "t.csv")
    assert finding(model, tmp_path / "t.csv", name).drifted
    table.head(12).write_csv(tmp_path / "few.csv")
    few = finding(model, tmp_path / "few.csv", name)
    assert few.limit > 1
    assert not few.drifted


def test_the_index_is_zero_for_equal_distributions_and_symmetric() -> None:
    one, other = np.array([0.1, 0.4, 0.5]), np.array([0.3, 0.4, 0.3])
    assert drift.psi(one, one) == 0
    assert drift.psi(one, other) == pytest.approx(drift.psi(other, one))
    assert drift.psi(one, other) == pytest.approx(0.2 * np.log(3) + 0.2 * np.log(5 / 3))
    assert np.isfinite(drift.psi(np.array([0.0, 1.0]), np.array([1.0, 0.0])))


def test_chance_is_what_samples_of_one_distribution_exceed_rarely() -> None:
    random = np.random.default_rng(0)
    shares = np.full(11, 1 / 11)
    indices = [
        drift.psi(random.multinomial(500, shares) / 500, random.multinomial(200, shares) / 200) for _ in range(2_000)
    ]
    assert 0 <= (np.array(indices) > drift.chance(11, 500, 200)).mean() < 0.006


def test_a_mass_at_one_end_is_seen() -> None:
    column = Column(role="feature", type="integer")
    for ones in (0.95, 0.05):
        values = pl.Series([1.0] * int(1_000 * ones) + [0.0] * int(1_000 * (1 - ones)))
        baseline = drift.baseline(column, values)
        counts = drift.bin_counts(column, baseline, pl.Series([0.0, 1.0] * 500))
        assert drift.psi(*drift.shares(baseline, counts, 0)) > 0.5


def test_missing_targets_are_not_drift(model: Model, trained: Trained, tmp_path: Path) -> None:
    target = trained.contract.target
    gaps = pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise(pl.col(target)).alias(target)
    pl.concat(reader.batches(trained.source)).with_columns(gaps).write_csv(tmp_path / "t.csv")
    assert not finding(model, tmp_path / "t.csv", target).drifted


def test_invalid_values_are_not_missing_values(model: Model, trained: Trained, tmp_path: Path) -> None:
    first = pl.int_range(pl.len()) < 100
    spoiled = pl.when(first).then(pl.lit("31/31/2024")).otherwise(pl.col("seit")).alias("seit")
    pl.concat(reader.batches(trained.source)).with_columns(spoiled).write_csv(tmp_path / "t.csv")
    found = finding(model, tmp_path / "t.csv", "seit")
    assert found.problem.startswith("100 of 400 rows break the contract, as '31/31/2024'; it should be date")
    assert not found.drifted


@pytest.mark.parametrize(
    ("type", "values"),
    [
        ("integer", [0.0] * 80 + [1.0, 2.0, 3.0] * 5),
        ("number", [0.5, None, 7.25] * 9),
        ("boolean", [True, False, None] * 9),
        ("category", ["a", "b", "c", None] * 9),
        ("text", ["one", "two words", "three words here", None] * 9),
    ],
)
def test_a_baseline_counts_every_value_once(type: str, values: list[object]) -> None:
    column = Column.model_validate(
        {"role": "feature", "type": type} | ({"categories": ["a", "b"], "other": True} if type == "category" else {})
    )
    series = pl.Series(values)
    baseline = drift.baseline(column, series)
    assert sum(baseline["shares"]) + baseline["missing"] == pytest.approx(1)
    assert len(drift.bin_names(column, baseline)) == len(baseline["shares"])
    counts = drift.bin_counts(column, baseline, series)
    assert drift.psi(*drift.shares(baseline, counts, series.null_count())) == pytest.approx(0)


def test_the_page_is_whole(model: Model, trained: Trained) -> None:
    found = checked(model, trained.source)
    page = check_page.page(found, "new <table>.csv", "Name", model.version)
    assert "check of new &lt;table&gt;.csv" in page
    assert page.count("<figure>") == len(model.contract.features) + 1
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_the_command_fails_on_breaks(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVE_MODEL", str(trained.model))
    assert cli.main(PROJECT, ["check-data", str(trained.source)]) == 0
    assert (tmp_path / "reports/check.html").is_file()
    pl.concat(reader.batches(trained.source)).drop("last.seen").write_csv("t.csv")
    assert cli.main(PROJECT, ["check-data", "t.csv", "--report", "other.html"]) == 1
    assert "error: t.csv breaks the contract of the model" in capsys.readouterr().err
    assert (tmp_path / "other.html").is_file()
    table = pl.concat(reader.batches(trained.source))
    table.with_columns(pl.col("Wohnfläche (m²)").cast(pl.Float64) * 1.3).write_csv("drifted.csv")
    assert cli.main(PROJECT, ["check-data", "drifted.csv"]) == 0
    monkeypatch.setenv("CHECK_FAIL_ON_DRIFT", "true")
    assert cli.main(PROJECT, ["check-data", "drifted.csv"]) == 1
    assert "has drifted in Wohnfläche (m²)" in capsys.readouterr().err


def test_baselines_are_small(model: Model) -> None:
    assert len(json.dumps(model.metadata["baselines"])) < 20_000
