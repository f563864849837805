"""A first `classes.toml` for a folder of label images that has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dilated.data.formats import FORMATS
from dilated.data.labels import Classes, draft_classes, read_values, save_classes
from dilated.errors import InputError

CLASSES_FILE = "classes.toml"


def write_classes_draft(root: Path) -> Classes:
    """Write `classes.toml` with a class for each value of the labels; masks of 0 and 255 get background and object.

    Raises:
        InputError: the file exists, the folder has no label images, a label cannot be read, or too many values.
    """
    target = root / CLASSES_FILE
    if target.exists():
        raise InputError(f"{target}: the file exists, and a draft would replace it", hint="move it away first")
    contents = FORMATS["folders"](root)
    if not contents.detect():
        raise InputError(
            f"{root}: holds no images/ and labels/", hint="only a folder of this layout needs classes.toml"
        )
    values: set[int] = set()
    for split in contents.splits:
        for sample in contents.match_split(split).require_complete():
            values |= set(np.unique(read_values(sample.label)).tolist())
    classes = draft_classes(values)
    save_classes(classes, target)
    return classes
