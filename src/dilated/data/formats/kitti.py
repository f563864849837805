"""KITTI with the 11 classes of Ros et al., the paper's: `Training_00/{RGB,GT}` (100) and `Validation_07/{RGB,GT}` (46).

Ros et al., "Vision-based offline-online perception paradigm for autonomous driving", 2015. The masks are in CamVid's
colours. The paper tests on Validation_07, so that is the split `test`. There is no `val`: the list files train.txt and
val.txt, one stem a line, part Training_00 in two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.formats import camvid701
from dilated.data.formats.coding import ColorValues, Sample, checked, encode
from dilated.data.formats.matching import Found, folder_of, listed, match, only, write_list
from dilated.data.formats.pairs import Pair

CLASSES = replace(camvid701.CLASSES, source="KITTI of Ros et al.")
SOURCE = "http://adas.cvc.uab.es/s2uad/ (KITTI_SEMANTIC)"
PICTURES = {"train": 100, "test": 46}
TRAIN, TEST = "Training_00", "Validation_07"
LISTS = ("train", "val")
VALUES = ColorValues(camvid701.NAMES, tuple(camvid701.COLORS.values()))


def detect(root: Path) -> bool:
    return any((root / folder / kind).is_dir() for folder in (TRAIN, TEST) for kind in ("RGB", "GT"))


def splits(root: Path) -> list[str]:
    there = [s for s in LISTS if (root / f"{s}.txt").is_file()]
    if not there and (root / TRAIN).is_dir():
        there = ["train"]
    return [*there, *(["test"] if (root / TEST).is_dir() else [])]


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, picture or label.
    """
    return scan(root, split).whole()


def scan(root: Path, split: str) -> Found:
    """The pairs of one split, and what is missing."""
    folder = root / (TEST if split == "test" else TRAIN)
    images, no_images = folder_of(folder / "RGB", "KITTI's pictures")
    masks, no_masks = folder_of(folder / "GT", "their masks in CamVid's colours")
    listing = root / f"{split}.txt"
    problems = no_images + no_masks
    if split == "val" and not listing.is_file():
        problems.append(
            f"{listing}: no such file; expected the stems of {TRAIN} to validate with, and train.txt the rest"
        )
    if problems:
        return Found([], problems)
    if split in LISTS and listing.is_file():
        images, problems = listed(listing, images)
        masks = only(masks, images)
    found = match(images, masks, folder / "GT", values=VALUES)
    return Found(found.pairs, problems + found.problems)


def save(root: Path, split: str, samples: Iterable[Sample]) -> None:
    """Write samples with ids of `CLASSES`, and the list file of `train` and `val`.

    Raises:
        InputError: an id that the classes have not.
    """
    folder = root / (TEST if split == "test" else TRAIN)
    for kind in ("RGB", "GT"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    colors = np.array(VALUES.colors, dtype=np.uint8)
    stems = []
    for stem, image, ids in checked(samples):
        Image.fromarray(image).save(folder / "RGB" / f"{stem}.png")
        Image.fromarray(colors[encode(ids, CLASSES, camvid701.VOID)]).save(folder / "GT" / f"{stem}.png")
        stems.append(stem)
    if split in LISTS:
        write_list(root / f"{split}.txt", stems)
