"""Attacks on a running server: what it must answer, hold and let go. Bounded in time, and to 127.0.0.1 only."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LINGER = b"\1\0\0\0\0\0\0\0"  # a close that resets the connection
LARGEST = 1_048_576  # bytes of a body


@dataclass(frozen=True)
class Target:
    """A server.

    Attributes:
        port: on 127.0.0.1.
        row: a valid one, as JSON.
        memory: MB that its processes hold.
        read_timeout: seconds after which it closes a connection on which nothing comes.
    """

    port: int
    row: bytes
    memory: Callable[[], float]
    read_timeout: float

    def connect(self, timeout: float = 10) -> socket.socket:
        """An open connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def exchange(self, request: bytes, seconds: float = 10) -> Answer:
        """One answer, on a connection of its own."""
        with self.connect() as connection:
            pour(connection, request)
            return answer(connection, seconds)

    def is_alive(self) -> bool:
        """Whether it predicts."""
        try:
            return self.exchange(self.predict()).status == 200
        except OSError:
            return False

    def predict(self, **headers: str) -> bytes:
        """A request to predict."""
        return post(self.row, **headers)


@dataclass(frozen=True)
class Answer:
    """A response; status 0 where the connection ends before one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


def head(method: str, path: str, **headers: str) -> bytes:
    """The head of a request."""
    fields = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields]).encode() + b"\r\n\r\n"


def post(body: bytes, path: str = "/predict", **headers: str) -> bytes:
    """A request to predict with any body."""
    return head("POST", path, Content_Type="application/json", Content_Length=str(len(body)), **headers) + body


def answer(connection: socket.socket, seconds: float = 10) -> Answer:
    """The next answer on a connection."""
    connection.settimeout(seconds)
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            if not (part := connection.recv(65_536)):
                return Answer()
            data += part
        top, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(rest) < int(fields.get("content-length", 0)) and (part := connection.recv(65_536)):
            rest += part
    except OSError:
        return Answer()
    return Answer(int(first.split()[1]), fields)


def pour(connection: socket.socket, data: bytes, seconds: float = 10) -> int:
    """Send without reading; returns the bytes that were taken before the other side stopped or closed."""
    connection.settimeout(seconds)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < len(data):
            sent += connection.send(data[sent : sent + 65_536])
    return sent


# --- framing


def an_upgrade_that_is_offered_is_ignored(target: Target) -> None:
    """RFC 9110 7.8: the body stays the body."""
    offered = target.predict(
        Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQCAAAAAAIAAAAA"
    )
    assert target.exchange(offered).status == 200
    with target.connect() as connection:
        pour(connection, post(head("GET", "/livez"), Connection="Upgrade", Upgrade="websocket"))
        assert answer(connection).status in (400, 422)
        assert answer(connection, 1).status == 0, "the body was read as a request"


def framed(request: bytes, *allowed: int) -> Callable[[Target], None]:
    """A request whose framing is wrong."""

    def attack(target: Target) -> None:
        assert target.exchange(request, 3).status in allowed

    return attack


def a_slash_is_no_redirect_to_another_host(target: Target) -> None:
    """Behind an ingress, this server knows neither scheme nor host."""
    assert not target.exchange(post(target.row, "/predict/")).headers.get("location", "").startswith("http")


# --- memory


def holds(limit: float, attack: Callable[[Target], object]) -> Callable[[Target], None]:
    """An attack that must not make the server hold more than so many MB."""

    def attacked(target: Target) -> None:
        before, peak, over = target.memory(), [0.0], threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                peak[0] = max(peak[0], target.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            attack(target)
        finally:
            over.set()
            watcher.join()
        assert peak[0] - before <= limit
        assert target.is_alive()

    return attacked


def many_headers(target: Target) -> None:
    """7 MB of tiny ones."""
    with target.connect() as connection:
        pour(connection, b"POST /predict HTTP/1.1\r\nHost: x\r\n" + b"A:\r\n" * 1_800_000)
        assert answer(connection, 3).status in (0, 400, 431)


def many_half_heads(target: Target) -> None:
    """400 kB each of 400 connections."""
    connections = [target.connect() for _ in range(400)]
    for connection in connections:
        pour(connection, b"POST /predict HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 400_000, 0.01)
    for connection in connections:
        connection.close()


def a_long_header(target: Target) -> None:
    """50 MB of one."""
    with target.connect() as connection:
        pour(connection, b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 50_000_000, 20)
        assert answer(connection, 3).status in (0, 400, 431)


def many_trailers(target: Target) -> None:
    """7 MB of tiny ones."""
    chunk = b"%x\r\n" % len(target.row) + target.row + b"\r\n0\r\n"
    with target.connect() as connection:
        start = head("POST", "/predict", Content_Type="application/json", Transfer_Encoding="chunked")
        pour(connection, start + chunk + b"A:\r\n" * 1_800_000)
        answer(connection, 3)


def many_requests_whose_answers_nobody_reads(target: Target) -> None:
    """Ten connections with 14,000 requests each."""
    connections = [target.connect() for _ in range(10)]
    requests = head("GET", "/livez") * 14_000
    together([lambda each=each: pour(each, requests, 2) for each in connections])  # type: ignore[misc]
    time.sleep(0.5)
    for connection in connections:
        connection.close()


def long_paths(target: Target) -> None:
    """400 different ones of 60 kB."""
    for number in range(400):
        assert target.exchange(head("GET", f"/{number}" + "p" * 60_000), 5).status in (404, 414, 431)


def many_values(target: Target) -> None:
    """15 MB of different methods, ids, names and values of headers, and names of fields."""
    with target.connect() as connection:
        for number in range(1_500):
            text = f"{number}" + "v" * 2_500
            fields = {"X_Request_ID": text[:128], f"X-{text}": "1", "Accept": text, "Cookie": f"{number}={text[:200]}"}
            pour(connection, head(f"M{text}", "/livez", **fields))
            assert answer(connection).status in (405, 431)
            pour(connection, post(b'{"%s": 1}' % text.encode(), Accept_Charset=text))
            assert answer(connection).status == 422


def clients_that_reset(target: Target) -> None:
    """1,500 of them, amid a body."""
    start = head("POST", "/predict", Content_Type="application/json", Content_Length="200000") + b"[" + b" " * 100_000
    for _ in range(1_500):
        with target.connect() as connection:
            pour(connection, start, 2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)


def bodies_that_parsers_blow_up(target: Target) -> None:
    """A megabyte each of nested values, of one key again and again, and of rows that are none; twice at a time."""
    column = next(iter(json.loads(target.row))).encode()
    nested = (b"{}", b"[]", b'{"":0}', b"[[]]", b"0", b'""', b"{},[[{}]]")
    filled = [b",".join([value] * (950_000 // (len(value) + 1))) for value in nested]
    bodies = [b'{"%s":[%s]}' % (column, values) for values in filled] + [b"[%s]" % values for values in filled]
    bodies += [b'[{"%s":[%s' % (column, filled[0]), b"{%s}" % b",".join([b'"x":1'] * 150_000)]
    bodies += [b"{%s}" % b",".join([b'"%s":1' % column] * (900_000 // (len(column) + 5)))]
    statuses: list[int] = []

    def send() -> None:
        for body in bodies:
            request = head("POST", "/predict", Content_Type="application/json", Content_Length=str(len(body))) + body
            statuses.append(target.exchange(request, 20).status)

    together([send, send])
    assert len(statuses) == 2 * len(bodies)
    assert set(statuses) <= {200, 422}


def together(work: list[Callable[[], object]]) -> None:
    """Do it in a thread each."""
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def held(*sizes: int, chunked: bool = False) -> Callable[[Target], None]:
    """Bodies of these sizes without their last byte, again and again, do not stop others."""

    def start(size: int) -> bytes:
        framing = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": str(size)}
        chunk = b"%x\r\n" % size if chunked else b""
        return head("POST", "/predict", Content_Type="application/json", **framing) + chunk + b" " * (size - 1)

    def attack(target: Target) -> None:
        over = threading.Event()
        attackers = [threading.Thread(target=hold, args=(target, sizes[at::16], start, over)) for at in range(16)]
        for attacker in attackers:
            attacker.start()
        waits, good = [], 0
        time.sleep(1)
        for _ in range(100):
            began = time.monotonic()
            good += target.is_alive()
            waits.append(time.monotonic() - began)
        over.set()
        for attacker in attackers:
            attacker.join()
        assert good == 100
        assert max(waits) < 5, "2 s on a machine that does nothing else"

    return attack


def hold(target: Target, sizes: tuple[int, ...], start: Callable[[int], bytes], over: threading.Event) -> None:
    """Keep bodies of these sizes open: one that is answered is sent anew."""
    held: dict[int, socket.socket] = {}
    while not over.is_set():
        for at, size in enumerate(sizes):
            if at in held and not is_answered(held[at]):
                continue
            with contextlib.suppress(OSError):
                if at in held:
                    held.pop(at).close()
                held[at] = target.connect()
                pour(held[at], start(size), 2)
        over.wait(0.5)
    for connection in held.values():
        connection.close()


def is_answered(connection: socket.socket) -> bool:
    """Whether something has come, or it has been closed."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        with contextlib.suppress(ConnectionError):
            connection.recv(1, socket.MSG_PEEK)
        return True
    return False


