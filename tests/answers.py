"""The answer sets that the tests render: every pair of choices in a few projects, and odd names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from allpairspy import AllPairs

ROOT = Path(__file__).parents[1]
CHOICES = (
    *("license", "estimator", "data_source", "task", "ci"),
    *("service_type", "autoscale", "hardware"),
)
NAMES: tuple[dict[str, Any], ...] = (
    {},
    {"project_name": "X2", "package_name": "x2", "user_email": "a@b.org"},
    {
        "project_name": 'Größe & "Wert" – Ünïcode\'s own',
        "package_name": "a" * 39 + "z",
        "description": 'Says "how much": 100 % of #it, with \\ and é.',
        "user_name": "O'Hara & Söhne",
        "user_email": "o.hara@example.org",
    },
)


def questions() -> dict[str, dict[str, Any]]:
    """The questions that are asked, by name."""
    document = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    asked = {name: question for name, question in document.items() if not name.startswith("_")}
    return {name: question for name, question in asked.items() if question.get("when") is not False}


def choices(name: str) -> list[str]:
    """The possible answers to a question."""
    return list(questions()[name]["choices"].values())


def pairwise() -> list[dict[str, Any]]:
    """Answer sets in which every pair of choices occurs, each under one of the odd names."""
    sets = [dict(zip(CHOICES, values, strict=True)) for values in AllPairs([choices(name) for name in CHOICES])]
    return [{**answers, **NAMES[position % len(NAMES)]} for position, answers in enumerate(sets)]


def label(answers: dict[str, Any]) -> str:
    """A short name of an answer set, for the test report."""
    return "-".join(str(answers[name]) for name in CHOICES if name in answers) or "defaults"
