import json
import random
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import onnxruntime
import polars as pl
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import LinearSVC

from tabserve import outputs
from tabserve.contract.model import Column, Contract, Split
from tabserve.discovery import infer
from tabserve.errors import UserError
from tabserve.tables import reader
from tabserve.training import dataset, evaluate, export, report, train
from tests.tabserve.conftest import PIPELINES, Trained


def again(trained: Trained, seed: int = 0) -> train.Outcome:
    return train.train(PIPELINES, trained.contract, trained.source, seed, 0.25, lambda name: nullcontext(), 10**6)


def test_beats_the_baseline(trained: Trained) -> None:
    main = evaluate.main_score(trained.contract.task, trained.outcome.scores)
    assert trained.outcome.scores[main] > trained.outcome.baseline[main] + 0.2


def test_scores_have_the_names_of_scikit_learn(trained: Trained) -> None:
    names = {
        "bought": ["accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision", "log_loss", "brier"],
        "Größe": ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc_ovr", "average_precision", "log_loss", "brier"],
        "prix €": ["mae", "rmse", "r2"],
    }
    assert list(trained.outcome.scores) == names[trained.contract.target]


def test_same_seed_same_file_other_seed_other_file(trained: Trained) -> None:
    assert again(trained).model == trained.outcome.model
    assert again(trained, seed=1).version != trained.outcome.version


def test_parity_on_held_out_rows(trained: Trained) -> None:
    assert trained.outcome.held_out.rows.height == len(trained.outcome.held_out.matrix) == 100
    assert trained.outcome.parity <= export.TOLERANCE


def test_metadata_is_complete(trained: Trained) -> None:
    metadata = onnxruntime.InferenceSession(trained.outcome.model).get_modelmeta().custom_metadata_map
    values = {key: json.loads(text) for key, text in metadata.items()}
    assert Contract.model_validate(values["contract"]) == trained.contract
    assert values["version"] == trained.outcome.version
    assert values["metrics"] == trained.outcome.scores
    assert set(values["baselines"]) == {*trained.contract.features, trained.contract.target}
    assert set(values["example"]) == set(trained.contract.features)
    assert values["data_sha256"] == reader.sha256(trained.source)
    assert "scikit-learn" in values["versions"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('no such\\nstep')", r"cannot be fitted: ValueError: no such step \(pipeline.py, line 2\)$"),
        ("return {}", r"pipelines\(\) must return one pipeline, not 0$"),
        ("return [1]", r"pipelines\(\) must return {name: pipeline}, not a list$"),
        ("return {'a': 1, 'b': 2}", r"pipelines\(\) must return one pipeline, not 2$"),
        ("return {'a': 1}", "cannot be fitted: AttributeError: 'int' object has no attribute 'fit'$"),
    ],
)
def test_what_is_wrong_in_pipelines_gets_one_line(trained: Trained, tmp_path: Path, code: str, message: str) -> None:
    module = ModuleType("pipeline")
    exec(compile(f"def pipelines(*arguments):\n    {code}\n", str(tmp_path / "pipeline.py"), "exec"), vars(module))
    with pytest.raises(UserError, match=f"^pipeline.py:? {message}"):
        train.train(module.pipelines, trained.contract, trained.source, 0, 0.25, lambda name: nullcontext(), 10**6)


def test_reports(trained: Trained, tmp_path: Path) -> None:
    document = json.loads(report.metrics_json(trained.outcome, trained.contract))
    assert document["metrics"] == trained.outcome.scores
    page = report.page(trained.outcome, trained.contract, seed=0, name="<Flats>")
    plots = {"bought": 5, "Größe": 5, "prix €": 3}[trained.contract.target]
    assert page.count("<figure>") == plots
    assert "Wohnfläche (m²)" in page
    assert "<h1>&lt;Flats&gt;: " in page
    assert trained.outcome.data_sha256[:12] in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    (tmp_path / "holdout.csv").write_text(report.holdout_csv(trained.outcome, trained.contract), encoding="utf-8")
    held_out = pl.concat(reader.batches(tmp_path / "holdout.csv"))
    assert held_out.height == trained.outcome.held_out.rows.height
    assert {*trained.contract.features, trained.contract.target, "prediction"} <= set(held_out.columns)


