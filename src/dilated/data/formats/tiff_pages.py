"""Images and labels as the pages of TIFF files, as microscopy programs write them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from dilated.data.band_header import require_full_range
from dilated.data.formats._classes import encode_ids
from dilated.data.formats._format import Format, Parsed, make_folders
from dilated.data.formats._match import SPLITS, MatchResult
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.images import ImageArray, open_image, to_rgb_array
from dilated.data.labels import Classes
from dilated.data.raw_values import assert_raw_values
from dilated.data.sample import Sample
from dilated.errors import InputError

_TIFF_SUFFIXES = (".tif", ".tiff")


class TIFFPages(Format):
    """Images and labels as the pages of TIFF files, as microscopy programs write them.

        train/images.tif  train/labels.tif  val/images.tif  val/labels.tif
        images/train.tif  labels/train.tif  images/val.tif  labels/val.tif

    Page k of the labels, 8 or 16 bits of one channel, belongs to page k of the images. Pages are named by the split and
    their number from 1. The classes are those of classes.toml.
    """

    name = "tiff_pages"
    keeps_names = False

    def detect(self) -> bool:
        return bool(self.splits)

    def parse(self) -> Parsed:
        files = {split: files for split in SPLITS if (files := self._find_files(split))}
        return Parsed(files, lambda split: self._match_pages(split, files[split]))

    def _match_pages(self, split: str, files: tuple[Path, Path]) -> MatchResult:
        """A sample for each page."""
        image_sizes, label_sizes = map(_page_sizes, files)
        if len(image_sizes) != len(label_sizes):
            raise InputError(
                f"{files[1]}: found {len(label_sizes)} pages",
                hint=f"give {len(image_sizes)}, as many as {files[0]} has",
            )
        for number, (image, label) in enumerate(zip(image_sizes, label_sizes, strict=True), 1):
            if image != label:
                raise InputError(
                    f"{files[1]}, page {number}: found a label of {label[0]}x{label[1]}",
                    hint=f"give {image[0]}x{image[1]}, the size of its image",
                )
        digits = len(str(len(image_sizes)))
        samples = [
            Sample(
                *files,
                partial(_read_label_page, page=page),
                partial(_read_image_page, page=page),
                stem=f"{split}_{page + 1:0{digits}}",
            )
            for page in range(len(image_sizes))
        ]
        return MatchResult(samples)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """The labels have the values of the classes, 255 or 65535 where ignored; stems are lost."""
        make_folders(root / split)
        with (
            AppendingTiffWriter(str(root / split / "images.tif"), True) as images,
            AppendingTiffWriter(str(root / split / "labels.tif"), True) as labels,
        ):
            for _, image, ids in samples:
                for file, page in ((images, image), (labels, encode_ids(ids, classes, classes.ignore_id))):
                    Image.fromarray(page).save(file, format="TIFF", compression="tiff_deflate")
                    file.newFrame()

    def _find_files(self, split: str) -> tuple[Path, Path] | None:
        """The files of the images and of the labels of a split, if both exist."""
        for pattern in ("{split}/{kind}", "{kind}/{split}"):
            bases = [self.root / pattern.format(split=split, kind=kind) for kind in ("images", "labels")]
            images, labels = (
                next((p for suffix in _TIFF_SUFFIXES if (p := base.with_name(base.name + suffix)).is_file()), None)
                for base in bases
            )
            if images and labels:
                return images, labels
        return None


def _read_label_page(path: Path, page: int) -> NDArray[np.int64]:
    """The values (H, W) of a page of labels."""
    where = f"{path}, page {page + 1}"
    with open_image(path) as image:
        image.seek(page)
        if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B", "I;16L"):
            raise InputError(f"{where}: found a label of mode {image.mode!r}", hint="give one channel of class values")
        assert_raw_values(image, where)
        return np.asarray(image).astype(np.int64)


def _read_image_page(path: Path, page: int) -> ImageArray:
    """The page as an image (H, W, 3) uint8; 16 bits are scaled from 0..65535."""
    with open_image(path) as image:
        image.seek(page)
        where = f"{path}, page {page + 1}"
        if image.mode.startswith("I;16"):
            require_full_range(int(np.asarray(image).max()), where)
        return to_rgb_array(image, where)


def _page_sizes(path: Path) -> list[tuple[int, int]]:
    """The width and height of each page, by their headers."""
    with open_image(path) as image:
        sizes = []
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            sizes.append(image.size)
        return sizes
