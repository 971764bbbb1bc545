"""Values of a YAML file, changed in place: comments, types and layout stay as they are."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import yaml

from tabserve.errors import UserError

Place = tuple[str | int, ...]  # the number of a document from 0, then keys and positions
Nodes = dict[Place, yaml.ScalarNode]


def replaced(text: str, values: Mapping[Place, str]) -> str:
    """The text with other values; `UserError` where one is missing or more would change."""
    with suppress(yaml.YAMLError):
        nodes, after = scalars(text), text
        for place in sorted(values.keys() & nodes.keys(), key=lambda place: -nodes[place].start_mark.index):
            start, end = nodes[place].start_mark.index, nodes[place].end_mark.index
            quote = text[start] if text[start] in "'\"" else _quote(nodes[place], values[place])
            after = f"{after[:start]}{quote}{values[place]}{quote}{after[end:]}"
        wanted = {**{place: node.value for place, node in nodes.items()}, **values}
        if {place: node.value for place, node in scalars(after).items()} == wanted:
            return after
    places = " and ".join(".".join(map(str, place[1:])) for place in values)
    raise UserError(f"{places} cannot be changed in place: change it by hand")


def scalars(text: str) -> Nodes:
    """The single values of all documents."""
    documents = enumerate(yaml.compose_all(text, yaml.SafeLoader))
    return {place: node for number, document in documents for place, node in _scalars(document, (number,))}


def _quote(before: yaml.ScalarNode, after: str) -> str:
    """Quotes where text would turn into a number: `250m` becomes `"1"`."""
    return '"' if before.tag == "tag:yaml.org,2002:str" and not isinstance(yaml.safe_load(after), str) else ""


def _scalars(node: yaml.Node, place: Place) -> Iterator[tuple[Place, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield place, node
    elif isinstance(node, yaml.MappingNode):
        for key, held in node.value:
            yield from _scalars(held, (*place, str(key.value)))
    else:
        for position, item in enumerate(node.value):
            yield from _scalars(item, (*place, position))
