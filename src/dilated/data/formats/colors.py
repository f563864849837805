"""Plain folders whose labels are masks of colours, those of the classes in classes.toml.

Arranged as `folders` has it. They are read so where classes.toml says `read = "colors"` at its top, or where the first
label is a picture of colours (RGB, RGBA), which holds no values. A palette picture without that line is one of values.
A colour that is neither a class's nor in `ignore_colors` is an error with its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.formats import folders, named
from dilated.data.formats.coding import ColorValues, Sample, checked
from dilated.data.formats.cvat import ColorIds, distinct
from dilated.data.formats.pairs import Pair
from dilated.data.images import SUFFIXES, opened
from dilated.data.labels import IGNORE, Classes, load_classes
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
splits, unsplit, notes = folders.splits, folders.unsplit, folders.notes


def detect(root: Path) -> bool:
    path = root / "classes.toml"
    if not folders.detect(root) or not path.is_file():
        return False
    try:
        if load_classes(path).read == "colors":
            return True
    except InputError:
        return False  # said when it is read
    first = _first(root)
    if first is None:
        return False
    try:
        with opened(first) as picture:
            return picture.mode in ("RGB", "RGBA")
    except InputError:
        return False


def classes(root: Path) -> Classes:
    """Never any: the colours must be said.

    Raises:
        InputError: always, with what to write.
    """
    raise InputError(
        f"{root / 'classes.toml'}: no such file, and nothing else says what the labels' colours mean; expected "
        "[[class]] tables with name and color, and ignore_colors = [[0, 0, 0]] above them for those that count nowhere"
    )


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split.

    Raises:
        InputError: what `folders` finds missing, no classes.toml, two classes of one colour.
    """
    path = root / "classes.toml"
    if not path.is_file():
        classes(root)
    known = load_classes(path)
    named.by_place(known, "colours")
    distinct(known, known.ignore_colors)
    read = ColorValues((*known.names, *["ignored"] * len(known.ignore_colors)), (*known.colors, *known.ignore_colors))
    values = ColorIds(read, (*range(len(known)), *[IGNORE] * len(known.ignore_colors)))
    return [replace(pair, values=values) for pair in folders.load(root, split)]


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write images/SPLIT/NAME.png and labels/SPLIT/NAME.png in the classes' colours.

    Args:
        classes: with an ignored colour where pixels are ignored.

    Raises:
        InputError: another split, two classes of one colour, an id that is none, ignored pixels without a colour.
    """
    if split not in folders.SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(folders.SPLITS)}")
    distinct(classes, classes.ignore_colors)
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(classes)] = classes.colors
    known = set(range(len(classes)))
    if classes.ignore_colors:
        table[IGNORE] = classes.ignore_colors[0]
        known.add(IGNORE)
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for stem, image, ids in checked(samples):
        unknown = sorted(set(np.unique(ids).tolist()) - known)
        if unknown:
            raise InputError(f"samples: {stem}: found the id {unknown[0]}, which has no colour")
        Image.fromarray(image).save(root / "images" / split / f"{stem}.png")
        Image.fromarray(table[ids]).save(root / "labels" / split / f"{stem}.png")


def arranged(classes: Classes) -> Classes:
    """The classes as this format keeps them, with a colour for ignored pixels."""
    own = named.plain(classes)
    free = next(c for c in ((0, 0, 0), (255, 255, 255), *((i, i, i) for i in range(1, 255))) if c not in own.colors)
    return replace(own, read="colors", ignore_colors=(free,))


def _first(root: Path) -> Path | None:
    """A label, found without looking at more than the names of one folder."""
    parents = [root, *(root / s for s in folders.SPLITS)]
    places = [p / name / below for p in parents for name in folders.LABELS for below in ("", *folders.SPLITS)]
    for place in places:
        found = min((p for p in place.glob("*") if p.suffix.lower() in SUFFIXES), default=None)
        if found:
            return found
    return None
