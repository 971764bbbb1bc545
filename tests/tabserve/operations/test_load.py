"""The load, on a small server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabserve.operations import load
from tests.tabserve.operations.small_server import Answer, reply, serving


def loaded(port: int, **command: Any) -> dict[str, Any]:
    return load.obey({"port": port, "path": "/predict", "body": "{}", "seconds": 0.3, "connections": 4} | command)


def test_each_connection_asks_again_as_soon_as_it_is_answered() -> None:
    with serving(lambda number: reply(), lambda number: 0.01) as port:
        found = loaded(port)
    assert set(found["statuses"]) == {"200"}
    assert 10 <= found["statuses"]["200"] <= 40
    assert 0.03 <= found["p50"] <= 0.2  # four wait for each other
    assert found["seconds"] >= 0.3


def test_a_rate_is_kept_whatever_the_server_does() -> None:
    with serving(lambda number: reply()) as port:
        found = loaded(port, rate=200.0, seconds=0.5)
    assert found["statuses"] == {"200": 100}
    assert found["p99"] < 0.25


def test_waiting_is_not_left_out() -> None:
    """A server that stands still delays all requests that were due, not only those that it had taken."""
    with serving(lambda number: reply(), lambda number: 0.4 if number == 0 else 0) as port:
        found = loaded(port, rate=100.0, seconds=0.4, connections=1)
    assert found["statuses"] == {"200": 40}
    assert found["p50"] > 0.1
    assert found["p99"] > 0.3


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        (lambda number: reply(503), {"503"}),
        (lambda number: reply(503 if number % 2 else 200), {"200", "503"}),
        (lambda number: b"", {"0"}),
        (lambda number: b"HTTP/1.1 200 OK\r\n\r\n", {"0"}),
        (lambda number: b"no HTTP at all\r\n\r\n", {"0"}),
        (lambda number: reply().replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), {"200"}),
    ],
    ids=["refuses", "refuses some", "hangs up", "says no length", "speaks otherwise", "closes politely"],
)
@pytest.mark.parametrize("rate", [0.0, 50.0])
def test_what_became_of_requests_is_counted(answer: Answer, statuses: set[str], rate: float) -> None:
    with serving(answer) as port:
        found = loaded(port, rate=rate)
    assert set(found["statuses"]) == statuses


def test_refusals_do_not_become_the_load() -> None:
    with serving(lambda number: reply(503)) as port:
        assert sum(loaded(port)["statuses"].values()) <= 4 * (0.3 / load.PAUSE + 1)


def test_nobody_listens() -> None:
    with serving(lambda number: reply()) as port:
        pass
    assert loaded(port)["statuses"].keys() == {"0"}
    assert load.obey({"port": port, "path": "/readyz"}) == {"status": 0, "body": ""}


@pytest.mark.parametrize("rate", [0.0, 50.0])
def test_a_server_that_never_answers_is_not_waited_for(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DRAIN", 0.2)
    with serving(lambda number: reply(), lambda number: 60) as port:
        found = loaded(port, rate=rate, seconds=0.2)
    assert found["statuses"] == {"0": 10 if rate else 4}
    assert 0.3 < found["seconds"] < 5


def test_answers_in_pieces_are_put_together() -> None:
    whole = reply(404, b"what")
    assert [load.answer_in(whole[:end]) for end in range(len(whole))] == [None] * len(whole)
    assert load.answer_in(whole) == (404, b"what")


def test_it_is_spoken_to_in_lines_of_json() -> None:
    with serving(lambda number: reply(200, b'{"status": "ready"}')) as port:
        command = json.dumps({"port": port, "path": "/readyz"})
        done = subprocess.run(
            [sys.executable, "-I", "-c", Path(load.__file__).read_text()],
            input=f"{command}\n{command}\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"status": 200, "body": '{"status": "ready"}'}
    ] * 2


def test_percentiles_are_measured_values() -> None:
    assert load.percentile([], 0.5) == 0
    assert load.percentile([1, 2, 3, 4], 0.5) == 2
    assert load.percentile(list(range(1, 101)), 0.99) == 99
