"""Request bodies: each up to a limit, and all that are held up to a few of the largest; slow ones go first."""

import asyncio
from typing import Any

from fastapi import HTTPException
from starlette.types import Message, Receive, Scope

from tabserve.serving.scheduling import BusyError, Deadlines

HELD, ROOM = 4, 8 * 2**20  # as many of the largest bodies, and as many bytes, may be held at once
SMALL, RESERVE = 16_384, 0.25  # bytes of a small body; the share of the room that only small, whole bodies get
PATIENCE = 1.0  # seconds that an incomplete body may hold its bytes while others lack room
DISCARDED = 64 * 2**20  # bytes of a body that is too large


class Bodies:
    """Reads bodies; what is announced and has not come takes no room."""

    def __init__(self, largest: int, timeout: float) -> None:
        self.largest = largest
        self.room = max(HELD * largest, ROOM)  # bytes that may still be held
        # Bytes that only small bodies get which come whole, so that those that are held cannot stop all others.
        self.reserve = int(RESERVE * self.room)
        self._held: dict[asyncio.Task[Any], list[bytes]] = {}  # the parts of incomplete bodies, the oldest first
        self.deadlines = Deadlines(timeout)  # as bodies hold their bytes until they are whole

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request; its bytes count as held until they are added to `room` again.

        Raises:
            HTTPException: the body is too large or too slow, or the client went away. What comes of a body that is too
                large has been read: a client that is still sending when its connection closes does not see the answer.
            BusyError: other requests hold too many bytes.
        """
        parts: list[bytes] = []
        task = self.deadlines.start()
        try:
            await self._read(scope, receive, parts, task)
            return b"".join(parts)
        except BaseException:
            self.room += sum(map(len, parts))
            if self.deadlines.stop(task):
                raise
            task.uncancel()
            late = f"the body did not come within {self.deadlines.seconds:g} s, or others needed its room"
            raise HTTPException(408, [problem("body_late", late)]) from None
        finally:
            self.deadlines.stop(task)
            self._held.pop(task, None)

    async def _read(self, scope: Scope, receive: Receive, parts: list[bytes], task: asyncio.Task[Any]) -> None:
        announced, size, more = _announced(scope), 0, True
        if announced > self.largest:
            await _refuse(scope, receive, True, self.largest)
        if announced > SMALL:
            self._make_room(announced, self.reserve, task)
        while more and not 0 < size == announced:  # the server would say once more that this was all
            part, more = _part(await receive())
            size += len(part)
            if size > self.largest:
                await _refuse(scope, receive, more, self.largest)
            whole = not more or size == announced
            reserve = 0 if whole and not parts and size <= SMALL else self.reserve
            self._make_room(len(part), reserve, task)
            self.room -= len(part)
            parts.append(part)
            if not whole:
                self._held[task] = parts

    def _make_room(self, size: int, reserve: int, task: asyncio.Task[Any]) -> None:
        """Give up the oldest incomplete bodies until so many bytes fit; `BusyError` before they have had their time."""
        while size > max(self.room - reserve, 0):
            oldest = next(iter(self._held), task)
            if oldest is task or self.deadlines.age(oldest) < PATIENCE:
                raise BusyError(1)
            parts = self._held.pop(oldest)
            self.room += sum(map(len, parts))
            parts.clear()
            self.deadlines.give_up(oldest)


def _part(message: Message) -> tuple[bytes, bool]:
    """A part of a body, and whether there may be more."""
    if message["type"] == "http.disconnect":
        raise HTTPException(400, "the body is malformed, or ended before it was complete")
    return message.get("body", b""), message.get("more_body", False)


def _announced(scope: Scope) -> int:
    """Bytes of the body by its header, 0 where there is none."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _refuse(scope: Scope, receive: Receive, more: bool, largest: int) -> None:
    """Raise an error, after most was read; who waits for 100 Continue gets it at once."""
    size, expects = 0, any(name == b"expect" for name, _ in scope["headers"])
    while more and not expects and size < DISCARDED:
        part, more = _part(await receive())
        size += len(part)
    raise HTTPException(413, [problem("body_too_large", f"the body is larger than {largest:,} bytes")])


def problem(kind: str, message: str) -> dict[str, Any]:
    """What is wrong with a body as a whole, as in FastAPI's 422 response."""
    return {"type": kind, "loc": ["body"], "msg": message}
