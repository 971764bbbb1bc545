"""OpenAPI: the shapes of answers, the contract's request schema, and an example."""

from typing import Any, Literal

from pydantic import BaseModel

from tabserve.contract.schema import row_adapter
from tabserve.inference.model import Model

JSON = "application/json"
REF = "#/components/schemas/{model}"
TYPES = ("title", "type", "format", "anyOf", "items", "required", "additionalProperties")


class LabelPrediction(BaseModel):
    """One predicted row of a classification."""

    label: bool | int | str
    probabilities: dict[str, float]


class ValuePrediction(BaseModel):
    """One predicted row of a regression."""

    value: float


class LabelPredictions(BaseModel):
    """The answer to one row or a list of rows, in their order."""

    predictions: list[LabelPrediction]
    model_version: str


class ValuePredictions(BaseModel):
    """The answer to one row or a list of rows, in their order."""

    predictions: list[ValuePrediction]
    model_version: str


class Problem(BaseModel):
    """What is wrong with one part of a request."""

    type: str
    loc: list[str | int]
    msg: str


class Problems(BaseModel):
    """Why a request was rejected."""

    detail: list[Problem]


class Reason(BaseModel):
    """Why the server cannot answer."""

    detail: str


class Health(BaseModel):
    """The state of the server."""

    status: Literal["alive", "ready"]


def describe(document: dict[str, Any], model: Model | None, max_rows: int, is_full: bool) -> dict[str, Any]:
    """Put the contract's `POST /predict` into an OpenAPI document; without a model, its answers.

    Unless it `is_full`, it has the names and types of the features, but no limits, no labels and no example.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    answer = ValuePredictions if model and model.contract.task == "regression" else LabelPredictions
    for kind in (answer, Problems, Reason):
        shape = kind.model_json_schema(ref_template=REF)
        schemas |= shape.pop("$defs", {}) | {kind.__name__: shape}
    operation = document["paths"]["/predict"]["post"]
    operation["responses"] = {
        "200": _content("The predictions, in the order of the rows.", answer.__name__),
        "401": _content("The API key is missing or wrong; only where one is set.", "Reason"),
        "408": _content("The body came too late.", "Problems"),
        "413": _content("The body is too large.", "Problems"),
        "422": _content("The body breaks the contract.", "Problems"),
        "503": _content("The model is not ready, or too much waits for it: try again after `Retry-After` s.", "Reason"),
    }
    if model is None:
        return document
    row = row_adapter(model.contract).json_schema(ref_template=REF)
    hidden = [name for name, column in model.contract.features.items() if column.private]
    row["properties"] |= {name: _types_only(row["properties"][name]) for name in hidden}
    schemas["Row"] = row if is_full else _types_only(row)
    body = operation["requestBody"] = _request_body(max_rows)
    if is_full and (example := model.shown["example"]):
        row["examples"] = [example]
        body["content"][JSON]["examples"] = {
            "one row": {"summary": "One row", "value": example},
            "rows": {"summary": "A list of rows", "value": [example, example]},
        }
        predicted = model.predict(example)
        operation["responses"]["200"]["content"][JSON]["example"] = {
            "predictions": predicted,
            "model_version": model.version,
        }
    return document


def _types_only(shape: Any) -> Any:
    """A JSON schema without what it says of values: names of properties and types are left."""
    if isinstance(shape, list):
        return [_types_only(part) for part in shape]
    if not isinstance(shape, dict):
        return shape
    kept = {key: _types_only(value) for key, value in shape.items() if key in TYPES}
    named = {name: _types_only(part) for name, part in shape.get("properties", {}).items()}
    return kept | ({"properties": named} if named else {})


def _request_body(max_rows: int) -> dict[str, Any]:
    row = {"$ref": "#/components/schemas/Row"}
    shape = {"anyOf": [row, {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}]}
    return {"required": True, "content": {JSON: {"schema": shape}}}


def _content(description: str, name: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"$ref": REF.format(model=name)}}}}
