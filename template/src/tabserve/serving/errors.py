"""What a prediction request is answered that cannot be answered with predictions."""

from __future__ import annotations

import logging
import math
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from tabserve.contract import schema
from tabserve.serving.body import LateError, TooLargeError
from tabserve.serving.scheduling import BusyError

log = logging.getLogger("server")

JSON = "application/json"
CLIENT_CLOSED_REQUEST = 499  # as nginx logs it; nobody is there to read it


class NotReadyError(Exception):
    """There is no model yet, or none that can be served."""


def refusal(error: Exception) -> Response:
    """The answer to a request that ended with this; 500 and a line in the log for what should not happen."""
    match error:
        case ValidationError():
            return _answer(422, schema.problems(error))
        case OverflowError():
            return _answer(422, [_problem("prediction_overflow", error)])
        case TooLargeError():
            return _answer(413, [_problem("body_too_large", error)])
        case LateError():
            return _answer(408, [_problem("body_late", error)])
        case BusyError():
            return _answer(503, str(error), {"retry-after": str(math.ceil(error.seconds))})
        case NotReadyError():
            return _answer(503, str(error), {"retry-after": "1"})
        case ClientDisconnect():
            return _answer(CLIENT_CLOSED_REQUEST, "the client went away before its request was complete")
        case _:
            log.error("a prediction failed", exc_info=error)
            return _answer(500, "Internal Server Error")


def _answer(status: int, detail: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json({"detail": detail}), status, headers, JSON)


def _problem(kind: str, error: Exception) -> dict[str, Any]:
    return {"type": kind, "loc": ["body"], "msg": str(error)}
