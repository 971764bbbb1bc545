"""The request schema of a contract: typed rows for the API, OpenAPI and batch scoring."""

import datetime as dt
import functools
import itertools
import json
import math
import operator
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, TypeAdapter, WithJsonSchema, WrapValidator
from pydantic_core import PydanticCustomError, PydanticKnownError, from_json, to_json
from typing_extensions import TypedDict

from tabserve.contract.model import FLOAT32_MAX, ISO, LONGEST, MISSING, NUMERIC, TEMPORAL, Column, Contract, label_text

Row = dict[str, Any]
KEY = re.compile(rb'"\s*:')
LISTED = 100  # errors in a response
DAY_PATTERN, TIMESTAMP_PATTERN, TIME_PATTERN = (re.compile(ISO[kind]) for kind in TEMPORAL)


def row_type(contract: Contract) -> Any:
    """A TypedDict with one key for each feature; any name of a column is a valid key."""
    fields = {name: _field(name, column) for name, column in contract.features.items()}
    config = pydantic.ConfigDict(extra="forbid", strict=True, title="Row")
    make: Any = TypedDict
    return pydantic.with_config(config)(make("Row", fields))


def row_adapter(contract: Contract) -> TypeAdapter[Row]:
    """Validates one row."""
    return TypeAdapter(row_type(contract))


def rows_adapter(contract: Contract, max_rows: int | None = None) -> TypeAdapter[list[Row]]:
    """Validates rows up to the first invalid one, so that a long invalid list costs little."""
    rows: Any = list[row_type(contract)]  # type: ignore[misc]
    return TypeAdapter(Annotated[rows, Field(min_length=1, max_length=max_rows), pydantic.FailFast()])


def _field(name: str, column: Column) -> Any:
    if column.type in NUMERIC:
        lowest, highest = column.range or (-FLOAT32_MAX, FLOAT32_MAX)
        kind: Any = Annotated[float, Field(ge=lowest, le=highest, allow_inf_nan=False)]
        if column.type == "integer":
            kind = Annotated[kind, Field(json_schema_extra={"type": "integer"}), AfterValidator(_whole)]
    elif column.type == "category":
        kind = _category(column)
    else:
        kind = {"boolean": bool, "text": TEXT, "date": DATE, "datetime": DATETIME, "time": TIME}[column.type or ""]
    if column.missing:
        kind = kind | None
    if as_null := _missing_to_null(column):
        kind = Annotated[kind, BeforeValidator(as_null)]
    if column.private:
        kind = Annotated[kind, WrapValidator(_silent)]
    described = Annotated[kind, Field(title=name, description=None if column.private else column.reason or None)]
    return NotRequired[described] if column.missing else described


def _silent(value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> Any:
    """The value, with an error that tells nothing of what is allowed."""
    try:
        return check(value)
    except pydantic.ValidationError:
        raise PydanticCustomError("not_allowed", "Input is not a value that the contract allows") from None


def _missing_to_null(column: Column) -> Callable[[Any], Any] | None:
    """The validator that turns values that mean missing in files into null."""
    texts = {*MISSING, *(value for value in column.na_values if isinstance(value, str))} - {*column.categories}
    numbers = {float(value) for value in column.na_values if isinstance(value, (int, float))}
    if column.type == "text" or (column.type == "category" and column.other):
        return lambda value: _null_if(value.strip(), texts, column) if isinstance(value, str) else value
    if column.type in NUMERIC and numbers:
        return lambda value: _null_if(value, numbers, column) if type(value) in (int, float) else value
    return None  # a closed list of categories rejects such texts anyway


def _null_if(value: Any, missing: Container[Any], column: Column) -> Any:
    if value not in missing:
        return value
    if not column.missing:
        raise PydanticCustomError("missing_value", "Input means that there is no value, but the column must have one")
    return None


def _whole(value: float) -> float:
    """5 and 5.0 are integers, as in JSON Schema; `multiple_of` of pydantic would tolerate rounding errors."""
    if not value.is_integer():
        raise PydanticKnownError("int_from_float")
    return value


def _category(column: Column) -> Any:
    types = tuple(dict.fromkeys([*map(type, column.categories), *[str] * column.other]))
    listed: Any = Literal[column.categories]
    if column.other:
        kinds = {bool: bool, int: int, str: Annotated[str, Field(max_length=LONGEST["category"])]}
        union = functools.reduce(operator.or_, [kinds[type] for type in types])
        listed = Annotated[union, Field(json_schema_extra={"examples": list(column.categories[:5])})]
    return listed if types == (str,) else Annotated[listed, BeforeValidator(_same_type(column, types))]


def _same_type(column: Column, types: tuple[type, ...]) -> Callable[[Any], Any]:
    """1.0 is 1, as in JSON Schema; true is not 1, although they are equal in Python."""
    expected = ", ".join(map(label_text, column.categories))

    def check(value: Any) -> Any:
        if int in types and isinstance(value, float) and value.is_integer():
            return int(value)
        if type(value) not in types:
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value

    return check


def _timestamp(value: Any) -> dt.datetime:
    """A timestamp in UTC without a zone, from ISO 8601 text, a date or a datetime."""
    try:
        if isinstance(value, str) and TIMESTAMP_PATTERN.fullmatch(value):
            value = dt.datetime.fromisoformat(value.upper())
        if isinstance(value, dt.datetime):
            return value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)
        if isinstance(value, dt.date):
            return dt.datetime.combine(value, dt.time())
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError(
        "datetime_parsing", "Input should be a valid date and time, as 2024-12-31T23:59:59Z (ISO 8601)"
    )


