"""The request schema of a contract: typed rows for the API and, through it, for OpenAPI and batch scoring."""

from __future__ import annotations

import datetime as dt
import functools
import operator
import re
from collections.abc import Callable, Collection, Container, Mapping
from itertools import islice
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    with_config,
)
from pydantic_core import PydanticCustomError, PydanticKnownError, from_json, to_json
from typing_extensions import TypedDict

from tabserve.contract.model import (
    FLOAT32_MAX,
    ISO_DAY,
    ISO_MOMENT,
    ISO_TIME,
    LONGEST,
    MISSING,
    Column,
    Contract,
    label_text,
)

Row = dict[str, Any]
LISTED = 100  # problems of a request
ISO = re.compile(ISO_MOMENT)
CLOCK = re.compile(ISO_TIME)
DAY = re.compile(ISO_DAY)


def row_type(contract: Contract, example: Row | None = None) -> Any:
    """A TypedDict with one key for each feature, under its own name, whatever characters that has."""
    fields = {name: _field(name, column) for name, column in contract.features.items()}
    extra: Any = {"examples": [example]} if example else {}
    config = ConfigDict(extra="forbid", strict=True, title="Row", json_schema_extra=extra)
    make: Any = TypedDict
    return with_config(config)(make("Row", fields))


def row_adapter(contract: Contract) -> TypeAdapter[Row]:
    """Validates one row."""
    return TypeAdapter(row_type(contract))


def rows_adapter(contract: Contract, max_rows: int | None = None) -> TypeAdapter[list[Row]]:
    """Validates a list of rows, up to the first that breaks the contract, so that a long bad list costs little."""
    rows: Any = list[row_type(contract)]  # type: ignore[misc]
    return TypeAdapter(Annotated[rows, Field(min_length=1, max_length=max_rows), FailFast()])


def _field(name: str, column: Column) -> Any:
    about = Field(title=name, description=column.reason or None)
    if column.type in ("integer", "number"):
        kind: Any = Annotated[float, *_number(column)]
    elif column.type == "category":
        kind = _category(column)
    else:
        kind = {"boolean": bool, "text": TEXT, "date": DATE, "datetime": DATETIME, "time": TIME}[column.type or ""]
    if column.missing:
        kind = kind | None
    if absent := _absent(column):
        kind = Annotated[kind, BeforeValidator(absent)]
    return NotRequired[Annotated[kind, about]] if column.missing else Annotated[kind, about]


def _absent(column: Column) -> Callable[[Any], Any] | None:
    """What makes null of a value that means that there is none in files, so that the API says the same of it.

    Of a closed list of categories such a text is refused in any case.
    """
    words = {*MISSING, *(value for value in column.na_values if isinstance(value, str))}
    words -= {label for label in column.categories if isinstance(label, str)}
    numbers = {float(value) for value in column.na_values if isinstance(value, (int, float))}
    if column.type == "text" or (column.type == "category" and column.other):
        return lambda value: _present(value.strip(), words, column) if isinstance(value, str) else value
    if column.type in ("integer", "number") and numbers:
        return lambda value: _present(value, numbers, column) if type(value) in (int, float) else value
    return None


def _present(value: Any, absent: Container[Any], column: Column) -> Any:
    if value not in absent:
        return value
    if column.missing:
        return None
    raise PydanticCustomError("missing_value", "Input means that there is no value, but the column must have one")


def _number(column: Column) -> list[Any]:
    lowest, highest = column.range or (-FLOAT32_MAX, FLOAT32_MAX)
    if column.type == "number":
        return [Field(ge=lowest, le=highest, allow_inf_nan=False)]
    extra: Any = {"type": "integer"}
    return [Field(ge=lowest, le=highest, allow_inf_nan=False, json_schema_extra=extra), AfterValidator(_whole)]


def _whole(value: float) -> float:
    """5 and 5.0 are integers, as in JSON Schema; pydantic's own `multiple_of` allows for rounding, this does not."""
    if not value.is_integer():
        raise PydanticKnownError("int_from_float")
    return value


def _category(column: Column) -> Any:
    present = tuple(dict.fromkeys([type(label) for label in column.categories] + [str] * column.other))
    kinds = {bool: bool, int: int, str: Annotated[str, Field(max_length=LONGEST["category"])]}
    listed: Any = Literal[column.categories]
    if column.other:
        union = functools.reduce(operator.or_, [kinds[kind] for kind in present])
        listed = Annotated[union, Field(json_schema_extra={"examples": list(column.categories[:5])})]
    return listed if present == (str,) else Annotated[listed, BeforeValidator(_same_type(column, present))]


