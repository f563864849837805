"""ADE20K as the scene parsing benchmark has it (SceneParse150), or labels of one's own in that form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dilated.data.formats._classes import classes_from_names
from dilated.data.formats._format import Format, Parsed, require_writable_names, save_pairs
from dilated.data.formats._match import MatchResult, match_folders
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError
from dilated.files import atomic_write, read_lines

_SPLIT_FOLDERS = {"train": "training", "val": "validation"}
_CLASS_TABLE = "objectInfo150.txt"


class ADE20K(Format):
    """ADE20K as the scene parsing benchmark has it (SceneParse150), or labels of one's own in that form.

        images/{training,validation}/NAME.jpg  annotations/{training,validation}/NAME.png  objectInfo150.txt

    Zhou et al., "Scene parsing through ADE20K dataset", 2017. A label holds 0 for other things, which is ignored, and
    the class's number from 1 on. The names are those of objectInfo150.txt, a table whose columns are separated by tabs:
    of several names for a class the first, or all where two classes share the first. The full data set (`*_seg.png`,
    over 3,000 classes) is `ade20k_full`.
    """

    name = "ade20k"
    most_classes = 254  # as 0 is ignored
    source = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
    writable_splits = expected_splits = tuple(_SPLIT_FOLDERS)
    lacks_colors = f"{_CLASS_TABLE} has"

    def detect(self) -> bool:
        return bool(self.splits)

    def parse(self) -> Parsed:
        kinds = ("images", "annotations")
        splits = [s for s, f in _SPLIT_FOLDERS.items() if any((self.root / kind / f).is_dir() for kind in kinds)]
        return Parsed(splits, self._match_folders, self._read_classes)

    def _match_folders(self, split: str) -> MatchResult:
        images, labels = (self.root / kind / _SPLIT_FOLDERS[split] for kind in ("images", "annotations"))
        return match_folders(images, labels, ("the images", "their labels, images of class numbers"))

    def _read_classes(self) -> Classes:
        """The classes of the folder's own table; ADE20K's colors are not in it, so others are given."""
        path = self.root / _CLASS_TABLE
        if not path.is_file():
            raise InputError(
                f"{path}: no such file, and nothing else names the classes",
                hint=f"get it with the data of {self.source}, or write a classes.toml with [[class]] name, color and "
                "values, from values = [1] on, and ignore = [0]",
            )
        names = _read_class_table(path)
        short_names = [name.split(",")[0].strip() for name in names]
        counts = Counter(short_names)
        unique_names = [
            short_name if counts[short_name] == 1 else name for short_name, name in zip(short_names, names, strict=True)
        ]
        return _number_from_one(classes_from_names(unique_names, str(path)), str(path))

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        require_writable_names(classes, root, without=",")
        images, labels = (root / kind / _SPLIT_FOLDERS[split] for kind in ("images", "annotations"))
        save_pairs(samples, images, labels, lambda ids: np.where(ids == IGNORE, 0, ids + np.uint8(1)).astype(np.uint8))
        rows = [f"{number}\t0\t0\t0\t{name}\n" for number, name in enumerate(classes.names, 1)]
        atomic_write(root / _CLASS_TABLE, "".join(["Idx\tRatio\tTrain\tVal\tName\n", *rows]))

    @classmethod
    def adapt_classes(cls, classes: Classes) -> Classes:
        return _number_from_one(classes, "classes")


def _number_from_one(classes: Classes, source: str) -> Classes:
    values = tuple((i,) for i in range(1, len(classes) + 1))
    return Classes(classes.names, classes.colors, values, (0,), source=source)


def _read_class_table(path: Path) -> list[str]:
    """The column Name of a table whose rows are numbered from 1."""
    lines = [(number, [word.strip() for word in line.split("\t")]) for number, line in read_lines(path)]
    header = lines[0][1] if lines else []
    if "Idx" not in header or "Name" not in header:
        raise InputError(
            f"{path}, line 1: found {header}", hint="give columns separated by tabs, among them Idx and Name"
        )
    names = []
    for index, (number, words) in enumerate(lines[1:], 1):
        row = dict(zip(header, words, strict=False))
        if row.get("Idx") != str(index) or not row.get("Name"):
            raise InputError(f"{path}, line {number}: found {words}", hint=f"give the Idx {index} and a Name")
        names.append(row["Name"])
    return names
