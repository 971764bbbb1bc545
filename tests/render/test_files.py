"""What is rendered: the exact files, each whole, plain and parsable."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabserve.updating import ownership
from tests.answers import label, pairwise
from tests.conftest import ROOT, Render

PACKAGE = ("__init__", "__main__", "app", "pipeline")
TESTS = ("__init__", "conftest", "test_api", "test_manifests", "test_model")
TABSERVE = ROOT / "template/src/tabserve"
MACHINERY = {
    f"src/tabserve/{path.relative_to(TABSERVE).as_posix()}"
    for path in TABSERVE.rglob("*")
    if path.is_file() and path.suffix != ".pyc"
}
MANIFESTS = (
    *("configmap", "deployment", "disruption-budget", "kustomization", "namespace", "network-policy"),
    *("secret.example", "service", "serviceaccount"),
)
COMPONENTS = ("batch", "gateway", "gpu", "ingress", "model-volume", "nightly", "service-monitor", "train")
COMPONENT_FILES = (
    *("batch/batch", "gateway/route", "gpu/gpu", "ingress/ingress", "model-volume/model-volume"),
    *("nightly/nightly", "service-monitor/service-monitor", "train/train"),
)
ALWAYS = {
    ".copier-answers.yml",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".dockerignore",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "uv.txt",
    "README.md",
    "SECURITY.md",
    "compose.override.yaml",
    "compose.yaml",
    "config.toml",
    "pyproject.toml",
    "ruff.toml",
    *(f"src/PACKAGE/{name}.py" for name in PACKAGE),
    *(f"tests/{name}.py" for name in TESTS),
    *MACHINERY,
    *(f"k8s/{name}.yaml" for name in MANIFESTS),
    *(f"k8s/components/{name}/kustomization.yaml" for name in COMPONENTS),
    *(f"k8s/components/{name}.yaml" for name in COMPONENT_FILES),
}
SAMPLE = {"data/loans.csv"}
CI = {
    "github": {
        *(".github/workflows/ci.yml", ".github/workflows/update.yml", ".github/pull_request_template.md"),
        "renovate.json",
    },
    "gitlab": {"renovate.json", ".gitlab-ci.yml", ".gitlab/merge_request_templates/Default.md"},
    "azure": {"renovate.json", "azure-pipelines.yml", ".azuredevops/pull_request_template.md"},
    "none": {".github/pull_request_template.md"},
}
ESTIMATORS = {
    "hist_gradient_boosting": "HistGradientBoostingClassifier",
    "random_forest": "RandomForestClassifier",
    "linear": "LogisticRegression",
    "xgboost": "XGBClassifier",
    "lightgbm": "LGBMClassifier",
}

matrix = pytest.mark.parametrize("answers", pairwise(), ids=label)


def files(project: Path) -> dict[str, Path]:
    return {path.relative_to(project).as_posix(): path for path in project.rglob("*") if path.is_file()}


@matrix
def test_exact_files(render: Render, answers: dict[str, Any]) -> None:
    package = answers.get("package_name", "loan_offers")
    expected = {name.replace("PACKAGE", package) for name in ALWAYS} | CI[answers["ci"]]
    expected |= SAMPLE if answers["data_source"] == "sample" else set()
    expected |= {"k8s/autoscale.yaml"} if answers["autoscale"] != "none" else set()
    assert set(files(render(**answers))) == expected


@matrix
def test_no_jinja_is_left_and_no_file_is_empty(render: Render, answers: dict[str, Any]) -> None:
    for name, path in files(render(**answers)).items():
        text = path.read_text(encoding="utf-8")
        assert text.strip() or name == "tests/__init__.py", f"{name} is empty"
        # GitHub's own ${{ }}, answers as given, and what docker takes as a format in tabserve.
        if not name.startswith((".github/workflows/", ".copier-answers.yml")) and name not in MACHINERY:
            assert not re.search(r"\{\{|\{%|\{#", text), f"{name} holds Jinja"
        if text:
            assert text.endswith("\n") and not text.endswith("\n\n"), f"{name} ends badly"
        assert not re.search(r"[ \t]+$", text, re.MULTILINE) or name == "LICENSE", f"{name} has blanks at a line's end"


@matrix
def test_the_machinery_is_the_same_bytes_in_every_project(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    for name in MACHINERY:
        assert (project / name).read_bytes() == (ROOT / "template" / name).read_bytes(), name


def test_the_machinery_has_no_jinja_in_its_paths() -> None:
    assert [name for name in MACHINERY if re.search(r"[{}]|[.]jinja$", name)] == []


@matrix
def test_what_is_yours_is_short(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    own = [
        path for path in project.glob("*/**/*.py") if path.is_relative_to(project / "tests") or is_own(project, path)
    ]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in own) <= 500


def is_own(project: Path, path: Path) -> bool:
    return path.is_relative_to(project / "src") and not path.is_relative_to(project / "src/tabserve")


@matrix
def test_everything_parses(render: Render, answers: dict[str, Any]) -> None:
    for name, path in files(render(**answers)).items():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            ast.parse(text, name)
        elif path.suffix == ".toml":
            tomllib.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            list(yaml.safe_load_all(text))


@matrix
def test_the_estimator_reaches_pipeline_and_dependencies(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    (pipeline,) = project.glob("src/*/pipeline.py")
    assert ESTIMATORS[answers["estimator"]] in pipeline.read_text()
    document = tomllib.loads((project / "pyproject.toml").read_text())
    names = {re.split(r"[<>=;]", item)[0] for item in document["dependency-groups"]["train"] if isinstance(item, str)}
    extra = {"xgboost": {"onnxmltools", "xgboost", "xgboost-cpu"}, "lightgbm": {"lightgbm", "onnxmltools"}}
    assert names == {"matplotlib", "onnx", "scikit-learn", "scipy", "skl2onnx"} | extra.get(answers["estimator"], set())


def test_files_behind_a_gitignore_would_be_missing() -> None:
    command = ["git", "ls-files", "-oi", "--exclude-standard", "--", "template", "extensions"]
    hidden = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [name for name in hidden if "__pycache__" not in name and ".ruff_cache" not in name] == []


def test_the_sample_is_what_its_script_makes(render: Render) -> None:
    script = ROOT / "tools/make_sample.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert made.stdout == (render() / "data/loans.csv").read_text()
    header, *rows = made.stdout.splitlines()
    accepted = sum(row.endswith(",yes") for row in rows)
    assert 2_000 <= len(rows) <= 9_000
    assert 0.05 < accepted / len(rows) < 0.25
    assert any(",," in row for row in rows)
    assert header.endswith("loan_accepted")


def test_licenses(render: Render) -> None:
    first = {
        "MIT": "MIT License",
        "BSD-3-Clause": "BSD 3-Clause",
        "Apache-2.0": "Apache License",
        "Proprietary": "Copyright",
    }
    for name, text in first.items():
        license = (render(license=name) / "LICENSE").read_text()
        assert text in license
        assert license == license.strip("\n") + "\n" or name == "Apache-2.0"
        assert name == "Apache-2.0" or "Loan Offers team" in license


def test_pipeline_variants_differ_only_where_they_must() -> None:
    variants = sorted((ROOT / "template/src").rglob("pipeline.py"))
    assert len(variants) == len(ESTIMATORS)
    docstrings = {ast.get_docstring(ast.parse(path.read_text())) for path in variants}
    assert len(docstrings) == 1


@pytest.mark.parametrize("answers", pairwise(), ids=label)
def test_each_file_has_one_owner(answers: dict[str, Any], render: Render) -> None:
    project = render(**answers)
    package = yaml.safe_load((project / ".copier-answers.yml").read_text())["package_name"]
    yours = {pattern.format(package=package) for pattern in ownership.YOURS}
    for path in (path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()):
        owners = [names for names in (yours, ownership.TEMPLATES, ownership.SHARED) if covers(names, path)]
        assert len(owners) == 1, path


def covers(names: Iterable[str], path: str) -> bool:
    return any(path.startswith(name) if name.endswith("/") else path == name for name in names)
