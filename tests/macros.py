"""The Jinja macro libraries, as Copier loads them."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, FileSystemLoader

from tests.conftest import ROOT

ENVIRONMENT = Environment(
    loader=FileSystemLoader(ROOT), extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"], autoescape=False
)


def exported(library: str, name: str) -> Any:
    """A list or another value that a library sets."""
    return getattr(ENVIRONMENT.get_template(f"extensions/{library}.jinja").module, name)
