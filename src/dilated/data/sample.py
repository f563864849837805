"""An image and its label on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import ImageArray, image_size, read_image
from dilated.data.labels import IGNORE, Classes, decode_label, make_size_error, read_values
from dilated.data.raster.bands import read_bands
from dilated.errors import InputError
from dilated.input_config import BandArray, InputConfig
from dilated.label_ids import LabelArray, ignore_id_of

SampleKey = tuple[Path, Path, str]
LAST_ALTERNATIVE = IGNORE - 1
"""The value of the first of a sample's alternatives; those of the others follow downwards."""


@dataclass(frozen=True)
class Sample:
    """One sample of a data set on disk.

    Args:
        image: the image's file.
        label: the label's file.
        label_reader: how the label is read: path -> (H, W) integers as the file has them, which `classes` turn into
            ids. Formats that keep labels in something other than images of values bring their own.
        image_reader: how the image is read: path -> (H, W, 3) uint8. Formats that keep several images in one file bring
            their own, and a `stem` for each.
        stem: the sample's name; by default the stem of the image's file.
        classes: what the label's values mean; None while a format is being read.
        input: what the image holds; None for 8-bit RGB.
        alternatives: the class ids, one of which a pixel has whose value is 254, 253, ...; see `dilated.data.joined`.
        rules: other files that the label's meaning depends on.
    """

    image: Path
    label: Path
    label_reader: Callable[[Path], NDArray[np.integer]] = read_values
    image_reader: Callable[[Path], ImageArray] = read_image
    stem: str = ""
    classes: Classes | None = None
    input: InputConfig | None = None
    alternatives: tuple[tuple[int, ...], ...] = ()
    rules: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        return self.stem or self.image.stem

    @property
    def key(self) -> SampleKey:
        """What makes a sample the same one in another split."""
        return self.image, self.label, self.stem

    def read_image(self) -> BandArray:
        """The image, (H, W, 3) uint8, or (H, W, n) of what `input` describes.

        Raises:
            InputError: an unreadable file, or one of other bands.
        """
        return self.image_reader(self.image) if self.input is None else read_bands(self.image, self.input)

    def read(self, keep_alternatives: bool = False) -> tuple[BandArray, LabelArray]:
        """The image and its label, ignored also where the image has no data.

        Args:
            keep_alternatives: see `read_label`.

        Raises:
            InputError: an unreadable file, another size, a value outside the classes.
        """
        image = self.read_image()
        label = self.read_label((image.shape[0], image.shape[1]), keep_alternatives)
        return image, ignore_missing(image, label, self.input)

    def size(self) -> tuple[int, int]:
        """(H, W) of the image, from the file's header where that says it.

        Raises:
            InputError: a file that is not an image.
        """
        if self.image_reader is read_image:
            return image_size(self.image)
        height, width = self.read_image().shape[:2]
        return height, width

    def read_label(self, size: tuple[int, int] | None = None, keep_alternatives: bool = False) -> LabelArray:
        """The label as class ids, (H, W): uint8, 255 where ignored; of more than 255 classes uint16 and 65535.

        Args:
            size: (H, W) that the label must have, that of its image; any if not given.
            keep_alternatives: keep the values 254, 253, ... of pixels that may be of several classes, which training
                knows how to use; they are ignored otherwise, since no class can be counted.

        Raises:
            InputError: an unreadable file, another size, a value outside the classes.
        """
        where = f"{self.label} ({self.stem})" if self.stem else self.label
        if self.classes is None:
            raise InputError(f"{where}: the sample has no classes", hint="take it from open_dataset(...).samples(...)")
        values = self.label_reader(self.label)
        ids = decode_label(values, self.classes, size, where)
        if not keep_alternatives or not self.alternatives:
            return ids
        return np.where((values > LAST_ALTERNATIVE - len(self.alternatives)) & (values < IGNORE), values, ids).astype(
            np.uint8
        )


def name_from_root(sample: Sample, root: Path) -> str:
    """The sample's name with the folders between the data folder and its image, as `train/site 3/a`.

    Example:
        >>> name_from_root(Sample(Path("data/train/a.png"), Path("data/labels/a.png")), Path("data"))
        'train/a'
    """
    folder = sample.image.parent
    return (folder.relative_to(root) if folder.is_relative_to(root) else Path()).joinpath(sample.name).as_posix()


def ignore_missing(image: BandArray, label: LabelArray, config: InputConfig | None) -> LabelArray:
    """The label, ignored where the image has no data, as `config` says.

    Example:
        >>> image, config = np.array([[[0], [7]]], np.uint16), InputConfig(("gray",), "uint16", nodata=0)
        >>> ignore_missing(image, np.array([[1, 1]], np.uint8), config).tolist()
        [[255, 1]]
    """
    valid = config.find_valid(image) if config else None
    return label if valid is None else np.where(valid, label, label.dtype.type(ignore_id_of(label)))


def require_same_size(sample: Sample) -> None:
    """Raise where an image and its label image differ in size, by their headers alone.

    Raises:
        InputError: sizes that differ, or a file that is not an image.
    """
    if sample.label_reader is not read_values:
        return  # its size is known once it is read
    expected, actual_size = sample.size(), image_size(sample.label)
    if actual_size != expected:
        raise make_size_error(sample.label, actual_size, expected)
