"""The command line without an installed script: `python -m <package> --help`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
