"""Images and labels as the pages of TIFF files, as microscopy programs write them.

    train/images.tif  train/labels.tif  val/images.tif  val/labels.tif
    images/train.tif  labels/train.tif  images/val.tif  labels/val.tif

Page k of the labels, 8 or 16 bits of one channel, belongs to page k of the images. Pages are named by the split and
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

from dilated.data.formats._colors import SampleArrays, encode_ids, validate_arrays
from dilated.data.images import ImageArray, open_image
from dilated.data.labels import IGNORE, Classes, assert_raw_values
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
_SPLITS = ("train", "val", "test")
_TIFF_SUFFIXES = (".tif", ".tiff")
_MODES_16_BIT = ("I;16", "I;16B", "I;16L")


def detect(root: Path) -> bool:
    return any(_find_split_files(root, split) for split in _SPLITS)


def splits(root: Path) -> list[str]:
    return [split for split in _SPLITS if _find_split_files(root, split)]


def load(root: Path, split: str) -> list[Sample]:
    """A pair for each page.

    Raises:
        InputError: no such files, numbers of pages that differ, a page whose label is of another size.
    """
    split_files = _find_split_files(root, split)
    if split_files is None:
        raise InputError(f"{root}: found no {split}/images.tif with {split}/labels.tif, nor images/{split}.tif")
    sizes = [_page_sizes(split_file) for split_file in split_files]
    if len(sizes[0]) != len(sizes[1]):
        raise InputError(
            f"{split_files[1]}: found {len(sizes[1])} pages; expected {len(sizes[0])}, as many as {split_files[0]} has"
        )
    for page, (image, label) in enumerate(zip(*sizes, strict=True)):
        if image != label:
            raise InputError(
                f"{split_files[1]}, page {page + 1}: found a label of {label[0]}x{label[1]}; expected "
                f"{image[0]}x{image[1]}, the size of its image"
            )
    digits = len(str(len(sizes[0])))
    return [
        Sample(*split_files, _PageLabelReader(page), _PageImageReader(page), stem=f"{split}_{page + 1:0{digits}}")
        for page in range(len(sizes[0]))
    ]


@dataclass(frozen=True)
class _PageLabelReader:
    """Reads a page of labels: `Pair.values`."""

    page: int

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The values (H, W).

        Raises:
            InputError: an unreadable file, or a page of colors.
        """
        with open_image(path) as image:
            image.seek(self.page)
            if image.mode not in ("L", "P", "1", "I", *_MODES_16_BIT):
                raise InputError(
                    f"{path}, page {self.page + 1}: found a label of mode {image.mode!r}; expected one channel of "
                    "class values"
                )
            assert_raw_values(image, f"{path}, page {self.page + 1}")
            return np.asarray(image).astype(np.int64)


@dataclass(frozen=True)
class _PageImageReader:
    """Reads a page of images: `Pair.pixels`."""

    page: int

    def __call__(self, path: Path) -> ImageArray:
        """The image (H, W, 3) uint8; 16 bits are scaled from 0..65535.

        Raises:
            InputError: an unreadable file, or a page without an agreed range (32-bit integers, floats).
        """
        with open_image(path) as image:
            image.seek(self.page)
            if image.mode in _MODES_16_BIT:
                gray = (np.asarray(image, dtype=np.float32) / 257).round().astype(np.uint8)
                return np.repeat(gray[:, :, None], 3, axis=2)
            if image.mode in ("I", "F"):
                raise InputError(
                    f"{path}, page {self.page + 1}: found an image of mode {image.mode!r}, whose range of values is "
                    "not fixed; expected 8 or 16 bits a channel"
                )
            return np.asarray(image.convert("RGB"))


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write SPLIT/images.tif and SPLIT/labels.tif with the values of the classes, 255 where ignored; stems are lost.

    Raises:
        InputError: another split, no sample, an id that the classes have not.
    """
    if split not in _SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(_SPLITS)}")
    (root / split).mkdir(parents=True, exist_ok=True)
    with (
        AppendingTiffWriter(str(root / split / "images.tif"), True) as images,
        AppendingTiffWriter(str(root / split / "labels.tif"), True) as labels,
    ):
        for _, image, ids in validate_arrays(samples):
            for file, page in ((images, image), (labels, encode_ids(ids, classes, IGNORE))):
                Image.fromarray(page).save(file, format="TIFF", compression="tiff_deflate")
                file.newFrame()


def _find_split_files(root: Path, split: str) -> tuple[Path, Path] | None:
    """The files of the images and of the labels of a split, if both are there."""
    for pattern in ("{split}/{kind}", "{kind}/{split}"):
        bases = [root / pattern.format(split=split, kind=kind) for kind in ("images", "labels")]
        existing = [
            next((p for e in _TIFF_SUFFIXES if (p := base.with_name(base.name + e)).is_file()), None) for base in bases
        ]
        if existing[0] and existing[1]:
            return existing[0], existing[1]
    return None


def _page_sizes(path: Path) -> list[tuple[int, int]]:
    """The width and height of each page, by their headers."""
    with open_image(path) as image:
        sizes = []
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            sizes.append(image.size)
        return sizes