def test_importance_finds_what_matters(trained: Trained) -> None:
    drops = report.importances(trained.outcome, trained.contract, seed=0)
    strongest = {"bought": "prix €", "Größe": "Wohnfläche (m²)", "prix €": "Wohnfläche (m²)"}
    assert drops[0][0] == strongest[trained.contract.target]


def test_rare_classes_stay_in_training() -> None:
    target = np.array([0] * 50 + [1] * 40 + [2] * 3)
    train_rows, test_rows = dataset.at_random(target, "classification", 0.2, seed=0)
    assert set(target[train_rows]) == {0, 1, 2}
    assert set(target[test_rows]) == {0, 1}
    assert sorted([*train_rows, *test_rows]) == list(range(93))


def test_rows_against_the_contract_are_left_out(csv_file: Path, tmp_path: Path) -> None:
    contract = infer.infer(csv_file, "bought")
    broken = pl.concat(reader.batches(csv_file)).with_row_index()
    first = pl.col("index") < 5
    broken = broken.with_columns(
        pl.when(first).then(pl.lit("many")).otherwise(pl.col("rooms, total")).alias("rooms, total"),
        pl.when(pl.col("index") == 9).then(None).otherwise(pl.col("bought")).alias("bought"),
    )
    broken.drop("index").write_csv(tmp_path / "broken.csv")
    loaded = dataset.load(contract, tmp_path / "broken.csv", 1_000, seed=0)
    assert loaded.left_out == {"without a usable target": 1, "against the contract (rooms, total in 5, as 'many')": 5}
    assert len(loaded.table.matrix) == 394


def test_a_large_file_is_sampled(csv_file: Path) -> None:
    contract = infer.infer(csv_file, "bought")
    first, again, other = (dataset.load(contract, csv_file, 100, seed) for seed in (0, 0, 1))
    assert (first.in_file, first.drawn, len(first.table.matrix)) == (400, 100, 100)
    assert first.table.rows.equals(again.table.rows)
    assert not first.table.rows.equals(other.table.rows)


@pytest.mark.parametrize("by", ["time", "group"])
def test_splits_of_the_contract(csv_file: Path, by: Literal["time", "group"]) -> None:
    contract = infer.infer(csv_file, "bought")
    contract = contract.model_copy(
        update={"split": Split(by=by, column="last.seen" if by == "time" else "rooms, total")}
    )
    loaded = dataset.load(contract, csv_file, 1_000, seed=0)
    learned, held_out = dataset.split(contract, loaded.table, 0.25, seed=0)
    assert sorted([*learned, *held_out]) == list(range(400))
    assert 0 < len(held_out) < 200
    rows, name = loaded.table.rows, contract.split.column if contract.split else ""
    if by == "time":
        assert len(held_out) == pytest.approx(100, abs=5)
        assert rows[learned.tolist()][name].max() < rows[held_out.tolist()][name].min()
    else:
        assert set(rows[learned.tolist()][name]) & set(rows[held_out.tolist()][name]) == set()


def test_time_splits_keep_equal_timestamps_together() -> None:
    keys = np.array([3.0, 1, 2, 3, 3, 3, 1, 2, 2, 3])
    learned, held_out = dataset.by_time(keys, 0.2)
    assert keys[held_out].tolist() == [3.0] * 5
    assert sorted(keys[learned].tolist()) == [1, 1, 2, 2, 2]
    assert len(dataset.by_time(np.ones(9), 0.2)[1]) == 0


@pytest.mark.parametrize("positives", [18, 24, 30])
def test_trees_that_never_split_keep_their_labels(tmp_path: Path, positives: int) -> None:
    chance = random.Random(40)
    rows = "".join(f"{chance.random()},{'yes' if i < positives else 'no'}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("x,y\n" + rows)
    contract = infer.infer(tmp_path / "t.csv", "y")
    assert (
        train.train(
            PIPELINES, contract, tmp_path / "t.csv", 0, 0.25, lambda name: nullcontext(), 10**6
        ).held_out.rows.height
        == 10
    )


def test_integer_categories_may_have_others(tmp_path: Path) -> None:
    rows = "".join(f"{(1, 2, 3, 7)[i % 4]},{i % 5},{i % 2}\n" for i in range(80))
    (tmp_path / "t.csv").write_text("code,x,y\n" + rows)
    contract = infer.infer(tmp_path / "t.csv", "y")
    code = Column(role="feature", type="category", categories=(1, 2, 3), other=True)
    contract = contract.model_copy(update={"columns": contract.columns | {"code": code}})
    assert (
        train.train(PIPELINES, contract, tmp_path / "t.csv", 0, 0.25, lambda name: nullcontext(), 10**6).train_rows
        == 60
    )


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    outputs.write_atomically({tmp_path / "a": b"old"}, "x train")
    (tmp_path / "blocker").touch()
    with pytest.raises(UserError, match="cannot be written"):
        outputs.write_atomically({tmp_path / "a": b"new", tmp_path / "blocker/b": b"new"}, "x train")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder cannot be written: it is not a regular file"):
        outputs.write_atomically({tmp_path / "a": b"new", tmp_path / "folder": b"new"}, "x train")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {".tabserve", "a", "blocker", "folder"}
    outputs.write_atomically({tmp_path / "a": b"new", tmp_path / "deep/b": b"new"}, "x train")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "deep/b").read_bytes() == b"new"


