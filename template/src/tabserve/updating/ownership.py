"""Whose a file is: yours, the template's, or shared. docs/update.md has the same table, and a test compares them."""

from collections.abc import Callable
from typing import Literal

Owner = Literal["yours", "template's", "shared"]
# `{package}` is the project's own package; a name that ends with / is a folder with all that is in it.
YOURS = (
    *("contract.yaml", "config.toml", "data/", "src/{package}/", "tests/", "exercises/work/", "local.mk"),
    *("README.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md", "LICENSE"),
)
TEMPLATES = ("src/tabserve/", "exercises/")
SHARED = (
    *("Makefile", "Dockerfile", ".dockerignore", "compose.yaml", "compose.override.yaml", "k8s/"),
    *(".github/", ".gitlab/", ".gitlab-ci.yml", ".azuredevops/", "azure-pipelines.yml", "renovate.json"),
    *("pyproject.toml", "ruff.toml", "uv.txt"),
    *(".copier-answers.yml", ".gitattributes", ".gitignore", ".pre-commit-config.yaml"),
)


def owner(path: str, package: str) -> Owner | None:
    """Whose a path from the project's root is; None for what the template never had, which is yours too."""
    if _is_in(path, [pattern.format(package=package) for pattern in YOURS]):
        return "yours"
    if is_templates(path):
        return "template's"
    return "shared" if _is_in(path, SHARED) else None


def yours(package: str) -> Callable[[str], bool]:
    """Whether a path, from the project's root, is one that the template leaves alone after the first release."""
    return lambda path: owner(path, package) == "yours"


def is_templates(path: str) -> bool:
    """Whether a path is part of the template's machinery."""
    return _is_in(path, TEMPLATES) and not path.startswith("exercises/work/")


def _is_in(path: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(path.startswith(pattern) if pattern.endswith("/") else path == pattern for pattern in patterns)