# --- patience


def let_go(data: bytes, first: bool = False) -> Callable[[Target], None]:
    """A client that sends this and no more; `first` reads an answer before it waits."""

    def attack(target: Target) -> None:
        with target.connect() as connection:
            pour(connection, data)
            if first:
                assert answer(connection).status == 200
            began = time.monotonic()
            connection.settimeout(2 * target.read_timeout + 10)
            with contextlib.suppress(ConnectionError):
                while connection.recv(65_536):
                    pass
            assert time.monotonic() - began <= 1.5 * target.read_timeout + 2

    return attack


BODY = head("POST", "/predict", Content_Type="application/json", Content_Length="100")
ATTACKS: dict[str, Callable[[Target], None]] = {
    "upgrade": an_upgrade_that_is_offered_is_ignored,
    "two hosts": framed(b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, 200),
    "two lengths": framed(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ", 400
    ),
    "length and chunks": framed(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        *(400, 415, 422),
    ),
    "a blank before the colon": framed(b"GET /livez HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
    "a length with a sign": framed(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\n{} ", 400),
    "not HTTP": framed(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, 0),
    "slash": a_slash_is_no_redirect_to_another_host,
    "many headers": holds(16, many_headers),
    "a long header": holds(32, a_long_header),
    "half heads": holds(48, many_half_heads),
    "many trailers": holds(16, many_trailers),
    "unread answers": holds(32, many_requests_whose_answers_nobody_reads),
    "long paths": holds(16, long_paths),
    "many values": holds(16, many_values),
    "nested bodies": holds(64, bodies_that_parsers_blow_up),
    "resets": holds(48, clients_that_reset),
    "held bodies": held(*[LARGEST] * 16),
    "held bodies in chunks": held(*[LARGEST] * 16, chunked=True),
    "many small held bodies": held(*[16_384] * 512, *[1_000] * 100, *[60] * 100),
    "half a head": let_go(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-"),
    "no body": let_go(BODY),
    "half a body": let_go(BODY + b"{"),
    "nothing": let_go(b""),
    "idle after an answer": let_go(head("GET", "/livez"), first=True),
}


# --- stopping


def lost_at_a_stop(target: Target, stop: Callable[[], object], clients: int = 16) -> tuple[int, int]:
    """Requests that busy clients lose on the connections they keep when the server stops, and those told to close."""
    lost, told = [0], [0]

    def client() -> None:
        with target.connect() as connection:
            while True:
                try:
                    connection.sendall(target.predict())
                    found = answer(connection, 15)
                except OSError:
                    found = Answer()
                lost[0] += found.status != 200
                told[0] += (closing := found.headers.get("connection", "").lower() == "close")
                if closing or found.status != 200:
                    return
                time.sleep(0.02)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    stop()
    for thread in threads:
        thread.join(20)
    return lost[0], told[0]


def example_of(model: dict[str, object]) -> bytes:
    """The row that `GET /model` shows."""
    return json.dumps(model["example"]).encode()
