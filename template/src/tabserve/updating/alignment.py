"""Texts that merge by meaning: the dependencies of pyproject.toml by name, and files with other line ends.

A merge compares lines. So the template's two versions of a file are changed beforehand: where they differ from the
person's file in something that is not a line, they get what the person has.
"""

import re
from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError
from tomlkit.items import Array

NAME = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)")
Pair = tuple[bytes, bytes]


def line_ends(ours: bytes, pair: Pair) -> Pair:
    """The template's versions with the line ends of a file that has CRLF on every line."""
    if not ours.count(b"\n") or ours.count(b"\n") != ours.count(b"\r\n") or any(b"\r\n" in text for text in pair):
        return pair
    before, after = (text.replace(b"\n", b"\r\n") for text in pair)
    return before, after


def dependencies(ours: bytes, pair: Pair) -> Pair:
    """The template's versions of pyproject.toml with the person's dependencies: a change is then one of the template's.

    A list stays as it is where both sides changed the same dependency in different ways.
    """
    try:
        mine, before, after = (tomlkit.parse(text.decode()) for text in (ours, *pair))
    except (ParseError, UnicodeDecodeError):
        return pair
    for keys in _lists(mine, before, after):
        tables = [_table(document, keys) for document in (mine, before, after)]
        lists = [table[keys[-1]] for table in tables]
        if (merged := _by_name(*lists)) is not None:
            tables[1][keys[-1]], tables[2][keys[-1]] = tomlkit.parse(f"x = {lists[0].as_string()}")["x"], merged
    return tomlkit.dumps(before).encode(), tomlkit.dumps(after).encode()


def _lists(*documents: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Where all documents have a list of dependencies."""
    groups = [
        (*keys, name)
        for keys in (("project", "optional-dependencies"), ("dependency-groups",))
        for name in _table(documents[0], (*keys, ""))
    ]
    found = [("project", "dependencies"), *groups]
    return [keys for keys in found if all(isinstance(_table(one, keys).get(keys[-1]), Array) for one in documents)]


def _table(document: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    table: Any = document
    for key in keys[:-1]:
        table = table.get(key, {})
    return table


def _by_name(mine: Array, before: Array, after: Array) -> Array | None:
    """The person's list with the template's changes; None where both changed one dependency differently."""
    ours, old, new = ({_key(item): item for item in found.unwrap()} for found in (mine, before, after))
    if any(len(named) != len(found) for named, found in ((ours, mine), (old, before), (new, after))):
        return None  # one name twice, for two platforms, say
    merged = tomlkit.parse(f"x = {mine.as_string()}")["x"]
    assert isinstance(merged, Array)
    for name in old.keys() | new.keys():
        if old.get(name) == new.get(name) or ours.get(name) == new.get(name):
            continue
        if ours.get(name) != old.get(name):
            return None
    for name, item in old.items():
        if ours.get(name) == item and new.get(name) != item:
            if _comment(mine, item) != _comment(before, item):
                return None  # what a person wrote about it
            at = [_key(one) for one in merged.unwrap()].index(name)
            if name in new:
                merged[at] = new[name]
            else:
                del merged[at]
    for name, item in new.items():
        if name not in old and name not in ours:
            merged.insert(_place(name, list(new), [_key(one) for one in merged.unwrap()]), item)
    return merged


def _comment(found: Array, item: Any) -> str:
    """What is written behind a dependency on its line."""
    lines = [line for line in found.as_string().split("\n") if isinstance(item, str) and item in line]
    return lines[0].partition("#")[2].strip() if lines else ""


def _place(name: str, order: list[str], names: list[str]) -> int:
    """Where a dependency comes: behind the one that it follows in the template's list, if that is there."""
    before = [one for one in order[: order.index(name)] if one in names]
    return names.index(before[-1]) + 1 if before else 0


def _key(item: Any) -> str:
    """What a dependency is known by: its normalized name (PEP 503), or the group that it includes."""
    found = NAME.match(item) if isinstance(item, str) else None
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else str(item)
