"""Cityscapes with the 19 classes of its benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._colors import encode_ids
from dilated.data.formats._format import SPLITS, Format, SampleArrays, save_image
from dilated.data.formats._match import MatchResult
from dilated.data.labels import IGNORE, Classes, read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.palettes import CITYSCAPES_COLORS

CLASSES = Classes(
    names=tuple(CITYSCAPES_COLORS),
    colors=tuple(CITYSCAPES_COLORS.values()),
    values=tuple((v,) for v in (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)),
    ignore=(*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 65535),  # -1 is 255 in 8 bits, 65535 in 16
    source="Cityscapes",
)
UNLABELED = 0
_IMAGE_FOLDER, _LABEL_FOLDER = "leftImg8bit", "gtFine"
_IMAGE_SUFFIX = "_leftImg8bit"


class Cityscapes(Format):
    """Cityscapes: an image of each city and its label.

        leftImg8bit/{train,val,test}/CITY/*_leftImg8bit.png
        gtFine/{train,val,test}/CITY/*_gtFine_labelIds.png

    Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", 2016. A label is the image's
    `*_gtFine_labelIds.png`, or `*_gtFine_labelTrainIds.png` where there is only that. The 19 classes of the benchmark
    are kept, the other label ids are ignored. The labels of `test` are dummies in which every pixel is ignored: the
    true ones are with the evaluation server, for which `dilated predict --format cityscapes` writes.
    """

    name = "cityscapes"
    fixed_classes = CLASSES
    source = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip)"
    image_counts: ClassVar = {"train": 2975, "val": 500, "test": 1525}
    split_notes: ClassVar = {
        "test": "The public labels of test are dummies: the true ones are held back. Write labels for the evaluation "
        "server with `dilated predict --format cityscapes`."
    }
    takes_any_classes = False
    image_suffix = _IMAGE_SUFFIX

    def detect(self) -> bool:
        return (self.root / _IMAGE_FOLDER).is_dir() or (self.root / _LABEL_FOLDER).is_dir()

    def _list_splits(self) -> list[str]:
        images, labels = self.root / _IMAGE_FOLDER, self.root / _LABEL_FOLDER
        return [s for s in SPLITS if (labels / s).is_dir() or (s != "test" and (images / s).is_dir())]

    def _match(self, split: str) -> MatchResult:
        images, labels = self.root / _IMAGE_FOLDER / split, self.root / _LABEL_FOLDER / split
        problems = [
            f"{folder}: no such folder; expected a folder for each city with {what}"
            for folder, what in ((images, "*_leftImg8bit.png"), (labels, "*_gtFine_labelIds.png"))
            if not folder.is_dir()
        ]
        if problems:
            return MatchResult([], problems)
        samples, names = [], set()
        for image in sorted(images.glob("*/*_leftImg8bit.png")):
            name = image.stem.removesuffix(_IMAGE_SUFFIX)
            names.add(name)
            matches = self._match_label(image, labels / image.parent.name / name)
            samples += matches.samples
            problems += matches.problems
        for label in sorted(labels.glob("*/*_gtFine_labelIds.png")):
            name = label.name.removesuffix("_gtFine_labelIds.png")
            if name not in names:
                expected = images / label.parent.name / f"{name}_leftImg8bit.png"
                problems.append(f"{label}: has no image; expected {expected}")
        return MatchResult(samples, problems)

    def _match_label(self, image: Path, base: Path) -> MatchResult:
        """The image with its label, or what is missing; `base` is the label's path without `_gtFine...`."""
        label_ids, train_ids, polygons = (
            base.with_name(f"{base.name}_gtFine_{kind}")
            for kind in ("labelIds.png", "labelTrainIds.png", "polygons.json")
        )
        if label_ids.is_file():
            return MatchResult([Sample(image, label_ids)], [])
        if train_ids.is_file():
            return MatchResult([Sample(image, train_ids, _read_train_ids)], [])
        if not polygons.is_file():
            return MatchResult([], [f"{image}: has no label; expected {label_ids}"])
        draw = f"`pip install cityscapesscripts`, then `CITYSCAPES_DATASET={self.root} csCreateTrainIdLabelImgs`"
        problem = f"found polygons alone; expected {label_ids.name} beside them. Draw them: {draw}."
        return MatchResult([], [f"{polygons}: {problem}"])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """A stem is CITY_SEQUENCE_FRAME, and the city its folder."""
        for stem, image, ids in samples:
            name = stem.removesuffix(_IMAGE_SUFFIX)
            images, labels = (root / f / split / name.split("_")[0] for f in (_IMAGE_FOLDER, _LABEL_FOLDER))
            for folder in (images, labels):
                folder.mkdir(parents=True, exist_ok=True)
            save_image(image, images / f"{name}_leftImg8bit.png")
            save_image(encode_ids(ids, CLASSES, UNLABELED), labels / f"{name}_gtFine_labelIds.png")


def _read_train_ids(path: Path) -> NDArray[np.int64]:
    """Read an image of train ids (0 to 18, 255 ignored) as label ids, which `CLASSES` decodes.

    Returns:
        (H, W) int64.

    Raises:
        InputError: an unreadable file, or another value.
    """
    train_ids = read_values(path)
    wrong = (train_ids < 0) | ((train_ids >= len(CLASSES)) & (train_ids != IGNORE))
    if wrong.any():
        y, x = (int(v[0]) for v in np.nonzero(wrong))
        raise InputError(
            f"{path}: found the train id {int(train_ids[y, x])} at x={x}, y={y} ({int(wrong.sum())} such pixels); "
            f"expected 0 to {len(CLASSES) - 1}, or {IGNORE}",
            hint="create the file again with the official label table",
        )
    return encode_ids(train_ids.astype(np.uint8), CLASSES, UNLABELED).astype(np.int64)
