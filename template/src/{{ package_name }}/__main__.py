"""The command line without an installed script: `python -m <package> --help`."""

import signal
import sys

if __name__ == "__main__":
    # Process 1 of a container ignores what it has no handler for, also while it still imports.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if "serve" in sys.argv[1:2] else 128 + signal.SIGTERM))

    from .cli import main

    raise SystemExit(main())
