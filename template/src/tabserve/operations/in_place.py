"""Values of a YAML file, changed in place: comments, quotes, line ends and layout stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import yaml

from tabserve.errors import UserError

Place = tuple[str | int, ...]  # the number of a document from 0, then the keys and positions that lead to a value


class LayoutError(UserError):
    """A file is not laid out as expected."""


def replaced(text: str, values: Mapping[Place, str]) -> str:
    """The text with other values.

    Raises:
        LayoutError: a value is missing, or something else would change with it.
    """
    with suppress(yaml.YAMLError):
        nodes, after = scalars(text), text
        for place in sorted(values.keys() & nodes.keys(), key=lambda place: -nodes[place].start_mark.index):
            start, end = nodes[place].start_mark.index, nodes[place].end_mark.index
            quote = text[start] if text[start] in "'\"" else ""
            after = f"{after[:start]}{quote}{values[place]}{quote}{after[end:]}"
        wanted = {**{place: node.value for place, node in nodes.items()}, **values}
        if {place: node.value for place, node in scalars(after).items()} == wanted:
            return after
    places = " and ".join(".".join(map(str, place[1:])) for place in values)
    raise LayoutError(f"{places} cannot be changed in place: change it by hand")


def scalars(text: str) -> dict[Place, yaml.ScalarNode]:
    """The single values of all documents."""
    documents = enumerate(yaml.compose_all(text, yaml.SafeLoader))
    return {place: node for number, document in documents for place, node in _scalars(document, (number,))}


def _scalars(node: yaml.Node, place: Place) -> Iterator[tuple[Place, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield place, node
    elif isinstance(node, yaml.MappingNode):
        for key, held in node.value:
            yield from _scalars(held, (*place, str(key.value)))
    else:
        for position, item in enumerate(node.value):
            yield from _scalars(item, (*place, position))
