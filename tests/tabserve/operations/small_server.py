"""A small HTTP server for load tests."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[int], bytes]
Delay = Callable[[int], float]


def reply(status: int = 200, body: bytes = b"{}") -> bytes:
    return f"HTTP/1.1 {status} Text\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def serving(answer: Answer, delay: Delay = lambda number: 0) -> Iterator[int]:
    """A server that gives the answer to the request of a number; it takes requests one after another."""
    loop, small = asyncio.new_event_loop(), SmallServer(answer, delay)
    port = loop.run_until_complete(small.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(small.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class SmallServer:
    """One lock for all requests, and a task for each connection."""

    def __init__(self, answer: Answer, delay: Delay) -> None:
        self.answer, self.delay = answer, delay
        self.count, self.lock = iter(range(10**9)), asyncio.Lock()
        self.talks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.talks.add(asyncio.get_running_loop().create_task(self.talk_until_closed(reader, writer)))

    async def stop(self) -> None:
        self.server.close()
        for talk in self.talks:
            talk.cancel()
        await asyncio.gather(*self.talks, return_exceptions=True)
        await self.server.wait_closed()

    async def talk_until_closed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0]) if lengths else 0)
            async with self.lock:
                number = next(self.count)
                await asyncio.sleep(self.delay(number))
            sent = self.answer(number)
            writer.write(sent)
            if not sent.startswith(b"HTTP/1.1 200"):
                await writer.drain()
            if b"connection: close" in sent or not sent:
                break
