"""Phrases that readers did not understand stay away; each has a usual word."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.conftest import ROOT

READ: tuple[str, ...] = ("template", "docs", "tools", "benchmarks", "extensions", "copier.yml", "Makefile")
READ += ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
PHRASES = (
    *("short way", "long way", "for company", "brings? news", "template's news", "and it is said", "everybody may"),
    *("trained and asked", "may have of", "what can be mended", r"\bmend\b", "belongs into", "cry wolf", '"asked for"'),
    *("may only ask for names", "Which port of the nodes", r"You do\b", r"\bis told to\b"),
    # What is wrong "is not a valid ...": "there is no model" is another thing, and stays.
    r"(?<![Tt]here )\bis no (?!longer|such|more\b|good|one\b)",
)
IDENTIFIERS = r"\b(Desk|Visit|obstacle|Returns|goal|guess|Habits|refusals|told|_?moments?|packed|bars)\b\s*[=(:]"


def lines() -> list[str]:
    """Every line that people read, with its place."""
    command = ["git", "grep", "-nI", "", "--", *READ, ":!*LICENSE*", ":!*.csv"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("phrase", [*PHRASES, IDENTIFIERS])
def test_phrases_that_nobody_uses_stay_away(phrase: str) -> None:
    assert [line for line in lines() if re.search(phrase, line.split(":", 2)[2])] == []
