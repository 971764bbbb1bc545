from pathlib import Path

import pytest

from tabserve.errors import suggestion
from tabserve.operations.manifests import Manifests, items, quantity, read, settings_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((0, 0), (2, 2), (0.5, 0.5), ("1", 1), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000), ("1.5e2k", 150_000)),
        *(("1n", 1e-9), ("1u", 1e-6), ("250m", 0.25), ("1k", 1e3), ("1M", 1e6), ("1G", 1e9), ("1T", 1e12)),
        *(("1P", 1e15), ("1E", 1e18), ("1Ki", 2**10), ("1.5Mi", 1.5 * 2**20), ("1Gi", 2**30), ("1Ti", 2**40)),
        *(("1Pi", 2**50), ("1Ei", 2**60)),
        *((text, None) for text in ("", "one", "1K", "512MB", "1mi", "-1", "1 Gi", "1Gi ", "e3", None, True)),
    ],
)
def test_quantities_are_read_as_kubernetes_does(text: object, expected: float | None) -> None:
    assert quantity(text) == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_variables_of_a_container_override_those_of_its_config_maps() -> None:
    maps = [
        {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"X": "1", "Y": "2"}},
        {"kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"Y": "3"}},
        {"kind": "ConfigMap", "metadata": {"name": "empty"}},
        {"kind": "ConfigMap", "metadata": {"name": "other"}, "data": {"Z": "4"}},
    ]
    sources = [
        *({"configMapRef": {"name": name}} for name in ("a", "b", "gone", "empty")),
        {"secretRef": {"name": "a"}},
    ]
    container = {"envFrom": sources, "env": [{"name": "X", "value": "9"}, {"name": "W", "valueFrom": {}}]}
    assert settings_of(Manifests(maps), container) == {"X": "9", "Y": "3"}
    assert settings_of(Manifests(maps), {}) == {}


def test_lists_hold_what_is_a_mapping() -> None:
    assert items({"a": {"b": [{"c": 1}, "x", None]}}, "a", "b") == [{"c": 1}]
    assert items({"a": "text"}, "a") == items({"a": None}, "a") == items({}, "a") == []


def test_only_a_similar_word_is_suggested() -> None:
    assert suggestion("replicsa", ["replicas", "selector"]) == "; did you mean replicas?"
    assert suggestion("x", ["replicas", "selector"]) == ""


def test_documents_of_several_files_are_read_in_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("b.yaml", "gone.yaml", "a.yaml")]
    files[0].write_text("a: 1\n---\n---\nb: 2\n")
    files[2].write_text("- c\n---\nd: 3\n")
    documents, problems = read(files)
    assert documents == [{"a": 1}, {"b": 2}, {"d": 3}]
    assert problems == [f"{files[1]} is missing", f"{files[2]}: each document must be a mapping"]
