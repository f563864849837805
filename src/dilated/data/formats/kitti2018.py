"""KITTI's semantic benchmark of 2018: `training/image_2/*.png` and `training/semantic/*.png`, 200 labelled pictures.

Alhaija et al., "Augmented reality meets computer vision", 2018. The labels are Cityscapes' label ids, and the classes
its 19. The benchmark has no official `val`: the list files train.txt, val.txt and test.txt, one stem a line, part the
200; without any, all are `train`. The pictures of testing/ come without labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from dilated.data.formats import cityscapes
from dilated.data.formats.coding import Sample, checked, encode
from dilated.data.formats.matching import Found, folder_of, listed, match, only, write_list
from dilated.data.formats.pairs import Pair

CLASSES = replace(cityscapes.CLASSES, source="KITTI 2018")
SOURCE = "https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015 (data_semantics.zip)"
IMAGES, LABELS = "training/image_2", "training/semantic"
LISTS = ("train", "val", "test")


def detect(root: Path) -> bool:
    return (root / LABELS).is_dir()


def splits(root: Path) -> list[str]:
    lists = [s for s in LISTS if (root / f"{s}.txt").is_file()]
    return lists or (["train"] if detect(root) else [])


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, list file, picture or label.
    """
    return scan(root, split).whole()


def scan(root: Path, split: str) -> Found:
    """The pairs of one split, and what is missing."""
    images, no_images = folder_of(root / IMAGES, "KITTI's pictures")
    labels, no_labels = folder_of(root / LABELS, "their labels, pictures of Cityscapes' label ids")
    listing = root / f"{split}.txt"
    problems = no_images + no_labels
    if not listing.is_file() and (split != "train" or splits(root) != ["train"]):
        problems.append(f"{listing}: no such file; expected the stems of {split}, one a line, chosen from {IMAGES}")
    if problems:
        return Found([], problems)
    if listing.is_file():
        images, problems = listed(listing, images)
        labels = only(labels, images)
    found = match(images, labels, root / LABELS)
    return Found(found.pairs, problems + found.problems)


def save(root: Path, split: str, samples: Iterable[Sample]) -> None:
    """Write samples with ids of `CLASSES`, and the split's list file.

    Raises:
        InputError: an id that the classes have not, a stem that is no file name or comes twice.
    """
    for folder in (IMAGES, LABELS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    stems = []
    for stem, image, ids in checked(samples):
        Image.fromarray(image).save(root / IMAGES / f"{stem}.png")
        Image.fromarray(encode(ids, CLASSES, cityscapes.UNLABELED)).save(root / LABELS / f"{stem}.png")
        stems.append(stem)
    write_list(root / f"{split}.txt", stems)
