"""Request bodies: none larger than a limit, and all that are held at once no larger than a few of the largest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from .batching import BusyError

HELD = 4  # of the largest bodies


class TooLargeError(Exception):
    """The body is larger than so many bytes."""

    def __init__(self, largest: int) -> None:
        super().__init__(f"the body is larger than {largest:,} bytes")


class Bodies:
    """Reads bodies of up to `largest` bytes."""

    def __init__(self, largest: int) -> None:
        self.largest, self.room = largest, HELD * largest

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; its bytes count as held until the context ends.

        Raises:
            TooLargeError: as soon as that is known.
            BusyError: other requests hold too many bytes.
            starlette.requests.ClientDisconnect: the client went away.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.largest:
            raise TooLargeError(self.largest)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self.room -= len(chunk)
                if len(body) > self.largest:
                    raise TooLargeError(self.largest)
                if self.room < 0:
                    raise BusyError(1)
            yield bytes(body)
        finally:
            self.room += len(body)
