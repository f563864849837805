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

from dilated.data.formats import _classes
from dilated.data.formats._colors import SampleArrays, validate_arrays
from dilated.data.formats._match import MatchResult, list_images, match_labels
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = None
SOURCE = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
_SPLIT_FOLDERS = {"train": "training", "val": "validation"}
_CLASS_TABLE = "objectInfo150.txt"


def detect(root: Path) -> bool:
    return any(
        (root / kind / folder).is_dir() for kind in ("images", "annotations") for folder in _SPLIT_FOLDERS.values()
    )


def splits(root: Path) -> list[str]:
    return [
        s for s, f in _SPLIT_FOLDERS.items() if (root / "images" / f).is_dir() or (root / "annotations" / f).is_dir()
    ]


def classes(root: Path) -> Classes:
    """The classes of the folder's own table; ADE20K's colors are not in it, so others are given.

    Raises:
        InputError: no table, or one without a column of names, or with gaps.
    """
    path = root / _CLASS_TABLE
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, and nothing else names the classes; expected it, as it comes with the data of "
            f"{SOURCE}, or a classes.toml with [[class]] name, color and values, from values = [1] on, and ignore = [0]"
        )
    try:
        lines = [line.rstrip("\r\n").split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines() if line]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text ({error}); expected columns parted by tabs") from error
    header = [word.strip() for word in lines[0]] if lines else []
    if "Idx" not in header or "Name" not in header:
        raise InputError(f"{path}, line 1: found {header}; expected columns parted by tabs, of them Idx and Name")
    names = []
    for number, line in enumerate(lines[1:], 2):
        entry = dict(zip(header, line, strict=False))
        if entry.get("Idx", "").strip() != str(number - 1) or not entry.get("Name", "").strip():
            raise InputError(f"{path}, line {number}: found {line}; expected the Idx {number - 1} and a Name")
        names.append(entry["Name"].strip())
    first_names = [name.split(",")[0].strip() for name in names]
    unique_names = [
        first_name if first_names.count(first_name) == 1 else name
        for first_name, name in zip(first_names, names, strict=True)
    ]
    named_classes = _classes.classes_from_names(unique_names, str(path))
    return Classes(
        named_classes.names,
        named_classes.colors,
        tuple((i,) for i in range(1, len(named_classes) + 1)),
        (0,),
        source=str(path),
    )


def notes(root: Path) -> list[str]:
    if (root / "classes.toml").is_file():
        return []
    return [f"{_CLASS_TABLE} has no colors: others are given, which differ; a classes.toml overrides them."]


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: a split that is none of these, a missing folder, image or label.
    """
    return match_split(root, split).require_complete()


def match_split(root: Path, split: str) -> MatchResult:
    """The pairs of one split, and what is missing."""
    if split not in _SPLIT_FOLDERS:
        return MatchResult([], [f"{root}: found the split {split!r}; expected train or val"])
    folder = root / "annotations" / _SPLIT_FOLDERS[split]
    images, image_problems = list_images(root / "images" / _SPLIT_FOLDERS[split], "the images")
    labels, label_problems = list_images(folder, "their labels, images of class numbers")
    if image_problems or label_problems:
        return MatchResult([], image_problems + label_problems)
    return match_labels(images, labels, folder)


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write a split that `load_checkpoint` reads back, with the table of names: ids plus one, 0 where ignored.

    Raises:
        InputError: another split, more than 254 classes, a name that would not come back, an id that is none.
    """
    if split not in _SPLIT_FOLDERS:
        raise InputError(f"{root}: found the split {split!r}; expected train or val, which is all that ADE20K has")
    if len(classes) > 254:
        raise InputError(f"{root}: found {len(classes)} classes; expected at most 254, for 0 is ignored")
    invalid_names = [name for name in classes.names if "," in name or name != name.strip() or not name.isprintable()]
    if invalid_names:
        raise InputError(
            f"{root}: found the class {invalid_names[0]!r}; expected a name without commas that fits on a line"
        )
    for kind in ("images", "annotations"):
        (root / kind / _SPLIT_FOLDERS[split]).mkdir(parents=True, exist_ok=True)
    for stem, image, ids in validate_arrays(samples):
        if ((ids >= len(classes)) & (ids != IGNORE)).any():
            raise InputError(f"samples: {stem}: found an id that is none of 0 to {len(classes) - 1}, nor {IGNORE}")
        Image.fromarray(image).save(root / "images" / _SPLIT_FOLDERS[split] / f"{stem}.png")
        values = np.where(ids == IGNORE, 0, ids + np.uint8(1)).astype(np.uint8)
        Image.fromarray(values).save(root / "annotations" / _SPLIT_FOLDERS[split] / f"{stem}.png")
    rows = [f"{number}\t0\t0\t0\t{name}" for number, name in enumerate(classes.names, 1)]
    (root / _CLASS_TABLE).write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n", encoding="utf-8")


def adapt_classes(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return Classes(classes.names, classes.colors, tuple((i,) for i in range(1, len(classes) + 1)), (0,))