def _same_type(column: Column, kinds: tuple[type, ...]) -> Callable[[Any], Any]:
    """1.0 is 1, as in JSON Schema; true is not 1, though Python takes them for equal."""
    expected = ", ".join(map(label_text, column.categories))

    def check(value: Any) -> Any:
        if int in kinds and isinstance(value, float) and value.is_integer():
            return int(value)
        if type(value) not in kinds:
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value

    return check


def _moment(value: Any) -> dt.datetime:
    """A date or a moment in UTC without a zone, from ISO 8601 text; what Python has typed already is taken as it is."""
    try:
        if isinstance(value, str) and ISO.fullmatch(value):
            return _naive_utc(dt.datetime.fromisoformat(value.upper()))
        if isinstance(value, dt.datetime):
            return _naive_utc(value)
        if isinstance(value, dt.date):
            return dt.datetime.combine(value, dt.time())
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError(
        "datetime_parsing", "Input should be a valid date and time, as 2024-12-31T23:59:59Z (ISO 8601)"
    )


def _naive_utc(value: dt.datetime) -> dt.datetime:
    return value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)


def _date(value: Any) -> dt.date:
    """A date, also one that is written as a moment at midnight."""
    try:
        if isinstance(value, str) and DAY.fullmatch(value):
            return dt.date.fromisoformat(value)
        moment = _moment(value)
        if moment.time() == dt.time():
            return moment.date()
    except (ValueError, PydanticCustomError):
        pass
    raise PydanticCustomError("date_parsing", "Input should be a valid date, as 2024-12-31 (ISO 8601)")


def _time(value: Any) -> dt.time:
    """A time of day, from ISO 8601 text; what Python has typed already is taken as it is."""
    if isinstance(value, str) and CLOCK.fullmatch(value):
        return dt.time.fromisoformat(value)
    if isinstance(value, dt.time):
        return value
    raise PydanticCustomError("time_parsing", "Input should be a valid time of day, as 23:59:59 (ISO 8601)")


TEXT = Annotated[str, Field(max_length=LONGEST["text"])]
TIME = Annotated[dt.time, PlainValidator(_time), WithJsonSchema({"type": "string", "format": "time"})]
DATE = Annotated[dt.date, PlainValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
DATETIME = Annotated[dt.datetime, PlainValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]


def json_row(contract: Contract, row: Mapping[str, Any]) -> dict[str, Any]:
    """One typed row of a table as the JSON that `row_adapter` reads."""
    return {name: _json_value(column, row[name]) for name, column in contract.features.items()}


def _json_value(column: Column, value: Any) -> Any:
    if column.type == "integer" and value is not None:
        return int(value)
    if column.type == "category":
        return next((label for label in column.categories if label_text(label) == value), value)
    return value.isoformat() if column.type in ("date", "datetime", "time") and value is not None else value


def trimmed(body: bytes, contract: Contract, max_rows: int) -> bytes:
    """A body with the first problem of a body that may have hundreds of thousands, each of which takes a kilobyte.

    Rows up to the first that has unknown keys, or lists and objects for values, are kept; in that row there are no
    more than are listed, and they are empty. A body without such a row stays as it is.
    """
    try:
        content = from_json(body)
    except ValueError:
        return body  # which has one problem
    rows = content if isinstance(content, list) else [content]
    names = contract.features.keys()
    for number, row in enumerate(rows[: max_rows + 1]):
        if not isinstance(row, dict) or row.keys() - names or any(map(_is_nested, row.values())):
            less = _emptied(row, names)
            return to_json([*rows[:number], less] if rows is content else less)
    return body


def _is_nested(value: object) -> bool:
    return isinstance(value, list | dict)


def _emptied(value: Any, names: Collection[str]) -> Any:
    if not isinstance(value, dict):
        return type(value)() if _is_nested(value) else value
    kept = [*(name for name in names if name in value), *islice((key for key in value if key not in names), LISTED)]
    return {key: type(value[key])() if _is_nested(value[key]) else value[key] for key in kept}


def problems(error: ValidationError, limit: int = LISTED) -> list[dict[str, Any]]:
    """What was wrong, as FastAPI's standard 422 answer lists it; at most `limit` entries.

    The input is left out: it may be large, secret, or no valid JSON (NaN).
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [{"type": item["type"], "loc": ["body", *item["loc"]], "msg": item["msg"]} for item in found[:limit]]
