"""One thing that is wrong with a data set.

>>> Finding("warning", "absent class", "train: no pixel is 'disc', so it cannot be learnt").severity
'warning'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dilated.data.sample import Sample

TRAINING_SPLITS = ("train", "val")
"""The splits that `dilated train` needs; what is wrong elsewhere is a warning."""

MAX_EXAMPLES = 12
"""The most samples that a finding about many keeps, to be shown."""

Severity = Literal["error", "warning"]
FindingKind = Literal[
    "layout",
    "classes",
    "split",
    "groups",
    "missing file",
    "image bands",
    "image of another range",
    "unreadable image",
    "unreadable label",
    "label of another size",
    "unknown label value",
    "number of images",
    "nothing labelled",
    "absent class",
    "label is the image",
    "image and label swapped",
    "JPEG label",
    "blended label",
    "binary mask",
    "shifted classes",
    "grey colors",
    "one class only",
    "rotated image",
    "several frames",
    "same image in two splits",
    "same image twice",
    "same image, other label",
    "group in two splits",
    "similar image in two splits",
    "similar images",
    "overlapping image in two splits",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        severity: with `error`, training would fail or learn wrong labels unnoticed; with `warning` it would not.
        text: where it is and what is wrong, with the value.
        hint: one imperative step that mends it; empty where the text says all.
        samples: the samples that show it, twelve at most; empty if there is nothing to see.
        details: lines that are shown below as they are, such as the start of a file.
    """

    severity: Severity
    kind: FindingKind
    text: str
    hint: str = ""
    samples: tuple[Sample, ...] = field(default=(), compare=False, repr=False)
    details: str = ""


def choose_severity(*splits: str) -> Severity:
    """An error where one of the splits is one that training needs, else a warning."""
    return "error" if set(splits) & set(TRAINING_SPLITS) else "warning"
