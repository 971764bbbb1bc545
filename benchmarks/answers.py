"""For serving.py: whether two servers give the same answers, however they wrap them."""

from __future__ import annotations

import json
import math
from typing import Any

from servers import Row, Running, body_of, counts, post

TOLERANCE = 1e-5


def compare_answers(running: Running) -> None:
    """End when a system does not answer as the project's server does."""
    bench, system = running.bench, running.system
    for count in counts(system):
        status, answer = post(running.port, system, body_of(bench, system, count).read_bytes())
        reply = json.loads((bench.folder / ("reply.json" if count == 1 else f"reply-{count}.json")).read_text())
        wanted = predictions(reply)
        found = predictions(json.loads(answer)) if status == 200 else []
        if len(found) != len(wanted) or not all(map(alike, wanted, found)):
            raise SystemExit(f"error: {system.name} answers otherwise than ours: {status} {answer[:300]!r}")


def predictions(document: Any) -> list[Any]:
    """The answers for the rows, however they are wrapped."""
    inner = document.get("predictions", [document]) if isinstance(document, dict) else document
    return list(inner) if isinstance(inner, list) else [inner]


def alike(wanted: Row, found: Any) -> bool:
    """Whether label and numbers are the same; a list of numbers stands for its most probable label."""
    names = list(wanted.get("probabilities", {}))
    numbers = list(wanted["probabilities"].values()) if names else [wanted["value"]]
    theirs = numbers_of(found)
    if isinstance(found, list) and names:
        found = {"label": names[theirs.index(max(theirs))]}
        wanted = {"label": label_text(wanted["label"])}
    same = not names or (isinstance(found, dict) and found.get("label") == wanted["label"])
    return same and len(theirs) == len(numbers) and all(map(close, numbers, theirs))


def label_text(label: Any) -> str:
    """A label as the key of its probability."""
    return label if isinstance(label, str) else json.dumps(label)


def numbers_of(found: Any) -> list[float]:
    """The probabilities of an answer, or its value."""
    if isinstance(found, dict):
        return list(found["probabilities"].values()) if "probabilities" in found else [found.get("value", math.nan)]
    return list(found) if isinstance(found, list) else [found]


def close(one: float, other: float) -> bool:
    """Whether two numbers agree."""
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one))
