"""Steady requests to a server, on new or on kept connections, and what became of them."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LONGEST_SECONDS = 400
TIMEOUT_SECONDS = 15


@dataclass
class Answers:
    """How many requests were answered with 200, and what went wrong with the others."""

    good: int = 0
    bad: list[str] = field(default_factory=list)


@contextmanager
def steady_load(url: str, body: bytes, threads: int = 2, pause: float = 0.02, kept: bool = False) -> Iterator[Answers]:
    """Ask for predictions all the time, but no longer than `LONGEST_SECONDS`; then every request must have succeeded.

    Args:
        threads: how many ask at once.
        pause: seconds between two requests of a thread.
        kept: whether each thread keeps its connection until the server closes it.
    """
    answers, stop = Answers(), threading.Event()
    workers = [threading.Thread(target=_ask, args=(url, body, pause, kept, stop, answers)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        time.sleep(0.5)
        yield answers
        time.sleep(0.5)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert answers.bad == [], f"{len(answers.bad)} of {len(answers.bad) + answers.good} failed: {answers.bad[:5]}"
    assert answers.good > 0


def _ask(url: str, body: bytes, pause: float, kept: bool, stop: threading.Event, answers: Answers) -> None:
    address, deadline = urlsplit(url).netloc, time.monotonic() + LONGEST_SECONDS
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    headers = {"content-type": "application/json"} | ({} if kept else {"connection": "close"})
    while not stop.is_set() and time.monotonic() < deadline:
        started = time.monotonic()
        try:
            connection.request("POST", "/predict", body, headers)  # connects again where it was closed
            answer = connection.getresponse()
            answer.read()  # closes the connection where the server asks for that
            if answer.status == 200:
                answers.good += 1
            else:
                answers.bad.append(f"status {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            answers.bad.append(f"{type(error).__name__}: {error} after {time.monotonic() - started:.2f} s")
        stop.wait(pause)
    connection.close()
