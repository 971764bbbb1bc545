"""The one error that users see."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix: one line with what is wrong, where, and how to fix it.

    The command line prints it to standard error without a traceback and exits with code 1.
    """


def one_line(error: Exception) -> str:
    """The message of an error as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def suggestion(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean ...?` where a known word is similar."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""


def first_line(error: Exception) -> str:
    """The first line of the message of an error, at most 200 characters of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
