"""Whose a file is: yours, the template's, or shared. docs/update.md has the same table, and a test compares them."""

from collections.abc import Callable

YOURS = (
    *("contract.yaml", "config.toml", "data/", "src/{package}/", "tests/", "exercises/work/", "local.mk"),
    *("README.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md", "LICENSE"),
)
TEMPLATES = ("src/tabserve/", "exercises/")


def yours(package: str) -> Callable[[str], bool]:
    """Whether a path, from the project's root, is one that the template leaves alone after the first release."""
    patterns = [pattern.format(package=package) for pattern in YOURS]
    return lambda path: _is_in(path, patterns)


def is_templates(path: str) -> bool:
    """Whether a path is part of the template's machinery."""
    return _is_in(path, TEMPLATES) and not path.startswith("exercises/work/")


def _is_in(path: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(path.startswith(pattern) if pattern.endswith("/") else path == pattern for pattern in patterns)
