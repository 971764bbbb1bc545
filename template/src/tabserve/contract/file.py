"""Read, check, write and compare `contract.yaml`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic_core import ErrorDetails

from tabserve.contract.model import VERSION, Column, Contract, Split
from tabserve.documents import documents
from tabserve.errors import CONTROLS, UserError, one_line, without_controls, without_credentials
from tabserve.files import text_of
from tabserve.settings import CONTRACT

SEAL = "# As inferred, seal "
LIST_TAG, TEXT_TAG = "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str"

HEAD = """\
# The data contract: what each column means and which values are allowed. It is yours: review it,
# edit it, commit it, then run `make train`. Training, the API and batch scoring follow it.
#
#   role        feature, target or ignored
#   type        integer, number, boolean, category, text, date, datetime or time
#   missing     true: the value may be missing
#   na_values   what else means missing in files, as [-999, unknown], besides NA, null, ? and the like
#   range       [lowest, highest] allowed number
#   categories  the allowed values; of a binary target, the last one is the positive class
#   other       true: a value that is not listed counts as one further category; false: it is rejected
#   format      how files write the values (the API takes plain numbers and ISO 8601): dates and times as for strftime,
#               numbers as "1,234.5" or "1.234,5"
#   private     true: the API shows neither range nor categories nor an example, in its pages and in its errors
#   unit        what stands beside a number in files and is ignored, as kg or %
#
# The rows for evaluation are drawn at random, unless there is a line such as one of these:
#   split: {by: time, column: a date, datetime, time or number}     the latest rows
#   split: {by: group, column: any}                  whole groups, as all rows of a customer
"""


def load(path: Path) -> Contract:
    """Read and check `contract.yaml`; raises `UserError` with the line of the first error."""
    try:
        document, node = next(documents(text_of(path)), (None, None))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: make one with `make contract DATA=file TARGET=column`") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    return _checked(document, path, node)


def _checked(document: Any, path: Path, node: yaml.Node | None) -> Contract:
    if not isinstance(document, Mapping):
        raise UserError(f"{path} is not a contract: it must hold version, data, task and columns")
    if isinstance(document.get("version"), int) and document["version"] > VERSION:
        raise UserError(f"{path} has contract version {document['version']}, newer than {VERSION}: update the project")
    try:
        return Contract.model_validate(document)
    except pydantic.ValidationError as error:
        # An unknown name explains why another one is missing.
        first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        # Pydantic also names the type that it tried for a category.
        where = " > ".join(str(part) for part in first["loc"] if part not in ("bool", "int", "str"))
        message = f"{where}: {_message(first)}".removeprefix(": ")
        line = _line_of(node, first["loc"] or (message.partition(":")[0],))
        raise UserError(f"{path}, line {line}: {message}") from None


def _message(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        fields = {"columns": Column.model_fields, "split": Split.model_fields}
        known = fields.get(str(error["loc"][0]), Contract.model_fields)
        return f"unknown field; the fields are {', '.join(known)}"
    if "categories" in error["loc"] or "na_values" in error["loc"]:
        return "a category is a text, a whole number, true or false; put quotes around anything else"
    if "range" in error["loc"]:
        return "a range is [lowest, highest], two numbers"
    if error["type"] == "model_type":
        return f"a column holds {', '.join(Column.model_fields)}"
    return error["msg"].removeprefix("Value error, ")


def _children(node: yaml.Node | None) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """The items of a YAML node: keys or positions, with the nodes of key and value."""
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), key, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(position), item, item) for position, item in enumerate(node.value)]
    return []


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest YAML node on the way to a location."""
    line = 1
    for part in location:
        found = next(((key, value) for name, key, value in _children(node) if name == str(part)), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def dump(contract: Contract) -> str:
    """The contract as YAML with comments, which `load` reads."""
    document = contract.model_dump(mode="json", exclude_defaults=True)
    document["columns"] = {name: _stated(column) for name, column in contract.columns.items()}

    class Dumper(yaml.SafeDumper):
        """Lists on one line, mappings with one key on each line."""

    Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence(LIST_TAG, items, flow_style=True))
    Dumper.add_representer(
        str, lambda dumper, text: dumper.represent_scalar(TEXT_TAG, text, style='"' if CONTROLS.search(text) else None)
    )
    text = HEAD + without_controls(
        yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110), lines=True
    )
    return f"{text}{SEAL}{_digest(text)}\n"


def _stated(column: Column) -> dict[str, Any]:
    """The fields to write: those that differ from their defaults, or always matter."""
    stated = {name for name, field in Column.model_fields.items() if getattr(column, name) != field.default}
    if column.role != "ignored":
        stated.add("missing")
    if column.type == "category" and column.role == "feature":
        stated.add("other")
    fields = column.model_dump(mode="json", include=stated)
    if column.range:
        fields["range"] = [int(edge) if edge.is_integer() else edge for edge in column.range]
    return fields


def is_edited(text: str) -> bool:
    """Whether a contract was edited after `dump` wrote it."""
    body, found, digest = text.rpartition(SEAL)
    return not found or digest.strip() != _digest(body)


def _digest(text: str) -> str:
    return hashlib.sha256("".join(text.split()).encode()).hexdigest()[:16]


def differences(old: Contract, new: Contract) -> list[str]:
    """The differences between two contracts, one line each; reasons are not compared."""
    lines = [f"{key}: {change}" for key in ("data", "task", "split") if (change := _change(key, old, new))]
    lines += [f"{name!r} was removed" for name in old.columns if name not in new.columns]
    for name, column in new.columns.items():
        if name not in old.columns:
            lines.append(f"{name!r} is new ({column.role})")
            continue
        changes = {key: _change(key, old.columns[name], column) for key in Column.model_fields if key != "reason"}
        lines += [f"{name!r} {key}: {change}" for key, change in changes.items() if change]
    return lines


def mismatch(contract: Contract, model: Path, path: Path = CONTRACT) -> str | None:
    """How the contract in a model differs from the file beside it, if there is one and it does."""
    if not path.exists():
        return None
    try:
        found = differences(contract, load(path))
    except Exception as error:  # the model's own contract is good, whatever this one holds
        found = [one_line(error)]
    return f"{path} changed after {model} was trained ({found[0]}): run `make train`" if found else None


def _change(key: str, old: Column | Contract, new: Column | Contract) -> str:
    """What has changed in a field; of long lists only the items that differ."""
    before, after = getattr(old, key), getattr(new, key)
    if key == "data":
        before, after = map(without_credentials, (before, after))
    if before == after:
        return ""
    if key not in ("categories", "na_values") or set(before) == set(after):
        return f"{_shown(before)} becomes {_shown(after)}"
    added, removed = ([item for item in one if item not in other] for one, other in ((after, before), (before, after)))
    return ", ".join(f"{word} {_shown(items)}" for word, items in (("new", added), ("removed", removed)) if items)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(f'{item:.12g}' if isinstance(item, float) else str(item) for item in value)}]"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