def _date(value: Any) -> dt.date:
    """A date, from ISO 8601 text, a date, or a timestamp at midnight."""
    try:
        if isinstance(value, str) and DAY_PATTERN.fullmatch(value):
            return dt.date.fromisoformat(value)
        timestamp = _timestamp(value)
        if timestamp.time() == dt.time():
            return timestamp.date()
    except (ValueError, PydanticCustomError):
        pass
    raise PydanticCustomError("date_parsing", "Input should be a valid date, as 2024-12-31 (ISO 8601)")


def _time(value: Any) -> dt.time:
    """A time of day, from ISO 8601 text or a time."""
    if isinstance(value, str) and TIME_PATTERN.fullmatch(value):
        return dt.time.fromisoformat(value)
    if isinstance(value, dt.time):
        return value
    raise PydanticCustomError("time_parsing", "Input should be a valid time of day, as 23:59:59 (ISO 8601)")


TEXT = Annotated[str, Field(max_length=LONGEST["text"])]
TIME = Annotated[dt.time, PlainValidator(_time), WithJsonSchema({"type": "string", "format": "time"})]
DATE = Annotated[dt.date, PlainValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
DATETIME = Annotated[dt.datetime, PlainValidator(_timestamp), WithJsonSchema({"type": "string", "format": "date-time"})]


def any_value(column: Column) -> Any:
    """A typed value that the column allows; it follows from the contract alone."""
    if column.type in NUMERIC:
        lowest, highest = column.range or (0.0, 1.0)
        return next(
            number
            for number in (min(max(0.0, math.ceil(lowest)), highest), highest, lowest)
            if number not in column.na_values
        )
    known = {"boolean": False, "text": "some text", "time": dt.time(12), "date": dt.date(2000, 1, 1)}
    noon = dt.datetime(2000, 1, 1, 12)
    return label_text(column.categories[0]) if column.categories else known.get(str(column.type), noon)


def json_row(contract: Contract, row: Mapping[str, Any]) -> dict[str, Any]:
    """A typed row of a table as the JSON that `row_adapter` reads."""
    return {name: _json_value(column, row[name]) for name, column in contract.features.items()}


def _json_value(column: Column, value: Any) -> Any:
    if value is None or column.type == "category":
        return label_of(column, value)
    return int(value) if column.type == "integer" else value.isoformat() if column.type in TEMPORAL else value


def label_of(column: Column, text: Any) -> Any:
    """The category that files write as this text; any other value as it is."""
    return next((label for label in column.categories if label_text(label) == text), text)


def trimmed(body: bytes, contract: Contract, max_rows: int) -> bytes:
    """A request body that has the same first errors and takes little memory to validate.

    An object or a list inside a row, an unknown key and a row too many may take a kilobyte each: the first are emptied,
    as no column has such values, of the others few are kept. Raises `pydantic.ValidationError` where it is not JSON.
    """
    try:
        content = from_json(body)
    except ValueError as error:
        detail: Any = {"type": "json_invalid", "ctx": {"error": str(error)}, "input": ""}
        raise pydantic.ValidationError.from_exception_data("Row", [detail]) from None
    if isinstance(content, list):
        rows = [_trimmed_row(row, contract) for row in content[: max_rows + 1]]
        return to_json(rows + [0] * (len(content) - len(rows)), inf_nan_mode="constants")
    return to_json(_trimmed_row(content, contract), inf_nan_mode="constants")


def _trimmed_row(row: Any, contract: Contract) -> Any:
    if not isinstance(row, dict):
        return type(row)() if isinstance(row, list) else row
    removed = set([key for key in row if key not in contract.features][LISTED:])
    kept = ((key, value) for key, value in row.items() if key not in removed)
    return {key: type(value)() if isinstance(value, (dict, list)) else value for key, value in kept}


def check_keys(body: bytes, rows: Sequence[Row]) -> None:
    """`pydantic.ValidationError` where a key occurs twice in an object of valid rows: the parser takes the last one.

    Each key has a colon, so most bodies need no second look: valid values are no objects, and few hold a colon.
    """
    keys = sum(map(len, rows))
    if body.count(b":") > keys and len(KEY.findall(body)) > keys:
        try:
            json.loads(body, object_pairs_hook=functools.partial(_check_distinct, itertools.count()))
        except _RepeatedKeyError as error:
            repeated = PydanticCustomError("duplicate_key", "Object should have each key once")
            row, key = error.args
            loc = (row, key) if body.lstrip()[:1] == b"[" else (key,)
            detail: Any = {"type": repeated, "loc": loc, "input": None}
            raise pydantic.ValidationError.from_exception_data("Row", [detail]) from None


class _RepeatedKeyError(Exception):
    """The position of the row, and the key."""


def _check_distinct(rows: Iterator[int], pairs: list[tuple[str, Any]]) -> None:
    row, seen = next(rows), set[str]()
    for key, _ in pairs:
        if key in seen:
            raise _RepeatedKeyError(row, key)
        seen.add(key)


def problems(error: pydantic.ValidationError, limit: int = LISTED) -> list[dict[str, Any]]:
    """The first errors in the format of FastAPI's 422 response.

    They do not include the input, which may be large, secret, or not valid JSON (NaN).
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [{"type": item["type"], "loc": ["body", *item["loc"]], "msg": item["msg"]} for item in found[:limit]]
