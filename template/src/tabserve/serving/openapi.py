"""OpenAPI: the shapes of answers, the contract's request schema, and an example."""

from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json, to_json

from tabserve.contract.schema import Row, row_type
from tabserve.inference.model import Model

JSON = "application/json"
REF = "#/components/schemas/{model}"


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


def describe(document: dict[str, Any], model: Model | None, max_rows: int) -> None:
    """Put the contract's `POST /predict` into an OpenAPI document; without a model, its answers."""
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
    if model is not None:
        example = model.metadata["example"]
        adapter: TypeAdapter[Row] = TypeAdapter(row_type(model.contract, example))
        parsed = adapter.validate_json(to_json(example))
        schemas["Row"] = adapter.json_schema(ref_template=REF)
        operation["requestBody"] = _request_body(example, max_rows)
        answer_example = from_json(model.content(model.answers(model.run(model.encode([parsed])))))
        operation["responses"]["200"]["content"][JSON]["example"] = answer_example


def _request_body(example: Row, max_rows: int) -> dict[str, Any]:
    row = {"$ref": "#/components/schemas/Row"}
    examples = {
        "one row": {"summary": "One row", "value": example},
        "rows": {"summary": "A list of rows", "value": [example, example]},
    }
    shape = {"anyOf": [row, {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}]}
    return {"required": True, "content": {JSON: {"schema": shape, "examples": examples}}}


def _content(description: str, name: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"$ref": REF.format(model=name)}}}}
