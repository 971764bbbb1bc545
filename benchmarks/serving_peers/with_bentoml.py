"""For serving.py, in BentoML's environment: a service with adaptive batching, for `bentoml serve`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

served: Any = import_module("served")
BENTOML: Any = import_module("bentoml")
QUIET = {"logging": {"access": {"enabled": False}}, "metrics": {"enabled": False}, "monitoring": {"enabled": False}}


@BENTOML.service(workers=1, **QUIET)
class Peer:
    """One worker, without access log and metrics."""

    def __init__(self) -> None:
        self.answers = served.loaded()

    @BENTOML.api(batchable=True, max_batch_size=1_000)  # type: ignore[untyped-decorator]
    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answer for the rows of all requests that wait."""
        answers: list[dict[str, Any]] = self.answers(rows)
        return answers
