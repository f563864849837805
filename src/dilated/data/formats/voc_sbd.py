"""The paper's training set: VOC 2012's train split and SBD, without VOC's val split; with COCO beside them, that too.

    >>> from pathlib import Path
    >>> from dilated.data.formats import voc_sbd
    >>> voc_sbd.detect(Path("nowhere"))
    False

    VOCdevkit/VOC2012/  benchmark_RELEASE/dataset/  coco/ (if wanted)

    train        VOC's train, then the images of SBD's train and val that are neither in VOC's train nor in its val:
                 1,464 + 9,118 = 10,582 images of the real data; where both have a label, VOC's goes first
    val          VOC's val, 1,449 images
    train+coco   train, then the images of COCO's train with an object of a class of VOC (Section 5, first stage)

Each of the three is read as on its own, by `voc`, `sbd` and `coco`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dilated.data.formats import coco, sbd, voc
from dilated.data.formats._colors import SampleArrays
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = voc.CLASSES
SOURCE = f"{voc.SOURCE} and {sbd.SOURCE}; for train+coco also {coco.SOURCE}"


def detect(root: Path) -> bool:
    return voc.detect(root) and sbd.detect(root)


def splits(root: Path) -> list[str]:
    found = [s for s in voc.splits(root) if s in ("train", "val")]
    if "train" in found and "train" in coco.splits(root):
        found.append("train+coco")
    return found


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: a split that is none of these, or whatever is missing of VOC, SBD or COCO.
    """
    if split == "val":
        return voc.load(root, "val")
    if split not in ("train", "train+coco"):
        raise InputError(f"{root}: found the split {split!r}; expected train, val or train+coco")
    samples = voc.load(root, "train")
    seen = {*voc.read_split_stems(root, "train"), *voc.read_split_stems(root, "val")}
    for sample in [*sbd.load(root, "train"), *sbd.load(root, "val")]:
        if sample.name not in seen:
            seen.add(sample.name)
            samples.append(sample)
    return samples + coco.load(root, "train") if split == "train+coco" else samples


def save(root: Path, split: str, samples: Iterable[SampleArrays]) -> None:
    """Write a split that `load_checkpoint` reads back, all of it as VOC's; where there is no SBD, one without images.

    Args:
        split: train or val.
        samples: stem, image (H, W, 3) uint8, class ids (H, W) uint8 with 255 where ignored.

    Raises:
        InputError: another split, or, for train, an SBD with images, which would come in beside those to write.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> root = Path(tempfile.mkdtemp())
        >>> for split in ("train", "val"):
        ...     save(root, split, [(split, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 15, np.uint8))])
        >>> [sample.name for sample in load(root, "train")]
        ['train']
    """
    if split not in ("train", "val"):
        raise InputError(f"{root}: found the split {split!r}; expected train or val. COCO is written as coco.")
    if not sbd.detect(root):
        for sbd_split in sbd.SPLITS:
            sbd.save(root, sbd_split, [])
    elif split == "train" and any(sbd.load(root, sbd_split) for sbd_split in sbd.splits(root)):
        raise InputError(f"{root}: found an SBD with images; expected none, or write VOC's own split as voc")
    voc.save(root, split, samples)
