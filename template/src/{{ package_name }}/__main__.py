"""The command line, installed as a script and as `python -m <package> --help`."""

import signal
import sys


def main() -> int:
    """Run one command; returns the exit code."""
    # Process 1 of a container ignores what it has no handler for, also while it still imports.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if "serve" in sys.argv[1:2] else 128 + signal.SIGTERM))
    try:
        from .cli import main
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    raise SystemExit(main())
