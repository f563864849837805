"""The one exception for what a user can mend: a file, an option, a recipe."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to the program is wrong.

    The message says what was found, where, what was expected and what to do. The command line prints it without a
    traceback and exits with 1.
    """
