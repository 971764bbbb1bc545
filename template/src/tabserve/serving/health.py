"""Whether the server in this container is ready, for the image's HEALTHCHECK: `python -m <package>.health`.

It imports nothing but the standard library, so that it costs little however often it runs.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    """0 when `/readyz` answers 200, else 1 and what it answers."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("SERVE_PORT", "8080")), timeout=2)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read(1_000).decode())
    except (OSError, HTTPException) as error:
        print(error)
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
