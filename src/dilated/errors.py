"""The errors that a user can mend, and the end of a training that was asked to stop."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something given to the program is wrong: a file, an option, a recipe, an image.

    The message says what was being done and where, and what is wrong with it, with the value. The command line prints
    it without a traceback as `error:`, the hint on a line of its own, and exits with 1.

    Args:
        message: `<where>: <what is wrong, with the value>`.
        hint: one imperative step that mends it; empty where the message says all.
        details: lines that are shown below as they are, such as the start of a file; the message and the hint have no
            line breaks but those of names in them, which are escaped.

    Example:
        >>> error = InputError("recipe: epochs is -1", hint="give a number of 1 or more")
        >>> str(error)
        'recipe: epochs is -1. Give a number of 1 or more.'
        >>> error.message, error.hint
        ('recipe: epochs is -1', 'give a number of 1 or more')
    """

    def __init__(self, message: str, hint: str = "", details: str = "") -> None:
        super().__init__(message, hint, details)
        self.message, self.hint, self.details = message, hint, details

    def __str__(self) -> str:
        text = self.message
        if self.hint:
            text += f". {self.hint[:1].upper()}{self.hint[1:]}{'' if self.hint.endswith(('.', '?')) else '.'}"
        return f"{text}\n\n{self.details}" if self.details else text


class ShortMemoryError(InputError):
    """Memory ran out; the message says where, the hint what takes less of it."""


class Interrupted(Exception):  # noqa: N818 -- asked for, so no error
    """Ctrl-C or SIGTERM; a checkpoint of the last whole step has been written."""


def suggest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Make a hint of the known word that is closest to a misspelled one.

    Example:
        >>> suggest("trian", ["train", "check"])
        'did you mean train?'
        >>> suggest("xyz", ["train", "check"], otherwise="give one of them")
        'give one of them'
    """
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {matches[0]}?" if matches else otherwise
