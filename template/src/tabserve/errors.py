"""The one error that people see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something a person can fix: what is wrong, where, and how to fix it, in one line.

    The command line prints it on standard error and exits with code 1; no traceback.
    """


def one_line(error: Exception) -> str:
    """What was raised, on one line that is not too long."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def suggestion(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean ...?` where a known word is similar."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""
