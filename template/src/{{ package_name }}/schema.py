"""The request schema of a contract: typed rows for the API and, through it, for OpenAPI and batch scoring."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticKnownError
from typing_extensions import TypedDict

from .contract import FLOAT32_MAX, TEXT_LIMIT, Column, Contract

Row = dict[str, Any]


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
        kind = {"boolean": bool, "date": dt.date, "datetime": dt.datetime}[column.type or ""]
    if column.missing:
        return NotRequired[Annotated[kind | None, about]]
    return Annotated[kind, about]


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
    if not column.other:
        return Literal[column.categories]
    kinds = {bool: bool, int: int, str: Annotated[str, Field(max_length=TEXT_LIMIT)]}
    union: Any = None
    for kind in dict.fromkeys(type(label) for label in column.categories):
        union = kinds[kind] if union is None else union | kinds[kind]
    return Annotated[union, Field(json_schema_extra={"examples": list(column.categories[:5])})]


def problems(error: ValidationError, limit: int = 100) -> list[dict[str, Any]]:
    """What was wrong, as FastAPI's standard 422 answer lists it; at most `limit` entries.

    The input is left out: it may be large, secret, or no valid JSON (NaN).
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [{"type": item["type"], "loc": ["body", *item["loc"]], "msg": item["msg"]} for item in found[:limit]]
