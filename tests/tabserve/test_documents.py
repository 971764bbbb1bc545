"""YAML and TOML have bounds: no small file becomes a large or a deep document."""

from pathlib import Path

import pytest

from tabserve.contract import file as contract_file
from tabserve.documents import documents
from tabserve.errors import UserError
from tabserve.files import LARGEST
from tabserve.operations.manifests import read
from tabserve.settings import TrainSettings, load

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
BOMBS = {
    "aliases that multiply": (LAUGHS, "more than 1,000 values"),
    "merged mappings that multiply": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)),
        "more than 1,000 values",
    ),
    "an alias of itself": ("a: &a [*a]", "an alias inside what it stands for"),
    "a mapping of itself": ("&a {b: *a}", "an alias inside what it stands for"),
    "lists in lists": ("a: " + "[" * 100_000, "nested too deeply"),
    "mappings in mappings": ("{a: " * 100_000, "nested too deeply"),
    "blocks in blocks": ("\n".join(f"{' ' * n}a:" for n in range(1_000)), "nested too deeply"),
    "many values": (f"a: [{'1,' * 2_000}]", "more than 1,000 values"),
    "a long number": (f"a: {'9' * 10_000}", "limit"),
    "a date that is none": ("a: 2024-99-99", "month"),
    "a large file": ("a: " + "x" * LARGEST, "larger than"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_document_that_grows_gets_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabserve.documents.MOST_NODES", 1_000)
    text, message = BOMBS[name]
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        contract_file.load(path)
    assert "\n" not in str(caught.value)
    assert any(message in problem for problem in read([path])[1])


def test_an_alias_is_no_bomb() -> None:
    ((found, _),) = documents("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}")
    assert found == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 3}}


SETTINGS = {
    "lists in lists": "a = " + "[" * 10_000,
    "tables in tables": "a = " + "{a = " * 10_000,
    "a large file": "a = 1\n" * 3_000_000,
    "a long number": "a = " + "9" * 9_999,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_are_too_deep_or_too_large_get_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(SETTINGS[name])
    with pytest.raises(UserError, match=r"config.toml cannot be read: "):
        load(TrainSettings)
