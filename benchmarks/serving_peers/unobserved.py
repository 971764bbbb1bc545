"""For serving.py, in the project's environment: the project's server without request ids, metrics and access logs.

python unobserved.py PORT
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def unobserving(observer: type[Any]) -> type[Any]:
    """An observer that does nothing."""

    class Blind(observer):  # type: ignore[misc]
        labels = property(lambda self: [], lambda self, labels: None)

        def begin(self, headers: Any) -> tuple[str, float]:
            return "0" * 32, 0.0

        def end(self, *request: Any) -> None:
            pass

    return Blind


def main() -> None:
    """Serve as `serve --port PORT` does."""
    names = ("serving.app", "serving.service", "serving.process", "serving.observability", "settings")
    app, service, process, observability, settings = (import_module(f"tabserve.{name}") for name in names)
    vars(service)["Observer"] = unobserving(observability.Observer)
    process.serve(app.model_app, settings.load(settings.ServeSettings, port=int(sys.argv[1])))


if __name__ == "__main__":
    main()