def test_too_few_rows(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_text("x,y\n" + "\n".join(f"{i},{i % 2}" for i in range(10)))
    with pytest.raises(UserError, match="10 rows with a target are too few, at least 20 are needed"):
        dataset.load(infer.infer(path, "y"), path, 1_000, seed=0)


# --- the parity gate and the export


def binary(pipeline: Pipeline) -> tuple[Pipeline, np.ndarray]:
    random = np.random.default_rng(0)
    matrix = (random.normal(size=(300, 3)) * [1, 1_000, 1e6]).astype(np.float32)
    return pipeline.fit(matrix, (matrix[:, 0] + matrix[:, 1] / 1_000 > 0).astype(int)), matrix


@pytest.mark.parametrize("trees", [30, 50, 70])
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_of_a_forest_are_from_0_to_1(trees: int, classes: int) -> None:
    """Its float32 sums of shares are not: 50 times 0.02 is more than 1."""
    matrix = np.linspace(0, 1, 300, dtype=np.float32)[:, None]
    forest = RandomForestClassifier(n_estimators=trees, min_samples_leaf=3, random_state=0)
    pipeline = Pipeline([("estimator", forest)]).fit(matrix, (matrix[:, 0] * classes * 0.999).astype(int))
    graph = export.convert(pipeline, 1)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    labels, probabilities = session.run(None, {"features": matrix})
    assert probabilities.min() == 0
    assert probabilities.max() == 1
    assert (labels == pipeline.predict(matrix)).all()


def test_neighbouring_float32_thresholds_keep_parity() -> None:
    random = np.random.default_rng(0)
    matrix = (np.float32(2**24) + 2 * random.integers(0, 64, (2_000, 1))).astype(np.float32)
    target = ((matrix[:, 0] - 2**24) / 2 % 7 > 3).astype(int)
    pipeline = Pipeline([("estimator", HistGradientBoostingClassifier(random_state=0))]).fit(matrix, target)
    assert export.check_parity(export.convert(pipeline, 1), pipeline, matrix) < export.TOLERANCE


class Unknown(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    def fit(self, matrix: np.ndarray, target: object = None) -> "Unknown":
        self.fitted_ = True
        return self

    def transform(self, matrix: np.ndarray) -> np.ndarray:
        return matrix * 2


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [("odd", Unknown()), ("estimator", HistGradientBoostingClassifier())],
            "step 'odd' (Unknown) cannot be exported",
        ),
        (
            [("estimator", LabelSpreading(kernel="knn"))],
            "step 'estimator' (LabelSpreading) cannot be exported",
        ),
        ([("estimator", LinearSVC())], "LinearSVC gives no probabilities"),
    ],
)
def test_what_cannot_be_exported_is_named(steps: list[tuple[str, BaseEstimator]], message: str) -> None:
    pipeline, _ = binary(Pipeline(steps))
    with pytest.raises(UserError) as error:
        export.convert(pipeline, 3)
    assert message in str(error.value)


def test_the_gate_names_the_step_that_differs() -> None:
    steps = [("bins", KBinsDiscretizer(8, encode="ordinal")), ("estimator", HistGradientBoostingClassifier())]
    pipeline, matrix = binary(Pipeline(steps))
    graph = export.convert(pipeline, 3)
    other, _ = binary(
        Pipeline([("scale", StandardScaler()), ("estimator", HistGradientBoostingClassifier(max_iter=3))])
    )
    with pytest.raises(UserError, match=r"parity gate: .* on \d+ of 300 held-out rows.*allowed 0\.0001"):
        export.check_parity(graph, other, matrix)
