"""Cityscapes: `leftImg8bit/{train,val,test}/CITY/*_leftImg8bit.png` and their labels under `gtFine/`.

Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", 2016. A label is the image's
`*_gtFine_labelIds.png`, or `*_gtFine_labelTrainIds.png` where there is only that. The 19 classes of the benchmark are
kept, the other label ids are ignored. The labels of `test` are dummies in which every pixel is ignored: the true ones
are with the evaluation server, for which `dilated predict --format cityscapes` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.formats._colors import SampleArrays, encode_ids, validate_arrays
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
SOURCE = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip)"
IMAGE_COUNTS = {"train": 2975, "val": 500, "test": 1525}
SPLIT_NOTES = {
    "test": "The public labels of test are dummies: the true ones are held back. Write labels for the evaluation "
    "server with `dilated predict --format cityscapes`."
}
"""What to know of a split whose labels are all ignored."""
_SPLITS = ("train", "val", "test")
UNLABELED = 0
_IMAGE_FOLDER, _LABEL_FOLDER = "leftImg8bit", "gtFine"


def detect(root: Path) -> bool:
    return (root / _IMAGE_FOLDER).is_dir() or (root / _LABEL_FOLDER).is_dir()


def splits(root: Path) -> list[str]:
    return [
        s
        for s in _SPLITS
        if (root / _LABEL_FOLDER / s).is_dir() or (s != "test" and (root / _IMAGE_FOLDER / s).is_dir())
    ]


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split, by city.

    Raises:
        InputError: a missing folder, image or label.
    """
    return match_split(root, split).require_complete()


def match_split(root: Path, split: str) -> MatchResult:
    """The pairs of one split, and what is missing."""
    images, labels = root / _IMAGE_FOLDER / split, root / _LABEL_FOLDER / split
    problems = [
        f"{folder}: no such folder; expected a folder for each city with {what}"
        for folder, what in ((images, "*_leftImg8bit.png"), (labels, "*_gtFine_labelIds.png"))
        if not folder.is_dir()
    ]
    if problems:
        return MatchResult([], problems)
    samples = []
    names = set()
    for image in sorted(images.glob("*/*_leftImg8bit.png")):
        names.add(image.name.removesuffix("_leftImg8bit.png"))
        sample_or_problem = _match_label(
            root, image, labels / image.parent.name / image.name.removesuffix("_leftImg8bit.png")
        )
        if isinstance(sample_or_problem, Sample):
            samples.append(sample_or_problem)
        else:
            problems.append(sample_or_problem)
    for label in sorted(labels.glob("*/*_gtFine_labelIds.png")):
        name = label.name.removesuffix("_gtFine_labelIds.png")
        if name not in names:
            expected = images / label.parent.name / f"{name}_leftImg8bit.png"
            problems.append(f"{label}: has no image; expected {expected}")
    return MatchResult(samples, problems)


def _match_label(root: Path, image: Path, base: Path) -> Sample | str:
    """The image with its label, or what is missing; `model` is the label's path without `_gtFine...`."""
    label_ids, train_ids, polygons = (
        base.with_name(f"{base.name}_gtFine_{kind}") for kind in ("labelIds.png", "labelTrainIds.png", "polygons.json")
    )
    if label_ids.is_file():
        return Sample(image, label_ids)
    if train_ids.is_file():
        return Sample(image, train_ids, _read_train_ids)
    if polygons.is_file():
        return (
            f"{polygons}: found polygons alone; expected {label_ids.name} beside them. Draw them: `pip install "
            f"cityscapesscripts`, then `CITYSCAPES_DATASET={root} csCreateTrainIdLabelImgs`."
        )
    return f"{image}: has no label; expected {label_ids}"


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
            f"expected 0 to {len(CLASSES) - 1}, or {IGNORE}. Make the file again with the official label table."
        )
    return encode_ids(train_ids.astype(np.uint8), CLASSES, UNLABELED).astype(np.int64)


def save(root: Path, split: str, samples: Iterable[SampleArrays]) -> None:
    """Write samples with ids of `CLASSES` as label ids; a stem is CITY_SEQUENCE_FRAME, and the city its folder.

    Raises:
        InputError: an id that the classes have not, a stem that is no file name or comes twice.
    """
    for stem, image, ids in validate_arrays(samples):
        name = stem.removesuffix("_leftImg8bit")
        city = name.split("_")[0]
        for folder in (_IMAGE_FOLDER, _LABEL_FOLDER):
            (root / folder / split / city).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / _IMAGE_FOLDER / split / city / f"{name}_leftImg8bit.png")
        values = encode_ids(ids, CLASSES, UNLABELED)
        Image.fromarray(values).save(root / _LABEL_FOLDER / split / city / f"{name}_gtFine_labelIds.png")
