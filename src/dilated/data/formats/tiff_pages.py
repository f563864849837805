"""Pictures and labels as the pages of TIFF files, as microscopy programs write them.

    train/images.tif  train/labels.tif  val/images.tif  val/labels.tif
    images/train.tif  labels/train.tif  images/val.tif  labels/val.tif

Page k of the labels, 8 or 16 bits of one channel, belongs to page k of the pictures. Pages are named by the split and
their number from 1. The classes are those of classes.toml.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from dilated.data.formats.coding import Sample, checked, encode
from dilated.data.formats.pairs import Pair
from dilated.data.images import Pixels, opened
from dilated.data.labels import IGNORE, Classes
from dilated.data.stored import unchanged
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
SPLITS = ("train", "val", "test")
ENDINGS = (".tif", ".tiff")
DEEP = ("I;16", "I;16B", "I;16L")


def detect(root: Path) -> bool:
    return any(_places(root, split) for split in SPLITS)


def splits(root: Path) -> list[str]:
    return [split for split in SPLITS if _places(root, split)]


def load(root: Path, split: str) -> list[Pair]:
    """A pair for each page.

    Raises:
        InputError: no such files, numbers of pages that differ, a page whose label is of another size.
    """
    places = _places(root, split)
    if places is None:
        raise InputError(f"{root}: found no {split}/images.tif with {split}/labels.tif, nor images/{split}.tif")
    sizes = [_sizes(place) for place in places]
    if len(sizes[0]) != len(sizes[1]):
        raise InputError(
            f"{places[1]}: found {len(sizes[1])} pages; expected {len(sizes[0])}, as many as {places[0]} has"
        )
    for page, (image, label) in enumerate(zip(*sizes, strict=True)):
        if image != label:
            raise InputError(
                f"{places[1]}, page {page + 1}: found a label of {label[0]}x{label[1]}; expected "
                f"{image[0]}x{image[1]}, the size of its picture"
            )
    digits = len(str(len(sizes[0])))
    return [
        Pair(*places, PageValues(page), PagePixels(page), stem=f"{split}_{page + 1:0{digits}}")
        for page in range(len(sizes[0]))
    ]


@dataclass(frozen=True)
class PageValues:
    """Reads a page of labels: `Pair.values`."""

    page: int

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The values (H, W).

        Raises:
            InputError: an unreadable file, or a page of colours.
        """
        with opened(path) as picture:
            picture.seek(self.page)
            if picture.mode not in ("L", "P", "1", "I", *DEEP):
                raise InputError(
                    f"{path}, page {self.page + 1}: found a label of mode {picture.mode!r}; expected one channel of "
                    "class values"
                )
            unchanged(picture, f"{path}, page {self.page + 1}")
            return np.asarray(picture).astype(np.int64)


@dataclass(frozen=True)
class PagePixels:
    """Reads a page of pictures: `Pair.pixels`."""

    page: int

    def __call__(self, path: Path) -> Pixels:
        """The picture (H, W, 3) uint8; 16 bits are scaled from 0..65535.

        Raises:
            InputError: an unreadable file, or a page without an agreed range (32-bit integers, floats).
        """
        with opened(path) as picture:
            picture.seek(self.page)
            if picture.mode in DEEP:
                grey = (np.asarray(picture, dtype=np.float32) / 257).round().astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if picture.mode in ("I", "F"):
                raise InputError(
                    f"{path}, page {self.page + 1}: found a picture of mode {picture.mode!r}, whose range of values is "
                    "not fixed; expected 8 or 16 bits a channel"
                )
            return np.asarray(picture.convert("RGB"))


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write SPLIT/images.tif and SPLIT/labels.tif with the values of the classes, 255 where ignored; stems are lost.

    Raises:
        InputError: another split, no sample, an id that the classes have not.
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    (root / split).mkdir(parents=True, exist_ok=True)
    with (
        AppendingTiffWriter(str(root / split / "images.tif"), True) as images,
        AppendingTiffWriter(str(root / split / "labels.tif"), True) as labels,
    ):
        for _, image, ids in checked(samples):
            for file, page in ((images, image), (labels, encode(ids, classes, IGNORE))):
                Image.fromarray(page).save(file, format="TIFF", compression="tiff_deflate")
                file.newFrame()


def _places(root: Path, split: str) -> tuple[Path, Path] | None:
    """The files of the pictures and of the labels of a split, if both are there."""
    for pattern in ("{split}/{kind}", "{kind}/{split}"):
        bases = [root / pattern.format(split=split, kind=kind) for kind in ("images", "labels")]
        found = [next((p for e in ENDINGS if (p := base.with_name(base.name + e)).is_file()), None) for base in bases]
        if found[0] and found[1]:
            return found[0], found[1]
    return None


def _sizes(path: Path) -> list[tuple[int, int]]:
    """The width and height of each page, by their headers."""
    with opened(path) as picture:
        sizes = []
        for page in range(getattr(picture, "n_frames", 1)):
            picture.seek(page)
            sizes.append(picture.size)
        return sizes
