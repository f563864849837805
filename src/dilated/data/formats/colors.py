"""Plain folders whose labels are masks of colors, those of the classes in classes.toml.

Arranged as `folders` has it. They are read so where classes.toml says `read = "colors"` at its top, or where the first
label is an image of colors (RGB, RGBA), which holds no values. A palette image without that line is one of values.
A color that is neither a class's nor in `ignore_colors` is an error with its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.formats import _classes, folders
from dilated.data.formats._colors import ColorIndexReader, SampleArrays, validate_arrays
from dilated.data.formats.cvat import ColorIdReader, require_distinct_colors
from dilated.data.images import IMAGE_SUFFIXES, open_image
from dilated.data.labels import IGNORE, Classes, load_classes
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
splits, has_no_splits, notes = folders.splits, folders.has_no_splits, folders.notes


def detect(root: Path) -> bool:
    path = root / "classes.toml"
    if not folders.detect(root) or not path.is_file():
        return False
    try:
        if load_classes(path).read == "colors":
            return True
    except InputError:
        return False  # said when it is read
    first_label = _find_first_label(root)
    if first_label is None:
        return False
    try:
        with open_image(first_label) as image:
            return image.mode in ("RGB", "RGBA")
    except InputError:
        return False


def classes(root: Path) -> Classes:
    """Never any: the colors must be said.

    Raises:
        InputError: always, with what to write.
    """
    raise InputError(
        f"{root / 'classes.toml'}: no such file, and nothing else says what the labels' colors mean; expected "
        "[[class]] tables with name and color, and ignore_colors = [[0, 0, 0]] above them for those that count nowhere"
    )


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: what `folders` finds missing, no classes.toml, two classes of one color.
    """
    path = root / "classes.toml"
    if not path.is_file():
        classes(root)
    known = load_classes(path)
    _classes.require_default_values(known, "colors")
    require_distinct_colors(known, known.ignore_colors)
    read = ColorIndexReader(
        (*known.names, *["ignored"] * len(known.ignore_colors)), (*known.colors, *known.ignore_colors)
    )
    values = ColorIdReader(read, (*range(len(known)), *[IGNORE] * len(known.ignore_colors)))
    return [replace(sample, label_reader=values) for sample in folders.load(root, split)]


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write images/SPLIT/NAME.png and labels/SPLIT/NAME.png in the classes' colors.

    Args:
        classes: with an ignored color where pixels are ignored.

    Raises:
        InputError: another split, two classes of one color, an id that is none, ignored pixels without a color.
    """
    if split not in folders.SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(folders.SPLITS)}")
    require_distinct_colors(classes, classes.ignore_colors)
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(classes)] = classes.colors
    known = set(range(len(classes)))
    if classes.ignore_colors:
        table[IGNORE] = classes.ignore_colors[0]
        known.add(IGNORE)
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for stem, image, ids in validate_arrays(samples):
        unknown = sorted(set(np.unique(ids).tolist()) - known)
        if unknown:
            raise InputError(f"samples: {stem}: found the id {unknown[0]}, which has no color")
        Image.fromarray(image).save(root / "images" / split / f"{stem}.png")
        Image.fromarray(table[ids]).save(root / "labels" / split / f"{stem}.png")


def adapt_classes(classes: Classes) -> Classes:
    """The classes as this format keeps them, with a color for ignored pixels."""
    target_classes = _classes.reset_values(classes)
    unused_color = next(
        c for c in ((0, 0, 0), (255, 255, 255), *((i, i, i) for i in range(1, 255))) if c not in target_classes.colors
    )
    return replace(target_classes, read="colors", ignore_colors=(unused_color,))


def _find_first_label(root: Path) -> Path | None:
    """A label, found without looking at more than the names of one folder."""
    parents = [root, *(root / s for s in folders.SPLITS)]
    candidates = [
        p / name / subfolder for p in parents for name in folders.LABEL_FOLDERS for subfolder in ("", *folders.SPLITS)
    ]
    for candidate in candidates:
        label = min((p for p in candidate.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES), default=None)
        if label:
            return label
    return None
