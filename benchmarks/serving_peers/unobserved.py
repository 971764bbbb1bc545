"""For serving.py, in the project's environment: the project's server without request ids, metrics and access logs.

python unobserved.py PORT
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def without(app: Any, **_: Any) -> Any:
    """In place of the middleware that observes requests: the application alone."""
    return app


def main() -> None:
    """Serve as `serve --port PORT` does."""
    package = os.environ["SERVED_PACKAGE"]
    server, settings = import_module(f"{package}.server"), import_module(f"{package}.settings")
    if not hasattr(server, "Observer"):
        raise SystemExit("server.py has no Observer any more: unobserved.py must leave out what took its place")
    vars(server)["Observer"] = without
    server.serve(settings.load(settings.ServeSettings, port=int(sys.argv[1])))


if __name__ == "__main__":
    main()
