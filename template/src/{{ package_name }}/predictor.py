"""From the bytes of a request to the rows of its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pydantic import TypeAdapter
from pydantic_core import to_json

from . import batching, schema
from . import model as models
from .encode import Matrix
from .errors import UserError
from .observe import Observer
from .settings import ServeSettings

SMALL = 16_384  # bytes of a body that the event loop reads itself; others must not wait for a larger one


@dataclass(frozen=True)
class Predictor:
    """A loaded model with the validators of its contract."""

    model: models.Model
    row: TypeAdapter[schema.Row]
    rows: TypeAdapter[list[schema.Row]]
    batcher: batching.Batcher
    observer: Observer

    async def predict(self, body: bytes) -> bytes:
        """The answer to a request body: one JSON object or a list of them.

        Raises:
            pydantic.ValidationError: the body is no JSON, or a row breaks the contract.
            OverflowError: a prediction is no finite number.
            batching.BusyError: too much is waiting already.
        """
        if len(body) <= SMALL:
            return self.content(self.model.answer(await self.batcher.predicted(self.read(body))))
        prediction = await self.batcher.predicted(await asyncio.to_thread(self.read, body))
        return self.content(await asyncio.to_thread(self.model.answer, prediction))

    def read(self, body: bytes) -> Matrix:
        """The rows of a body, validated and encoded; raises what `predict` raises."""
        self.batcher.check()
        rows = self.rows.validate_json(body) if body.lstrip()[:1] == b"[" else [self.row.validator.validate_json(body)]
        return self.model.encode(rows)

    def content(self, answer: models.Answer) -> bytes:
        """What is sent; the rows are counted. Only in the event loop, as the observer is not for threads."""
        self.observer.labels += answer.labels
        return answer.content


def load(settings: ServeSettings, observer: Observer, loop: asyncio.AbstractEventLoop) -> Predictor:
    """Load the model and make the first predictions with its own example.

    Raises:
        UserError: the model file cannot be served.
    """
    model = models.load(settings.model, settings.threads)
    row = schema.row_adapter(model.contract)
    try:
        example = model.encode([row.validate_json(to_json(model.metadata["example"]))])
        model.answer(model.predict(example))
    except (KeyError, IndexError, ValueError, OverflowError):  # ValidationError is a ValueError
        raise UserError(f"{settings.model} refuses its own example: train it again") from None
    cost = batching.measure(model.predict, example)
    batcher = batching.Batcher(model.predict, cost, settings.longest_wait, loop)
    return Predictor(model, row, schema.rows_adapter(model.contract, settings.max_rows), batcher, observer)
