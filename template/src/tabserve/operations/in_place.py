"""Values of YAML files, changed where they stand: comments, quotes and layout stay as they are."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tabserve.operations.manifests import Document

Item = tuple[tuple[str, str], ...]  # keys and values that the wanted item of a list has; dots lead to inner keys
Step = str | Item
Steps = tuple[Step, ...]


class LayoutError(Exception):
    """A file is not laid out as expected; what is missing, in one line."""


def value(text: str, kind: str, steps: Steps) -> Any:
    """The value in the one document of a kind.

    Raises:
        LayoutError: there is none.
    """
    found = follow(only(documents(text), kind), steps)
    if found is None or isinstance(found, dict | list):
        raise LayoutError(f"no {shown(steps)}")
    return found


def replaced(text: str, kind: str, values: Mapping[Steps, str]) -> str:
    """The text with other values in the one document of a kind.

    Raises:
        LayoutError: a value is not there, or nothing but the values would not stay the same.
    """
    before = documents(text)
    only(before, kind)
    root = next((node for node in yaml.compose_all(text, yaml.SafeLoader) if kind_of(node) == kind), None)
    spots = {spot(root, steps): (steps, wanted) for steps, wanted in values.items()}
    for (start, end), (_, wanted) in sorted(spots.items(), reverse=True):
        quote = text[start] if text[start] in "'\"" else ""
        text = f"{text[:start]}{quote}{wanted}{quote}{text[end:]}"
    if not only_changed(before, text, kind, values):
        raise LayoutError(f"{' and '.join(map(shown, values))} cannot be changed in place: change it by hand")
    return text


def write_all(texts: Mapping[Path, str]) -> None:
    """Write all files, each whole, or none.

    Raises:
        OSError: one cannot be written.
    """
    before = {path: path.read_bytes() for path in texts}
    try:
        for path, text in texts.items():
            write(path, text.encode())
    except OSError:
        for path, content in before.items():
            if path.read_bytes() != content:
                write(path, content)
        raise


def write(path: Path, content: bytes) -> None:
    """Write a file whole: beside it first, then under its name."""
    place = path.resolve()
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        shutil.copymode(place, name)
        Path(name).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


# --- finding


def documents(text: str) -> list[Document]:
    """The documents of a text.

    Raises:
        LayoutError: it is no YAML.
    """
    try:
        return [each for each in yaml.safe_load_all(text) if isinstance(each, dict)]
    except yaml.YAMLError as error:
        raise LayoutError(f"no valid YAML: {' '.join(str(error).split())}") from None


def only(found: Sequence[Document], kind: str) -> Document:
    """The one document of a kind.

    Raises:
        LayoutError: there is none, or there are several.
    """
    fitting = [document for document in found if document.get("kind") == kind]
    if len(fitting) != 1:
        raise LayoutError(f"{len(fitting)} documents of the kind {kind}, where one is expected")
    return fitting[0]


def follow(item: Any, steps: Steps) -> Any:
    """What the steps lead to, or None."""
    for step in steps:
        if isinstance(step, str):
            item = item.get(step) if isinstance(item, dict) else None
        else:
            item = next((each for each in item or () if fits(each, step)), None) if isinstance(item, list) else None
    return item


def fits(item: Any, wanted: Item) -> bool:
    """Whether an item of a list says this of itself."""
    return all(follow(item, tuple(key.split("."))) == text for key, text in wanted)


def shown(steps: Steps) -> str:
    """The steps for people."""
    return ".".join(step if isinstance(step, str) else f"[{' '.join(text for _, text in step)}]" for step in steps)


def kind_of(node: yaml.Node | None) -> str:
    """The kind of a document."""
    return next((held.value for key, held in pairs(node) if key.value == "kind"), "")


def pairs(node: yaml.Node | None) -> Iterator[tuple[Any, Any]]:
    """The keys and values of a mapping."""
    yield from node.value if isinstance(node, yaml.MappingNode) else ()


def spot(node: yaml.Node | None, steps: Steps) -> tuple[int, int]:
    """Where the value stands in the text.

    Raises:
        LayoutError: it does not.
    """
    for step in steps:
        if isinstance(step, str):
            node = next((held for key, held in pairs(node) if key.value == step), None)
        else:
            items = node.value if isinstance(node, yaml.SequenceNode) else []
            node = next((each for each in items if fits(plain(each), step)), None)
    if not isinstance(node, yaml.ScalarNode):
        raise LayoutError(f"no {shown(steps)}")
    return node.start_mark.index, node.end_mark.index


def plain(node: yaml.Node) -> Any:
    """A node as data, all scalars as text."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(held) for key, held in node.value}
    return [plain(each) for each in node.value] if isinstance(node, yaml.SequenceNode) else node.value


def only_changed(before: list[Document], text: str, kind: str, values: Mapping[Steps, str]) -> bool:
    """Whether the text says the new values, and else what it said before."""
    try:
        after = documents(text)
        told = [str(value(text, kind, steps)) for steps in values]
    except LayoutError:
        return False
    if told != list(values.values()):
        return False
    blanked = [copy.deepcopy(each) for each in (before, after)]
    for found in blanked:
        for steps in values:
            follow(only(found, kind), steps[:-1])[steps[-1]] = None
    return blanked[0] == blanked[1]
