"""The README of tabserve is its map: a module imports what it lists, and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tabserve

HOME = Path(tabserve.__file__).parent
ROWS = re.findall(r"^\| (`.+`) \| .+ \| (.+) \|$", (HOME / "README.md").read_text().split("## The modules")[1], re.M)


def rooms(cell: str) -> list[str]:
    return [name.removesuffix("/").removesuffix(".py") for name in re.findall("`([^`]+)`", cell)]


def granted() -> dict[str, set[str]]:
    """What each module may import, as the README says."""
    listed = [rooms(cell) for cell, _ in ROWS]
    answer: dict[str, set[str]] = {}
    for row, (own, (_, cell)) in enumerate(zip(listed, ROWS, strict=True)):
        below = {name for names in listed[row + 1 :] for name in names}
        named = set(rooms(cell))
        answer |= dict.fromkeys(own, below - named if cell.startswith("everything below") else named)
    return answer


def imported(room: str) -> Iterator[str]:
    """The modules that a module imports, also in the body of a function."""
    files = [HOME / f"{room}.py"] if (HOME / f"{room}.py").exists() else sorted((HOME / room).rglob("*.py"))
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.module == "tabserve":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("tabserve."):
            yield str(node.module).split(".")[1]


def test_every_room_is_on_the_map() -> None:
    here = {path.stem for path in HOME.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert here - {"__init__"} == set(granted())
    assert set(imported("__init__")) == {"inference"}


@pytest.mark.parametrize("room", sorted(granted()))
def test_a_room_imports_what_the_map_grants(room: str) -> None:
    assert set(imported(room)) - {room} <= granted()[room]
