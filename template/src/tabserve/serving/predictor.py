"""From the bytes of a request to the rows of its answer."""

import asyncio
from functools import partial

from pydantic import ValidationError
from pydantic_core import to_json

from tabserve.contract import schema
from tabserve.errors import UserError
from tabserve.inference import model as models
from tabserve.serving import batching, scheduling
from tabserve.serving.observability import Observer
from tabserve.settings import ServeSettings

SMALL = 16_384  # bytes of a body that is read as soon as it has arrived
LARGE = 262_144  # above, a body is read in a thread; below, that would slow the event loop down


class Predictor:
    """A model that has predicted its own example; `UserError` where it cannot."""

    def __init__(self, settings: ServeSettings, observer: Observer, loop: asyncio.AbstractEventLoop) -> None:
        self.model = models.configured(settings)
        self.observer = observer
        self.max_rows = settings.max_rows
        self.row = schema.row_adapter(self.model.contract)
        self.rows = schema.rows_adapter(self.model.contract, settings.max_rows)
        try:
            text = to_json(self.model.example)
            example = self.row.validate_json(text)
            self.model.content(self._answers([example]))
        except (KeyError, IndexError, ValueError, OverflowError):  # ValidationError is a ValueError
            raise UserError(f"{settings.model} rejects its own example: train it again") from None
        turn = scheduling.Turn(loop)
        cost = batching.measure(self._answers, example)
        per_byte = batching.quickest(lambda: self.row.validate_json(text)) / len(text)
        self.slices = scheduling.Slices(per_byte, settings.longest_wait, turn)
        self.batcher = batching.Batcher(self._answers, cost, settings.longest_wait, turn)

    def _answers(self, rows: list[schema.Row]) -> list[models.Answer]:
        return self.model.answers(self.model.run(self.model.encode(rows)))

    async def predict(self, body: bytes, alone: bool) -> bytes:
        """The answer to a body, an object or a list; `alone`: no other is on its way.

        Raises:
            pydantic.ValidationError: the body is not valid JSON, or a row breaks the contract.
            OverflowError: a prediction is not finite.
            scheduling.BusyError: too much is waiting already.
        """
        self.batcher.check()
        answers: batching.Future = self.batcher.loop.create_future()
        if len(body) > LARGE:
            self.batcher.submit(await asyncio.to_thread(self.read, body), answers)
        elif alone or self.slices.is_open():
            self.batcher.submit(self.read(body), answers, alone)
        else:
            self.slices.add(partial(self._begin, body, answers), len(body))
        try:
            predicted = await answers
        finally:
            del answers  # a circle of error, frame and future would keep the error
        content = self.model.content(predicted)
        # In the event loop: the observer is not for threads.
        self.observer.labels += [label for label, _ in predicted]
        return content

    def _begin(self, body: bytes, answers: batching.Future) -> None:
        """Read and predict a body when it is its turn."""
        try:
            self.batcher.submit(self.read(body), answers)
        except Exception as error:
            if not answers.done():
                answers.set_exception(error)
        finally:
            del answers  # as above

    def read(self, body: bytes) -> list[schema.Row]:
        """The rows of a body, validated; an unusual one is trimmed first, as it could take much memory."""
        rows = self._read(body)
        schema.check_keys(body, rows)
        return rows

    def _read(self, body: bytes) -> list[schema.Row]:
        is_list = body.lstrip()[:1] == b"["
        validate = self.rows.validate_json if is_list else self._read_one
        most = (len(self.model.contract.features) + 1) * (self.max_rows if is_list else 1) + schema.LISTED
        if body.count(b",") + body.count(b"{") + body.count(b"[") <= most:
            try:
                return validate(body)
            except ValidationError as error:
                if error.error_count() <= schema.LISTED:
                    raise
        return validate(schema.trimmed(body, self.model.contract, self.max_rows))

    def _read_one(self, body: bytes) -> list[schema.Row]:
        return [self.row.validator.validate_json(body)]
