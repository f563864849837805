"""KITTI with the 11 classes of Ros et al., the paper's: `Training_00/{RGB,GT}` (100) and `Validation_07/{RGB,GT}` (46).

Ros et al., "Vision-based offline-online perception paradigm for autonomous driving", 2015. The masks are in CamVid's
colors. The paper tests on Validation_07, so that is the split `test`. There is no `val`: the list files train.txt and
val.txt, one stem a line, part Training_00 in two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.formats import camvid701
from dilated.data.formats._colors import ColorIndexReader, SampleArrays, encode_ids, validate_arrays
from dilated.data.formats._match import (
    MatchResult,
    filter_labels,
    list_images,
    match_labels,
    read_image_list,
    write_stem_list,
)
from dilated.data.sample import Sample

CLASSES = replace(camvid701.CLASSES, source="KITTI of Ros et al.")
SOURCE = "http://adas.cvc.uab.es/s2uad/ (KITTI_SEMANTIC)"
IMAGE_COUNTS = {"train": 100, "test": 46}
_TRAIN_FOLDER, _TEST_FOLDER = "Training_00", "Validation_07"
_LISTED_SPLITS = ("train", "val")
_COLOR_READER = ColorIndexReader(camvid701.NAMES, tuple(camvid701.COLORS.values()))


def detect(root: Path) -> bool:
    return any((root / folder / kind).is_dir() for folder in (_TRAIN_FOLDER, _TEST_FOLDER) for kind in ("RGB", "GT"))


def splits(root: Path) -> list[str]:
    existing = [s for s in _LISTED_SPLITS if (root / f"{s}.txt").is_file()]
    if not existing and (root / _TRAIN_FOLDER).is_dir():
        existing = ["train"]
    return [*existing, *(["test"] if (root / _TEST_FOLDER).is_dir() else [])]


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, image or label.
    """
    return match_split(root, split).require_complete()


def match_split(root: Path, split: str) -> MatchResult:
    """The pairs of one split, and what is missing."""
    folder = root / (_TEST_FOLDER if split == "test" else _TRAIN_FOLDER)
    images, image_problems = list_images(folder / "RGB", "KITTI's images")
    masks, mask_problems = list_images(folder / "GT", "their masks in CamVid's colors")
    listing = root / f"{split}.txt"
    problems = image_problems + mask_problems
    if split == "val" and not listing.is_file():
        problems.append(
            f"{listing}: no such file; expected the stems of {_TRAIN_FOLDER} to validate with, and train.txt the rest"
        )
    if problems:
        return MatchResult([], problems)
    if split in _LISTED_SPLITS and listing.is_file():
        images, problems = read_image_list(listing, images)
        masks = filter_labels(masks, images)
    matches = match_labels(images, masks, folder / "GT", values=_COLOR_READER)
    return MatchResult(matches.samples, problems + matches.problems)


def save(root: Path, split: str, samples: Iterable[SampleArrays]) -> None:
    """Write samples with ids of `CLASSES`, and the list file of `train` and `val`.

    Raises:
        InputError: an id that the classes have not.
    """
    folder = root / (_TEST_FOLDER if split == "test" else _TRAIN_FOLDER)
    for kind in ("RGB", "GT"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    colors = np.array(_COLOR_READER.colors, dtype=np.uint8)
    stems = []
    for stem, image, ids in validate_arrays(samples):
        Image.fromarray(image).save(folder / "RGB" / f"{stem}.png")
        Image.fromarray(colors[encode_ids(ids, CLASSES, camvid701.VOID)]).save(folder / "GT" / f"{stem}.png")
        stems.append(stem)
    if split in _LISTED_SPLITS:
        write_stem_list(root / f"{split}.txt", stems)
