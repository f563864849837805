"""KITTI's semantic benchmark of 2018: `training/image_2/*.png` and `training/semantic/*.png`, 200 labelled images.

Alhaija et al., "Augmented reality meets computer vision", 2018. The labels are Cityscapes' label ids, and the classes
its 19. The benchmark has no official `val`: the list files train.txt, val.txt and test.txt, one stem a line, part the
200; without any, all are `train`. The images of testing/ come without labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from dilated.data.formats import cityscapes
from dilated.data.formats._colors import SampleArrays, encode_ids, validate_arrays
from dilated.data.formats._match import (
    MatchResult,
    filter_labels,
    list_images,
    match_labels,
    read_image_list,
    write_stem_list,
)
from dilated.data.sample import Sample

CLASSES = replace(cityscapes.CLASSES, source="KITTI 2018")
SOURCE = "https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015 (data_semantics.zip)"
_IMAGE_FOLDER, _LABEL_FOLDER = "training/image_2", "training/semantic"
_LISTED_SPLITS = ("train", "val", "test")


def detect(root: Path) -> bool:
    return (root / _LABEL_FOLDER).is_dir()


def splits(root: Path) -> list[str]:
    listed_splits = [s for s in _LISTED_SPLITS if (root / f"{s}.txt").is_file()]
    return listed_splits or (["train"] if detect(root) else [])


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, list file, image or label.
    """
    return match_split(root, split).require_complete()


def match_split(root: Path, split: str) -> MatchResult:
    """The pairs of one split, and what is missing."""
    images, image_problems = list_images(root / _IMAGE_FOLDER, "KITTI's images")
    labels, label_problems = list_images(root / _LABEL_FOLDER, "their labels, images of Cityscapes' label ids")
    listing = root / f"{split}.txt"
    problems = image_problems + label_problems
    if not listing.is_file() and (split != "train" or splits(root) != ["train"]):
        problems.append(
            f"{listing}: no such file; expected the stems of {split}, one a line, chosen from {_IMAGE_FOLDER}"
        )
    if problems:
        return MatchResult([], problems)
    if listing.is_file():
        images, problems = read_image_list(listing, images)
        labels = filter_labels(labels, images)
    matches = match_labels(images, labels, root / _LABEL_FOLDER)
    return MatchResult(matches.samples, problems + matches.problems)


def save(root: Path, split: str, samples: Iterable[SampleArrays]) -> None:
    """Write samples with ids of `CLASSES`, and the split's list file.

    Raises:
        InputError: an id that the classes have not, a stem that is no file name or comes twice.
    """
    for folder in (_IMAGE_FOLDER, _LABEL_FOLDER):
        (root / folder).mkdir(parents=True, exist_ok=True)
    stems = []
    for stem, image, ids in validate_arrays(samples):
        Image.fromarray(image).save(root / _IMAGE_FOLDER / f"{stem}.png")
        Image.fromarray(encode_ids(ids, CLASSES, cityscapes.UNLABELED)).save(root / _LABEL_FOLDER / f"{stem}.png")
        stems.append(stem)
    write_stem_list(root / f"{split}.txt", stems)
