"""Whether a file is whole after a merge without a conflict: it can be read, and names nothing twice."""

import ast
import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

import yaml


def faults(path: str, content: bytes) -> set[str]:
    """What is wrong with a file of a kind that is known here; empty for others."""
    reader = READERS.get(PurePath(path).suffix) or READERS.get(PurePath(path).name)
    if reader is None:
        return set()
    try:
        return {f"{name} is there twice" for name in _twice(reader(content.decode()))}
    except (ValueError, SyntaxError, RecursionError, yaml.YAMLError) as error:
        return {f"cannot be read ({type(error).__name__})"}


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _python(text: str) -> Iterator[str]:
    """Definitions by their place; what decorators or conditions define again is left out."""
    for node in ast.walk(ast.parse(text)):
        inner = getattr(node, "body", None)
        for one in inner if isinstance(inner, list) and isinstance(node, ast.Module | ast.ClassDef) else ():
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not one.decorator_list:
                yield f"{getattr(node, 'name', '')}.{one.name}".lstrip(".")


def _yaml(text: str) -> Iterator[str]:
    def keys(node: yaml.Node, place: str) -> Iterator[str]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield f"{place}{key.value}"
                yield from keys(value, f"{place}{key.value}.")
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                yield from keys(item, f"{place}{number}.")

    for number, document in enumerate(yaml.compose_all(text, Loader=yaml.SafeLoader)):
        yield from keys(document, f"{number}." if number else "") if document else ()


def _toml(text: str) -> Iterator[str]:
    tomllib.loads(text)  # which refuses what is there twice
    return iter(())


def _json(text: str) -> Iterator[str]:
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> None:
        found.extend(_twice(name for name, _ in items) * 2)

    json.loads(text, object_pairs_hook=pairs)
    return iter(found)


def _makefile(text: str) -> Iterator[str]:
    """Targets that have a recipe."""
    lines = text.split("\n")
    for line, following in itertools.pairwise(lines):
        name, colon, rest = line.partition(":")
        if colon and following.startswith("\t") and re.fullmatch(r"[\w.-]+", name) and not rest.startswith(("=", ":")):
            yield name


READERS: dict[str, Callable[[str], Iterable[str]]] = {
    **dict.fromkeys((".yaml", ".yml"), _yaml),
    **dict.fromkeys(("Makefile", ".mk"), _makefile),
    **{".py": _python, ".toml": _toml, ".json": _json},
}
