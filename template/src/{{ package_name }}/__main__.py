"""The command line: `uv run NAME TASK`, with the name from pyproject.toml; `--help` lists the tasks."""

from tabserve import cli
from tabserve.project import Project

# All that tabserve gets from this project.
PROJECT = Project(
    name=f"{__package__}".replace("_", "-"),
    pipelines=f"{__package__}.pipeline:pipelines",
    features=f"{__package__}.pipeline:FEATURES",
    application=f"{__package__}.app:create_app",
)


def main() -> int:
    """Run one task; returns the exit code."""
    return cli.main(PROJECT)


if __name__ == "__main__":
    raise SystemExit(main())
