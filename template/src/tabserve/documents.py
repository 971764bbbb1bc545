"""Read YAML within bounds: a small file must not become a large or a deep document."""

from collections.abc import Iterator
from typing import Any

import yaml

from tabserve.files import LARGEST

DEEPEST = 50
MOST_NODES = 250_000  # in YAML, where an alias counts as all that it stands for


def documents(content: str | bytes) -> Iterator[tuple[Any, yaml.Node]]:
    """The documents of a text in YAML, with their nodes; `ValueError` names the line of what is not valid."""
    try:
        if len(content) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST:,} bytes")
        loader = _Loader(content)
        while node := loader.get_node() if loader.check_node() else None:
            yield loader.construct_document(node), node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except (yaml.YAMLError, OverflowError, AttributeError) as error:  # the last one: a tag that its value does not fit
        raise ValueError(" ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    """Rejects a key that occurs twice, as YAML does (in PyYAML the last wins), and documents beyond the bounds."""

    def __init__(self, content: str | bytes) -> None:
        super().__init__(content)
        self.depth = self.nodes = 0
        self.sizes: dict[str, int] = {}  # of anchors

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before = self.nodes
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and event.anchor in self.anchors and event.anchor not in self.sizes:
            raise yaml.composer.ComposerError(None, None, "an alias inside what it stands for", event.start_mark)
        self.nodes += self.sizes.get(event.anchor, 1) if is_alias else 1
        if self.nodes > MOST_NODES or self.depth > DEEPEST:
            what = f"more than {MOST_NODES:,} values" if self.nodes > MOST_NODES else "nested too deeply"
            raise yaml.composer.ComposerError(None, None, what, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if event.anchor and not is_alias:
            self.sizes[event.anchor] = self.nodes - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping."""
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
