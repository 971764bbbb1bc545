"""What is new between two versions, from the template's CHANGELOG.md."""

import re
import tomllib
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

HEADING = re.compile(r"^## (?P<version>\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?)\b.*$", re.MULTILINE)
UNRELEASED = re.compile(r"^## Unreleased$(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BEFORE = re.compile(r"^### Before you deploy$(?P<text>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:(a|b|rc)(\d+))?(?:-(\d+)-g[0-9a-f]+)?")
STAGES = {"a": 0, "b": 1, "rc": 2, None: 3}
Order = tuple[tuple[int, ...], int, int, int]


def order(version: str) -> Order | None:
    """What a version is compared by, PEP 440's or of `git describe`; None where it is neither.

    Source: https://packaging.python.org/en/latest/specifications/version-specifiers/
    """
    found = VERSION.fullmatch(version)
    if not found:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers), STAGES[found[2]], int(found[3] or 0), int(found[4] or 0)


def ordered(versions: list[str]) -> list[str]:
    """The versions that are some, oldest first."""
    return sorted((version for version in versions if order(version)), key=lambda version: order(version) or ())


def latest(versions: list[str]) -> str | None:
    """The newest release among the versions; early ones (1.0rc1) do not count."""
    known = [(found, version) for version in versions if (found := order(version)) and found[1] == STAGES[None]]
    return max(known)[1] if known else None


def sections(changelog: str, after: str, until: str) -> Iterator[tuple[str, str]]:
    """Versions and their changes, newest first, of those that an update crosses."""
    low, high = order(after), order(until)
    unreleased = UNRELEASED.search(changelog)
    if unreleased and (high is None or high[-1]):  # a commit behind a release
        yield "unreleased", unreleased["text"].strip()
    headings = list(HEADING.finditer(changelog))
    for heading, following in zip_longest(headings, headings[1:]):
        found = order(heading["version"])
        if found and high and found <= high and (low is None or found > low):
            yield heading["version"], changelog[heading.end() : following.start() if following else None].strip()


def before_you_deploy(changes: str) -> list[str]:
    """What people must do for a version's changes: the items of a list, or one text."""
    found = BEFORE.search(changes)
    items = re.split(r"^[-*] ", found["text"].strip(), flags=re.MULTILINE) if found else []
    return [" ".join(item.split()) for item in items if item.strip()]


def settings(old: str, new: str, yours: str) -> list[str]:
    """What is new, gone or has another default in config.toml, which an update does not change: a line each."""
    try:
        before, after, mine = (_flat(tomllib.loads(text)) for text in (old, new, yours))
    except tomllib.TOMLDecodeError:
        return ["config.toml cannot be read, so its settings are not compared with the template's"]
    return [line for name in {**before, **after} for line in _setting(name, before, after, mine)]


def _setting(name: str, before: dict[str, Any], after: dict[str, Any], mine: dict[str, Any]) -> Iterator[str]:
    if name not in before:
        if name not in mine:
            yield f"new setting {name}, by default {_shown(after[name])}"
    elif name not in after:
        if name in mine:
            yield f"setting {name} is gone: take it out of config.toml"
    elif after[name] not in (before[name], mine.get(name)):
        yours = f"yours is {_shown(mine[name])}" if name in mine else "config.toml does not set it"
        yield f"new default of {name}: {_shown(before[name])} -> {_shown(after[name])}; {yours}"


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"[{table}] {name}": value
        for table, content in document.items()
        if isinstance(content, dict)
        for name, value in content.items()
    }


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value) if value == "" else str(value)
