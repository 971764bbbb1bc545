"""The data contract: what each column means, and which values are allowed.

`make contract DATA=file TARGET=column` infers `contract.yaml` once; people review and edit it, and training copies it
into the model file. Everything that touches data follows it.
"""

import re
from collections.abc import Container, Iterator
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from tabserve.errors import without_credentials

VERSION = 1
LONGEST = {"category": 1_000, "text": 20_000}  # characters
FLOAT32_MAX = 3.4028234663852886e38
# Dates, timestamps and times as in ISO 8601 and RFC 3339. Two parsers read them, so neither may accept more.
ISO = {"date": "[0-9]{4}-[0-9]{2}-[0-9]{2}", "time": r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"}
ISO["datetime"] = rf"{ISO['date']}([Tt ]{ISO['time']}([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?"
# Texts that mean a missing value.
MISSING = (
    *("", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "nil", "N.A.", "n.a.", "k.A."),
    *("-", "--", "?", ".", "..", ":", "<NA>", "#N/A", "#NV", "\\N", "(null)", "NaT"),
    *("#VALUE!", "#REF!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"),
)
POINT, COMMA = "1,234.5", "1.234,5"  # number formats of files, besides that of computers
SUSPICION = "it alone predicts the target perfectly"  # in the reason of a column that may leak it

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
Label = StrictBool | StrictInt | StrictStr


class Part(BaseModel):
    """A part of a contract; the first of its problems is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problem := next(self._problems(), None):
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        yield from ()


class Column(Part):
    """One column of the table."""

    role: Literal["feature", "target", "ignored"]
    type: Kind | None = None
    missing: bool = False
    range: tuple[float, float] | None = None
    categories: tuple[Label, ...] = ()
    other: bool = False
    na_values: tuple[StrictBool | StrictInt | StrictFloat | StrictStr, ...] = ()
    format: str | None = None
    unit: str | None = Field(default=None, min_length=1, max_length=20)
    private: bool = False
    reason: str = ""

    def _problems(self) -> Iterator[str]:
        if self.role != "ignored" and self.type is None:
            yield "a feature or target needs a type"
        for name, types in FOR_TYPES.items():
            if getattr(self, name) and self.type not in types:
                yield f"{name} is for columns of type {', '.join(types)} only"
        if self.range and not -FLOAT32_MAX <= self.range[0] <= self.range[1] <= FLOAT32_MAX:
            yield "range must be [lowest, highest], finite, the lowest first"
        if self.type == "category" and self.role != "ignored" and not self.categories:
            yield "a category column needs categories"
        if len({type(label) is bool for label in self.categories}) > 1:
            yield 'categories mix booleans with others: YAML reads NO, yes and on as booleans, write "NO", "yes", "on"'
        if min(len(set(map(label_text, self.categories))), len(set(self.categories))) < len(self.categories):
            yield "categories must differ from each other"
        if self.format is not None and self.type in NUMERIC and self.format not in (POINT, COMMA):
            yield f"format of a number is {POINT!r} or {COMMA!r}"
        rest = re.sub(r"%[-#.]?[a-zA-Z3-9%]", "", self.format or "")
        if self.format is not None and self.type not in NUMERIC and ("%" in rest or rest == self.format):
            yield "format must be a strftime format, as %d.%m.%Y"


class Split(Part):
    """How rows for evaluation are chosen, unless at random."""

    by: Literal["time", "group"]
    column: str


class Contract(Part):
    """The columns of a table, in the order of the file, and the task to learn from them."""

    version: Literal[1]
    data: Annotated[str, PlainSerializer(without_credentials)]  # in memory with credentials, if any
    task: Task
    split: Split | None = None
    columns: dict[str, Column]

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

    def _problems(self) -> Iterator[str]:
        targets = [column for column in self.columns.values() if column.role == "target"]
        if len(targets) != 1:
            yield f"columns: exactly one must have role target, not {len(targets)}"
        if not self.features:
            yield "columns: at least one must have role feature"
        target = targets[0]
        if target.type in ("text", *TEMPORAL):
            yield f"columns: a target of type {target.type} is not supported; use category, integer or number"
        if self.task == "classification" and (target.type != "category" or len(target.categories) < 2):
            yield "task: a classification needs a target of type category with two or more categories"
        if self.task == "regression" and target.type not in NUMERIC:
            yield "task: a regression needs a target of type integer or number"
        if self.split and self.split.column not in self.columns:
            yield f"split: there is no column {self.split.column!r}; the columns are {', '.join(self.columns)}"
        ordered = (*TEMPORAL, *NUMERIC)
        if self.split and self.split.by == "time" and self.columns[self.split.column].type not in ordered:
            yield f"split: by time needs a column of type {', '.join(ordered)}; give {self.split.column!r} one of them"


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
