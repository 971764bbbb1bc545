"""Error responses for prediction requests."""

import math
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from tabserve.contract import schema
from tabserve.serving.body import LateError, TooLargeError
from tabserve.serving.scheduling import BusyError

JSON = "application/json"
CLIENT_CLOSED_REQUEST = 499  # as nginx logs it; nobody is there to read it
FAILED = {"detail": "Internal Server Error"}


class NotReadyError(Exception):
    """The model is not loaded yet, or cannot be served."""


def as_http(error: Exception) -> HTTPException | RequestValidationError | None:
    """What FastAPI raises for an error of a prediction request; None for one that should not happen."""
    match error:
        case ValidationError():
            return RequestValidationError(schema.problems(error))
        case OverflowError():
            return RequestValidationError([_problem("prediction_overflow", error)])
        case TooLargeError():
            return HTTPException(413, [_problem("body_too_large", error)])
        case LateError():
            return HTTPException(408, [_problem("body_late", error)])
        case BusyError():
            return HTTPException(503, str(error), {"retry-after": str(math.ceil(error.seconds))})
        case NotReadyError():
            return HTTPException(503, str(error), {"retry-after": "1"})
        case ClientDisconnect():
            return HTTPException(CLIENT_CLOSED_REQUEST, "the client went away before its request was complete")
        case _:
            return None


def _problem(kind: str, error: Exception) -> dict[str, Any]:
    return {"type": kind, "loc": ["body"], "msg": str(error)}
