"""What is the person's own in a project: any edit of the pipeline, a colleague's clone, a wheel."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import run
from tests.project.conftest import BIN, Prepared, here, make
from tests.project.servers import get, post, serving

OWN_COLUMNS = """
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tabserve.contract.encoding import Layout

FEATURES: dict[str, str] = {}


def pipelines(task: str, columns: Layout, seed: int) -> dict[str, Pipeline]:
    \"\"\"Names two columns of the person's own table.\"\"\"
    chosen = [columns.names.index(name) for name in ("age", "income")]
    scaled = ColumnTransformer([("scaled", make_pipeline(SimpleImputer(), StandardScaler()), chosen)])
    return {"two": Pipeline([("preprocess", scaled), ("estimator", LogisticRegression(random_state=seed))])}
"""
ONE_TASK = """
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from tabserve.contract.encoding import Layout

FEATURES: dict[str, str] = {}


def pipelines(task: str, columns: Layout, seed: int) -> dict[str, Pipeline]:
    \"\"\"For a classification only.\"\"\"
    if task != "classification":
        raise ValueError("this project classifies")
    return {"linear": make_pipeline(SimpleImputer(), LogisticRegression(max_iter=5_000, random_state=seed))}
"""
TRANSFORMER = """
import numpy as np
from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx.algebra.onnx_ops import OnnxClip
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.tree import DecisionTreeClassifier

from tabserve.contract.encoding import Layout

FEATURES: dict[str, str] = {}


class Floor(BaseEstimator, TransformerMixin):
    \"\"\"No value below zero.\"\"\"

    def fit(self, features: NDArray[np.float32], target: object = None) -> "Floor":
        \"\"\"Remember the number of columns.\"\"\"
        self.n_features_in_ = features.shape[1]
        return self

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        \"\"\"Cut off what is below.\"\"\"
        return np.maximum(features, np.float32(0))


def shape(operator):  # type: ignore[no-untyped-def]
    \"\"\"As many columns come out as go in.\"\"\"
    operator.outputs[0].type = type(operator.inputs[0].type)([None, operator.inputs[0].type.shape[1]])


def converter(scope, operator, container):  # type: ignore[no-untyped-def]
    \"\"\"The same as a node of the graph.\"\"\"
    zero, version = np.array(0, dtype=np.float32), container.target_opset
    OnnxClip(operator.inputs[0], zero, op_version=version, output_names=operator.outputs).add_to(scope, container)


update_registered_converter(Floor, "Floor", shape, converter)


def pipelines(task: str, columns: Layout, seed: int) -> dict[str, Pipeline]:
    \"\"\"With a step of the person's own.\"\"\"
    return {"floor": make_pipeline(SimpleImputer(), Floor(), DecisionTreeClassifier(max_depth=6, random_state=seed))}
"""
EDITS = {"own columns": OWN_COLUMNS, "one task": ONE_TASK, "a transformer": TRANSFORMER}


@pytest.mark.parametrize("code", EDITS.values(), ids=EDITS)
def test_the_tests_hold_for_an_edited_pipeline(copied: Path, code: str) -> None:
    (copied / "src/loan_offers/pipeline.py").write_text(code.lstrip())
    here(copied, "train")
    assert " passed" in here(copied, "test")


def test_own_bounds_and_known_rows_are_looked_at(copied: Path) -> None:
    here(copied, "train")
    path = copied / "tests/test_model.py"
    text = path.read_text()
    path.write_text(text.replace("LEAST: dict[str, float] = {}", 'LEAST: dict[str, float] = {"roc_auc": 0.9999}'))
    assert "FAILED tests/test_model.py::test_the_scores_are_good_enough" in here(copied, "test", code=2)
    known = 'import tabserve\n\nEXAMPLE = tabserve.load("model/model.onnx").example\n'
    wrong = text.replace("KNOWN: list[tuple[dict[str, Any], Any]] = []", "KNOWN = [(EXAMPLE, 'perhaps')]")
    path.write_text(wrong.replace("import pytest\n", f"import pytest\n{known}"))
    assert "FAILED tests/test_model.py::test_rows_with_known_answers" in here(copied, "test", code=2)


def test_a_contract_that_changed_after_the_training_is_noticed(copied: Path) -> None:
    here(copied, "train")
    path = copied / "contract.yaml"
    path.write_text(path.read_text().replace("missing: true", "missing: false", 1))
    printed = here(copied, "test", code=2)
    assert "error: contract.yaml changed after model/model.onnx was trained (" in printed
    assert "missing: true becomes false): run `make train`" in printed


def test_a_colleague_clones_sets_up_trains_and_tests(copied: Path, tmp_path: Path) -> None:
    here(copied, "train")
    run("git", "add", "--all", cwd=copied)
    (copied / ".git/info/exclude").write_text(".venv\n")
    run("git", "rm", "-q", "--cached", "--ignore-unmatch", ".venv", cwd=copied)
    run("git", "commit", "-q", "-m", "Start from the template", cwd=copied)
    run("git", "clone", "-q", str(copied), str(tmp_path / "clone"), cwd=tmp_path)
    clone = tmp_path / "clone"
    assert not (clone / "model").exists()
    make(clone, "setup")
    make(clone, "train")
    assert " passed" in make(clone, "test")
    assert run("git", "status", "--porcelain", cwd=clone) == ""


def test_both_packages_work_from_a_wheel(prepared: Prepared, tmp_path: Path) -> None:
    """Installed with what the server needs, and nothing else of the project beside it but the model."""
    uv = str(BIN / "uv")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), cwd=prepared())
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    installed.mkdir()
    run(uv, "venv", "--quiet", str(installed / ".venv"), cwd=installed)
    run(uv, "pip", "install", "--quiet", "--python", str(installed / ".venv/bin/python"), str(wheel), cwd=installed)
    (installed / "model").mkdir()
    shutil.copy(prepared() / "model/model.onnx", installed / "model")
    (installed / "src/loan_offers").mkdir(parents=True)  # `serving` looks here for the name
    (installed / "src/loan_offers/__main__.py").touch()
    with serving(installed) as url:
        row = get(f"{url}/model")["example"]
        predictions = post(f"{url}/predict", row)["predictions"]
    code = "import json, sys, tabserve; print(json.dumps(tabserve.load(sys.argv[1]).predict(json.loads(sys.argv[2]))))"
    command = [str(installed / ".venv/bin/python"), "-c", code, "model/model.onnx", json.dumps(row)]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == predictions
    for task in ("train", "check-k8s"):
        refused = subprocess.run(
            [installed / ".venv/bin/loan-offers", task], cwd=installed, capture_output=True, text=True
        )
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: this task needs ")
        assert refused.stderr.count("\n") == 1
