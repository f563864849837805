"""ADE20K as the scene parsing benchmark has it (SceneParse150), or labels of one's own in that form.

    images/{training,validation}/NAME.jpg  annotations/{training,validation}/NAME.png  objectInfo150.txt

Zhou et al., "Scene parsing through ADE20K dataset", 2017. A label holds 0 for other things, which is ignored, and the
class's number from 1 on. The names are those of objectInfo150.txt, a table whose columns are parted by tabs: of several
names for a class the first, or all where two classes share the first. The full data set (`*_seg.png`, over 3,000
classes) is not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.formats import named
from dilated.data.formats.coding import Sample, checked
from dilated.data.formats.matching import Found, folder_of, match
from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError

CLASSES = None
SOURCE = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
FOLDERS = {"train": "training", "val": "validation"}
TABLE = "objectInfo150.txt"


def detect(root: Path) -> bool:
    return any((root / kind / folder).is_dir() for kind in ("images", "annotations") for folder in FOLDERS.values())


def splits(root: Path) -> list[str]:
    return [s for s, f in FOLDERS.items() if (root / "images" / f).is_dir() or (root / "annotations" / f).is_dir()]


def classes(root: Path) -> Classes:
    """The classes of the folder's own table; ADE20K's colours are not in it, so others are given.

    Raises:
        InputError: no table, or one without a column of names, or with gaps.
    """
    path = root / TABLE
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, and nothing else names the classes; expected it, as it comes with the data of "
            f"{SOURCE}, or a classes.toml with [[class]] name, color and values, from values = [1] on, and ignore = [0]"
        )
    try:
        lines = [line.rstrip("\r\n").split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines() if line]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text ({error}); expected columns parted by tabs") from error
    head = [word.strip() for word in lines[0]] if lines else []
    if "Idx" not in head or "Name" not in head:
        raise InputError(f"{path}, line 1: found {head}; expected columns parted by tabs, of them Idx and Name")
    names = []
    for number, line in enumerate(lines[1:], 2):
        entry = dict(zip(head, line, strict=False))
        if entry.get("Idx", "").strip() != str(number - 1) or not entry.get("Name", "").strip():
            raise InputError(f"{path}, line {number}: found {line}; expected the Idx {number - 1} and a Name")
        names.append(entry["Name"].strip())
    first = [name.split(",")[0].strip() for name in names]
    short = [one if first.count(one) == 1 else name for one, name in zip(first, names, strict=True)]
    own = named.coloured(short, str(path))
    return Classes(own.names, own.colors, tuple((i,) for i in range(1, len(own) + 1)), (0,), source=str(path))


def notes(root: Path) -> list[str]:
    if (root / "classes.toml").is_file():
        return []
    return [f"{TABLE} has no colours: others are given, which differ; a classes.toml overrides them."]


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split.

    Raises:
        InputError: a split that is none of these, a missing folder, picture or label.
    """
    return scan(root, split).whole()


def scan(root: Path, split: str) -> Found:
    """The pairs of one split, and what is missing."""
    if split not in FOLDERS:
        return Found([], [f"{root}: found the split {split!r}; expected train or val"])
    folder = root / "annotations" / FOLDERS[split]
    images, no_images = folder_of(root / "images" / FOLDERS[split], "the pictures")
    labels, no_labels = folder_of(folder, "their labels, pictures of class numbers")
    if no_images or no_labels:
        return Found([], no_images + no_labels)
    return match(images, labels, folder)


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write a split that `load` reads back, with the table of names: ids plus one, 0 where ignored.

    Raises:
        InputError: another split, more than 254 classes, a name that would not come back, an id that is none.
    """
    if split not in FOLDERS:
        raise InputError(f"{root}: found the split {split!r}; expected train or val, which is all that ADE20K has")
    if len(classes) > 254:
        raise InputError(f"{root}: found {len(classes)} classes; expected at most 254, for 0 is ignored")
    odd = [name for name in classes.names if "," in name or name != name.strip() or not name.isprintable()]
    if odd:
        raise InputError(f"{root}: found the class {odd[0]!r}; expected a name without commas that fits on a line")
    for kind in ("images", "annotations"):
        (root / kind / FOLDERS[split]).mkdir(parents=True, exist_ok=True)
    for stem, image, ids in checked(samples):
        if ((ids >= len(classes)) & (ids != IGNORE)).any():
            raise InputError(f"samples: {stem}: found an id that is none of 0 to {len(classes) - 1}, nor {IGNORE}")
        Image.fromarray(image).save(root / "images" / FOLDERS[split] / f"{stem}.png")
        values = np.where(ids == IGNORE, 0, ids + np.uint8(1)).astype(np.uint8)
        Image.fromarray(values).save(root / "annotations" / FOLDERS[split] / f"{stem}.png")
    rows = [f"{number}\t0\t0\t0\t{name}" for number, name in enumerate(classes.names, 1)]
    (root / TABLE).write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n", encoding="utf-8")


def arranged(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return Classes(classes.names, classes.colors, tuple((i,) for i in range(1, len(classes) + 1)), (0,))
