"""`contract.yaml`: reading and checking it, writing it, and what differs between two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import yaml

from tabserve.contract.model import VERSION, Column, Contract, Split
from tabserve.errors import UserError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SEAL = "# As inferred, seal "
LIST_TAG = "tag:yaml.org,2002:seq"

HEAD = """\
# The data contract: what each column means and which values are allowed. It is yours: review it,
# edit it, commit it, then run `make train`. Training, the API and batch scoring follow it.
#
#   role        feature, target or ignored
#   type        integer, number, boolean, category, text, date, datetime or time
#   missing     true: the value may be absent
#   na_values   what else means absent in files, as [-999, unknown], beside NA, null, ? and the like
#   range       [lowest, highest] allowed number
#   categories  the allowed values; of a binary target, the last one is the positive class
#   other       true: a value that is not listed counts as one further category; false: it is refused
#   format      how files write it (the API takes plain numbers and ISO 8601): of dates and times as strftime has it,
#               of numbers "1,234.5" or "1.234,5"
#   unit        what stands beside a number in files and means nothing, as kg or %
#
# The rows to evaluate on are drawn at random, unless there is a line as one of these:
#   split: {by: time, column: a date, datetime, time or number}     the latest rows
#   split: {by: group, column: any}                  whole groups, as all rows of a customer
"""


def load(path: Path) -> Contract:
    """Read and check `contract.yaml`.

    Raises:
        UserError: the file is missing, no YAML, or breaks a rule; the message gives the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: make one with `make contract DATA=file TARGET=column`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if duplicate := _duplicate_key(node):
        raise UserError(f"{path}, line {duplicate.start_mark.line + 1}: {duplicate.value!r} stands here a second time")
    return _checked(document, path, node)


def _checked(document: Any, path: Path, node: Any) -> Contract:
    if not isinstance(document, Mapping):
        raise UserError(f"{path} is not a contract: it must hold version, data, task and columns")
    if isinstance(document.get("version"), int) and document["version"] > VERSION:
        raise UserError(f"{path} has contract version {document['version']}, newer than {VERSION}: update the project")
    try:
        return Contract.model_validate(document)
    except pydantic.ValidationError as error:
        # An unknown name explains why another one is said to be absent.
        first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        where = " > ".join(str(part) for part in first["loc"] if not _is_union_tag(part))
        message = _message(first)
        line = _line_of(node, first["loc"] or (message.partition(":")[0],))
        raise UserError(f"{path}, line {line}: {where + ': ' if where else ''}{message}") from None


def _message(error: ErrorDetails) -> str:
    """What is wrong; of an unknown name, which ones there are."""
    if error["type"] == "extra_forbidden":
        fields = {"columns": Column.model_fields, "split": Split.model_fields}
        known = fields.get(str(error["loc"][0]), Contract.model_fields)
        return f"there is no such field; there are {', '.join(known)}"
    where = [str(part) for part in error["loc"]]
    if "categories" in where or "na_values" in where:
        return "a category is a text, a whole number, true or false; put quotes around anything else"
    if "range" in where:
        return "a range is [lowest, highest], two numbers"
    if error["type"] == "model_type":
        return f"a column holds {', '.join(Column.model_fields)}"
    return error["msg"].removeprefix("Value error, ")


def _is_union_tag(part: int | str) -> bool:
    return part in ("bool", "int", "str")


def _line_of(node: Any, loc: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest YAML node on the way to `loc`."""
    line = 1
    for part in loc:
        if isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node.value, list) and node.value and isinstance(node.value[0], tuple):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
            continue
        else:
            return line
        line = node.start_mark.line + 1
    return line


def _duplicate_key(node: Any) -> Any:
    """The first mapping key that stands twice (YAML forbids it, PyYAML lets the last one win)."""
    if node is None or not isinstance(node.value, list):
        return None
    seen = set()
    for item in node.value:
        if isinstance(item, tuple):
            if item[0].value in seen:
                return item[0]
            seen.add(str(item[0].value))
            item = item[1]
        if found := _duplicate_key(item):
            return found
    return None


def dump(contract: Contract) -> str:
    """The contract as commented YAML, as `load` reads it."""
    document = contract.model_dump(mode="json", exclude_defaults=True)
    document["columns"] = {name: _plain(column) for name, column in contract.columns.items()}

    class Dumper(yaml.SafeDumper):
        """Lists on one line, mappings one key a line."""

    Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence(LIST_TAG, items, flow_style=True))
    text = HEAD + yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"{text}{SEAL}{_digest(text)}\n"


def is_edited(text: str) -> bool:
    """Whether a person changed a contract since `dump` wrote it."""
    body, found, digest = text.rpartition(SEAL)
    return not found or digest.strip() != _digest(body)


def _digest(text: str) -> str:
    return hashlib.sha256("".join(text.split()).encode()).hexdigest()[:16]


def differences(old: Contract, new: Contract) -> list[str]:
    """What a new contract says otherwise than an old one, one line each; reasons do not count."""
    whole = [(key, getattr(old, key), getattr(new, key)) for key in ("data", "task", "split")]
    lines = [f"{key}: {_shown(before)} becomes {_shown(after)}" for key, before, after in whole if before != after]
    lines += [f"{name!r} is gone" for name in old.columns if name not in new.columns]
    for name, column in new.columns.items():
        if name not in old.columns:
            lines.append(f"{name!r} is new ({column.role})")
            continue
        before, after = old.columns[name].model_dump(), column.model_dump()
        changed = [key for key in before if key != "reason" and before[key] != after[key]]
        lines += [f"{name!r} {key}: {_change(key, before[key], after[key])}" for key in changed]
    return lines


def _change(key: str, before: Any, after: Any) -> str:
    """Of lists of words what is new and what is gone; they may be long, and mostly the same."""
    if key not in ("categories", "na_values") or set(before) == set(after):
        return f"{_shown(before)} becomes {_shown(after)}"
    new, gone = ([item for item in one if item not in other] for one, other in ((after, before), (before, after)))
    parts = [f"{word} {_shown(items)}" for word, items in (("new", new), ("gone", gone)) if items]
    return ", ".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(f'{item:.12g}' if isinstance(item, float) else str(item) for item in value)}]"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _plain(column: Column) -> dict[str, Any]:
    """The fields that say something, with whole numbers written without a decimal point."""
    fields = column.model_dump(mode="json", exclude_defaults=True)
    if column.role != "ignored":
        fields["missing"] = column.missing
    if column.type == "category" and column.role == "feature":
        fields["other"] = column.other
    if "range" in fields:
        fields["range"] = [int(edge) if float(edge).is_integer() else edge for edge in fields["range"]]
    order = list(Column.model_fields)
    return dict(sorted(fields.items(), key=lambda item: order.index(item[0])))
