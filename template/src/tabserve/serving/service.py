"""What answers predictions: the model, the room for bodies, counters and logs."""

import asyncio
import gc
import logging
import time
from pathlib import Path

from fastapi import HTTPException
from starlette.types import Receive, Scope

from tabserve.contract.model import Contract
from tabserve.errors import UserError
from tabserve.serving.body import Bodies
from tabserve.serving.observability import Observer
from tabserve.serving.predictor import Predictor
from tabserve.serving.scheduling import BusyError, RetryPacer
from tabserve.settings import CONTRACT, SECRETS, ServeSettings

log = logging.getLogger("server")


class Service:
    """Predictions for one application."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings, self.observer = settings, Observer()
        self.bodies = Bodies(settings.max_body_bytes, settings.read_timeout)
        self.pacer = RetryPacer()
        self.predictor: Predictor | None = None
        self.reason = "the model is loading"  # why there is no predictor
        self.requests = 0  # that are being read or predicted

    async def load(self) -> None:
        """Load the model; what is wrong becomes the reason why there is none."""
        loop = asyncio.get_running_loop()
        try:
            if self.settings.require_api_key and not self.settings.keys:
                raise UserError(
                    f"an API key is required, but SERVE_API_KEY or {SECRETS}/serve_api_key has none of 8 or more "
                    "printable ASCII characters"
                )
            self.predictor = await asyncio.to_thread(Predictor, self.settings, self.observer, loop)
        except UserError as error:
            self.reason = str(error)
            log.error(self.reason)
        except Exception:  # whatever a damaged file may raise: the task would die without a word
            self.reason = "the model cannot be loaded; the log says why"
            log.exception(self.reason)
        else:
            model = self.predictor.model
            self.observer.model.labels(model.version).set(1)
            log.info("ready", extra={"fields": {"model_version": model.version}})
            if reason := await asyncio.to_thread(_mismatch, model.contract, self.settings.model):
                log.warning(reason)
        gc.freeze()
        gc.enable()  # disabled by `serve`: what is loaded stays, and looking through it takes long

    async def predict(self, scope: Scope, receive: Receive) -> bytes:
        """The answer to a request; raises as `Bodies.read` and `Predictor.predict` do."""
        self.requests += 1
        body = b""
        try:
            body = await self.bodies.read(scope, receive)
            if self.predictor is None:
                raise HTTPException(503, self.reason, {"retry-after": "1"})
            return await self.predictor.predict(body, alone=self.requests == 1)
        except BusyError as error:
            seconds = error.seconds
        finally:
            self.requests -= 1
            self.bodies.room += len(body)
        body = b""  # it need not be held for the time of the pause
        await asyncio.sleep(self.pacer.next(time.monotonic()))
        raise BusyError(seconds)


def _mismatch(contract: Contract, model: Path) -> str | None:
    """How `contract.yaml` differs; the server's image has neither that nor what reads it."""
    if not CONTRACT.exists():
        return None
    from tabserve.contract.file import mismatch

    return mismatch(contract, model)
