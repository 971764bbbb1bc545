"""For serving.py, in LitServe's environment: one worker that takes all requests that wait as one batch.

    python with_litserve.py PORT

It does not wait for a batch to fill: a single client would only lose by that.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

served: Any = import_module("served")
LITSERVE: Any = import_module("litserve")


class Peer(LITSERVE.LitAPI):  # type: ignore[misc]
    """The model behind the interface of LitServe."""

    def setup(self, device: str) -> None:
        """Load it."""
        self.answers = served.loaded()

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answer for a batch."""
        answers: list[dict[str, Any]] = self.answers(rows)
        return answers


def main() -> None:
    """Serve without access log."""
    server = LITSERVE.LitServer(
        Peer(max_batch_size=64, batch_timeout=0), accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
