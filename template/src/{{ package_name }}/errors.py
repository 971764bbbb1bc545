"""The one error that people see."""


class UserError(Exception):
    """Something a person can mend: what is wrong, where, and how to fix it, in one line.

    The command line prints it on standard error and exits with code 1; no traceback.
    """
