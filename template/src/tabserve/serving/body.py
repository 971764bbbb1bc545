"""Request bodies: none larger than a limit, and all that are held at once no larger than a few of the largest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from tabserve.serving.scheduling import BusyError

HELD, ROOM = 4, 16 * 2**20  # as many of the largest bodies, and as many bytes, may be held at once
PATIENCE = 30.0  # seconds
DISCARDED = 64 * 2**20  # bytes of a body that is too large


class TooLargeError(Exception):
    """The body is larger than so many bytes."""

    def __init__(self, largest: int) -> None:
        super().__init__(f"the body is larger than {largest:,} bytes")


class LateError(Exception):
    """The body did not come within so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not come within {seconds:g} s")


class Bodies:
    """Reads bodies of up to `largest` bytes.

    Attributes:
        room: bytes that may still be held. Only what has come is held: who announces much and sends nothing takes none.
        patience: seconds within which a body must come, as it holds its bytes until then.
    """

    def __init__(self, largest: int) -> None:
        self.largest, self.room, self.patience = largest, max(HELD * largest, ROOM), PATIENCE

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; its bytes count as held until the context ends.

        Raises:
            TooLargeError: as soon as that is known.
            BusyError: other requests hold too many bytes.
            LateError: it takes too long.
            starlette.requests.ClientDisconnect: the client went away.
        """
        held = _Held(self)
        try:
            yield await self._in_time(request, held)
        finally:
            self.room += held.size

    async def _in_time(self, request: Request, held: _Held) -> bytes:
        try:
            async with asyncio.timeout(self.patience):
                await self._check(request)
                return await held.body(request)
        except TimeoutError:
            raise LateError(self.patience) from None

    async def _check(self, request: Request) -> None:
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else 0
        if size > self.largest:
            if request.headers.get("connection", "").lower() == "close":
                await _discard(request)
            raise TooLargeError(self.largest)
        if size > self.room:
            raise BusyError(1)


async def _discard(request: Request) -> None:
    """Most of what comes: where a connection is closed before that, its client never sees the answer."""
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > DISCARDED:
            return


class _Held:
    """What one request holds: what has come of its body."""

    def __init__(self, bodies: Bodies) -> None:
        self.bodies, self.size = bodies, 0

    async def body(self, request: Request) -> bytes:
        """All of it; the parts are let go."""
        parts = []
        async for part in request.stream():
            if self.size + len(part) > self.bodies.largest:
                raise TooLargeError(self.bodies.largest)
            if len(part) > self.bodies.room:
                raise BusyError(1)
            self.bodies.room -= len(part)
            self.size += len(part)
            parts.append(part)
        return b"".join(parts)
