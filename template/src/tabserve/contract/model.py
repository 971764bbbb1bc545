"""The data contract: what each column means, and which values are allowed.

`make contract DATA=file TARGET=column` infers `contract.yaml` once; people review and edit it, and training copies it
into the model file. Everything that touches data follows it.
"""

import re
from collections.abc import Container
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

VERSION = 1
LONGEST = {"category": 1_000, "text": 20_000}  # characters
FLOAT32_MAX = 3.4028234663852886e38
# Dates, timestamps and times as in ISO 8601 and RFC 3339. Two parsers read them, so neither may accept more.
ISO_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
ISO_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
ISO_TIMESTAMP = rf"{ISO_DAY}([Tt ]{ISO_TIME}([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?"
# Texts that mean a missing value.
MISSING = (
    *("", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "nil", "N.A.", "n.a.", "k.A."),
    *("-", "--", "?", ".", "..", ":", "<NA>", "#N/A", "#NV", "\\N", "(null)", "NaT"),
    *("#VALUE!", "#REF!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"),
)
# Number formats of files, besides that of computers.
POINT, COMMA = "1,234.5", "1.234,5"

# In the reason of a column that may leak the target.
SUSPICION = "it alone predicts the target perfectly"

Task = Literal["classification", "regression"]
Kind = Literal["integer", "number", "boolean", "category", "text", "date", "datetime", "time"]
NUMERIC = ("integer", "number")
TEMPORAL = ("date", "datetime", "time")
FOR_TYPES = {
    "range": NUMERIC,
    "unit": NUMERIC,
    "categories": ("category",),
    "other": ("category",),
    "format": (*NUMERIC, *TEMPORAL),
}
CONFIG = ConfigDict(extra="forbid", frozen=True)
Label = StrictBool | StrictInt | StrictStr


class Column(BaseModel):
    """One column of the table."""

    model_config = CONFIG

    role: Literal["feature", "target", "ignored"]
    type: Kind | None = None
    missing: bool = False
    range: tuple[float, float] | None = None
    categories: tuple[Label, ...] = ()
    other: bool = False
    na_values: tuple[StrictBool | StrictInt | StrictFloat | StrictStr, ...] = ()
    format: str | None = None
    unit: str | None = Field(default=None, min_length=1, max_length=20)
    reason: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problem := _column_problem(self):
            raise ValueError(problem)
        return self


class Split(BaseModel):
    """How rows for evaluation are chosen, unless at random."""

    model_config = CONFIG

    by: Literal["time", "group"]
    column: str


class Contract(BaseModel):
    """The columns of a table, in the order of the file, and the task to learn from them."""

    model_config = CONFIG

    version: Literal[1]
    data: str
    task: Task
    split: Split | None = None
    columns: dict[str, Column]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problem := _contract_problem(self):
            raise ValueError(problem)
        return self

    @property
    def features(self) -> dict[str, Column]:
        """The input columns of the model by name, in order."""
        return {name: column for name, column in self.columns.items() if column.role == "feature"}

    @property
    def target(self) -> str:
        """The name of the column to predict."""
        return next(name for name, column in self.columns.items() if column.role == "target")

    @property
    def classes(self) -> tuple[bool | int | str, ...]:
        """The labels of a classification, in the order of the probabilities; else empty."""
        return self.columns[self.target].categories if self.task == "classification" else ()


def _column_problem(column: Column) -> str | None:
    if column.role != "ignored" and column.type is None:
        return "a feature or target needs a type"
    for name, types in FOR_TYPES.items():
        if getattr(column, name) and column.type not in types:
            return f"{name} is for columns of type {', '.join(types)} only"
    if column.range and not -FLOAT32_MAX <= column.range[0] <= column.range[1] <= FLOAT32_MAX:
        return "range must be [lowest, highest], finite, the lowest first"
    if column.type == "category" and column.role != "ignored" and not column.categories:
        return "a category column needs categories"
    return _categories_problem(column.categories) or _format_problem(column)


def _categories_problem(labels: tuple[Label, ...]) -> str | None:
    if len({type(label) is bool for label in labels}) > 1:
        return 'categories mix booleans with others: YAML reads NO, yes and on as booleans, write "NO", "yes", "on"'
    if min(len(set(map(label_text, labels))), len(set(labels))) < len(labels):
        return "categories must differ from each other"
    return None


def _format_problem(column: Column) -> str | None:
    if column.format is None:
        return None
    if column.type in NUMERIC:
        return None if column.format in (POINT, COMMA) else f"format of a number is {POINT!r} or {COMMA!r}"
    rest = re.sub(r"%[-#.]?[a-zA-Z3-9%]", "", column.format)
    if "%" in rest or rest == column.format:
        return "format must be a strftime format, as %d.%m.%Y"
    return None


def _contract_problem(contract: Contract) -> str | None:
    targets = [name for name, column in contract.columns.items() if column.role == "target"]
    if len(targets) != 1:
        return f"columns: exactly one must have role target, not {len(targets)}"
    if not contract.features:
        return "columns: at least one must have role feature"
    target = contract.columns[targets[0]]
    if target.type in ("text", *TEMPORAL):
        return f"columns: a target of type {target.type} is not supported; use category, integer or number"
    if contract.task == "classification" and (target.type != "category" or len(target.categories) < 2):
        return "task: a classification needs a target of type category with two or more categories"
    if contract.task == "regression" and target.type not in NUMERIC:
        return "task: a regression needs a target of type integer or number"
    return _split_problem(contract)


def _split_problem(contract: Contract) -> str | None:
    if contract.split is None:
        return None
    name, ordered = contract.split.column, (*TEMPORAL, *NUMERIC)
    if name not in contract.columns:
        return f"split: there is no column {name!r}; the columns are {', '.join(contract.columns)}"
    if contract.split.by == "time" and contract.columns[name].type not in ordered:
        return f"split: by time needs a column of type {', '.join(ordered)}; give {name!r} one of them"
    return None


def label_text(label: bool | int | str) -> str:
    """The label as files write it: booleans in lower case, numbers as digits."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def prediction_columns(contract: Contract) -> list[str]:
    """The names of the columns that scoring adds; `_` is appended to names of the contract."""
    names = ["prediction", *(f"probability_{label_text(label)}" for label in contract.classes)]
    return [free_name(name, contract.columns) for name in names]


def free_name(name: str, taken: Container[str]) -> str:
    """The name, with `_` appended until it is not taken."""
    while name in taken:
        name += "_"
    return name
