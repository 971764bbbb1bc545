"""Request bodies: none larger than a limit, and all that are held at once no larger than a few of the largest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from .turns import BusyError

HELD, ROOM = 4, 16 * 2**20  # as many of the largest bodies, and as many bytes, may be held at once
DISCARDED = 64 * 2**20  # bytes of a body that is too large


class TooLargeError(Exception):
    """The body is larger than so many bytes."""

    def __init__(self, largest: int) -> None:
        super().__init__(f"the body is larger than {largest:,} bytes")


class Bodies:
    """Reads bodies of up to `largest` bytes; there is room for `room` bytes more."""

    def __init__(self, largest: int) -> None:
        self.largest, self.room = largest, max(HELD * largest, ROOM)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; its bytes count as held until the context ends.

        Raises:
            TooLargeError: as soon as that is known.
            BusyError: other requests hold too many bytes.
            starlette.requests.ClientDisconnect: the client went away.
        """
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else 0
        if size > self.largest and request.headers.get("connection", "").lower() == "close":
            await _discard(request)
        held = _Held(self, size)
        try:
            yield await held.body(request)
        finally:
            self.room += held.size


async def _discard(request: Request) -> None:
    """Most of what comes: where a connection is closed before that, its client never sees the answer."""
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > DISCARDED:
            return


class _Held:
    """What one request holds: what it has announced, or what has come where that is more."""

    def __init__(self, bodies: Bodies, size: int) -> None:
        self.bodies, self.size = bodies, 0
        self.grow(size)

    def grow(self, size: int) -> None:
        """Hold so many bytes in all."""
        if size > self.bodies.largest:
            raise TooLargeError(self.bodies.largest)
        if size > self.size:
            if size - self.size > self.bodies.room:
                raise BusyError(1)
            self.bodies.room -= size - self.size
            self.size = size

    async def body(self, request: Request) -> bytes:
        """All of it; the parts are let go."""
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            self.grow(size)
            parts.append(part)
        return b"".join(parts)
