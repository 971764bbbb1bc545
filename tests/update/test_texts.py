"""Texts that merge by meaning, and what is wrong with a text after a merge."""

from __future__ import annotations

import tomllib

import pytest

from tabserve.updating.alignment import dependencies, line_ends
from tabserve.updating.soundness import faults

OLD = '[project]\ndependencies = [\n    "a>=1",\n    "b>=1",\n    "gone>=1",\n]\n'
NEW = '[project]\ndependencies = [\n    "a>=1",\n    "b>=2",\n    "c>=1",\n]\n'


def merged(ours: str, old: str = OLD, new: str = NEW) -> tuple[str, str]:
    before, after = dependencies(ours.encode(), (old.encode(), new.encode()))
    return before.decode(), after.decode()


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ('["a>=1", "b>=1", "gone>=1", "mine"]', ["a>=1", "b>=2", "c>=1", "mine"]),
        ('["a>=3", "b>=1", "gone>=1"]', ["a>=3", "b>=2", "c>=1"]),
        ('["mine", "b>=1"]', ["mine", "b>=2", "c>=1"]),
        ('[\n    "a>=1",  # why\n    "B>=1",\n    "gone>=1",\n    "mine",\n]', ["a>=1", "b>=2", "c>=1", "mine"]),
        ('["a>=1", "b>=2", "gone>=1"]', ["a>=1", "b>=2", "c>=1"]),
    ],
)
def test_dependencies_merge_by_name(ours: str, expected: list[str]) -> None:
    mine = f"[project]\ndependencies = {ours}\n"
    before, after = merged(mine.replace('"B>=1"', '"b>=1"'))
    assert before == mine.replace('"B>=1"', '"b>=1"'), "the lines of both are the same, so that they never conflict"
    assert tomllib.loads(after)["project"]["dependencies"] == expected
    assert ("# why" in after) == ("# why" in ours)


@pytest.mark.parametrize("ours", ['["a>=1", "b>=3", "gone>=1"]', '["a>=1", "b>=1", "gone>=2"]', '["a", "a", "b>=1"]'])
def test_a_dependency_that_both_changed_is_left_to_the_person(ours: str) -> None:
    assert merged(f"[project]\ndependencies = {ours}\n") == (OLD, NEW)


def test_groups_and_what_they_include() -> None:
    old = '[dependency-groups]\ndev = [\n    "a",\n]\n'
    new = '[dependency-groups]\ndev = [\n    { include-group = "table" },\n    "a",\n]\n'
    _, after = merged('[dependency-groups]\ndev = ["a", "mine"]\nours = ["b"]\n', old, new)
    assert tomllib.loads(after)["dependency-groups"]["dev"] == [{"include-group": "table"}, "a", "mine"]


def test_what_cannot_be_read_stays() -> None:
    assert merged("broken [") == (OLD, NEW)


def test_the_template_gets_the_line_ends_of_the_person() -> None:
    assert line_ends(b"a\r\nb\r\n", (b"a\n", b"b\n")) == (b"a\r\n", b"b\r\n")
    for ours in (b"a\nb\n", b"a\r\nb\n", b"", b"a"):
        assert line_ends(ours, (b"a\n", b"b\n")) == (b"a\n", b"b\n")


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("k8s/a.yaml", "a: 1\nb:\n  a: 2\n", set()),
        ("k8s/a.yaml", "b:\n  a: 1\n  c: 1\n  a: 2\n", {"b.a is there twice"}),
        ("k8s/a.yaml", "a: 1\n---\na: 1\n", set()),
        ("k8s/a.yaml", "a: [1\n", {"cannot be read (ParserError)"}),
        (".gitlab-ci.yml", "job: 1\njob: 2\n", {"job is there twice"}),
        ("pyproject.toml", "[a]\nb = 1\nb = 2\n", {"cannot be read (TOMLDecodeError)"}),
        ("renovate.json", '{"a": 1, "b": {"c": 1, "c": 2}}', {"c is there twice"}),
        ("src/a.py", "def f(): ...\nclass C:\n    def f(self): ...\n", set()),
        ("src/a.py", "def f(): ...\ndef f(): ...\n", {"f is there twice"}),
        ("src/a.py", "class C:\n    def f(self): ...\n    def f(self): ...\n", {"C.f is there twice"}),
        ("src/a.py", "class C:\n    @property\n    def f(self): ...\n    @f.setter\n    def f(self): ...\n", set()),
        ("src/a.py", "def f(:\n", {"cannot be read (SyntaxError)"}),
        ("Makefile", "a: b\n\t@x\na: c\nv = 1\n", set()),
        ("Makefile", "a: b\n\t@x\na: c\n\t@y\n", {"a is there twice"}),
        ("Dockerfile", "FROM a\nFROM a\n", set()),
        ("x.yaml", "\x80", {"cannot be read (ReaderError)"}),
    ],
)
def test_what_a_merge_may_break(path: str, text: str, wrong: set[str]) -> None:
    assert faults(path, text.encode()) == wrong
