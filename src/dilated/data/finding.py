"""One thing that is wrong with a data set.

>>> Finding("warning", "absent class", "train: no pixel is 'disc', so it cannot be learnt").severity
'warning'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dilated.data.formats.pairs import Pair

TRAINED = ("train", "val")
"""The splits that `dilated train` needs; what is wrong elsewhere is a warning."""

EXAMPLES = 12
"""The most pairs that a finding about many keeps, to be shown."""

Severity = Literal["error", "warning"]
Kind = Literal[
    "layout",
    "classes",
    "split",
    "missing file",
    "unreadable picture",
    "unreadable label",
    "label of another size",
    "unknown label value",
    "number of pictures",
    "nothing labelled",
    "absent class",
    "label is the picture",
    "picture and label swapped",
    "JPEG label",
    "blended label",
    "binary mask",
    "shifted classes",
    "grey colours",
    "one class only",
    "rotated picture",
    "same picture in two splits",
    "same picture twice",
    "same picture, other label",
    "similar picture in two splits",
    "similar pictures",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        severity: with `error` training would fail or learn wrong labels unnoticed, with `warning` it would not.
        text: what was found, where, what was expected and what to do.
        pairs: the samples that show it, twelve at most; none where there is nothing to see.
    """

    severity: Severity
    kind: Kind
    text: str
    pairs: tuple[Pair, ...] = field(default=(), compare=False, repr=False)


def of_split(kind: Kind, split: str, text: str, pairs: tuple[Pair, ...] = ()) -> Finding:
    """An error where training needs the split, else a warning."""
    return Finding("error" if split in TRAINED else "warning", kind, text, pairs)


def visible(text: str) -> str:
    """Text that can be written: names of files may hold bytes that are no characters.

    Example:
        >>> len(visible("a.png")), len(visible(chr(0xDCE9)))
        (5, 6)
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def number(count: int, noun: str) -> str:
    """A count and its noun.

    Example:
        >>> number(1, "label"), number(2000, "label")
        ('1 label', '2,000 labels')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
