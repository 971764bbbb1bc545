"""The one error that people see."""


class UserError(Exception):
    """Something a person can mend: what is wrong, where, and how to fix it, in one line.

    The command line prints it on standard error and exits with code 1; no traceback.
    """


def one_line(error: Exception) -> str:
    """What was raised, on one line that is not too long."""
    return " ".join(str(error).split())[:200] or type(error).__name__
