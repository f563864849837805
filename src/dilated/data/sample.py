"""An image and its label, matched by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import ImageArray, image_size, read_image
from dilated.data.labels import Classes, LabelArray, decode_label, make_size_error, read_values
from dilated.errors import InputError


@dataclass(frozen=True)
class Sample:
    """One sample of a data set on disk.

    `label_reader` reads the label file: path -> (H, W) integers as the file has them, which the data set's `Classes` then
    turn into ids. Formats that keep labels in something else than images of values bring their own. `image_reader` reads
    the image: path -> (H, W, 3) uint8; formats that keep several in a file bring their own, and a `stem` for each.
    """

    image: Path
    label: Path
    label_reader: Callable[[Path], NDArray[np.integer]] = read_values
    image_reader: Callable[[Path], ImageArray] = read_image
    stem: str = ""

    @property
    def name(self) -> str:
        return self.stem or self.image.stem

    def read_image(self) -> ImageArray:
        """The image, (H, W, 3) uint8.

        Raises:
            InputError: an unreadable file.
        """
        return self.image_reader(self.image)

    def size(self) -> tuple[int, int]:
        """(H, W) of the image, from the file's header where that says it.

        Raises:
            InputError: a file that is no image.
        """
        if self.image_reader is read_image:
            return image_size(self.image)
        height, width = self.read_image().shape[:2]
        return height, width

    def read_label(self, classes: Classes, size: tuple[int, int] | None = None) -> LabelArray:
        """The label as class ids, (H, W) uint8, 255 where ignored; `median_size` is (H, W) of the image.

        Raises:
            InputError: an unreadable file, another size, a value outside the classes.
        """
        where = f"{self.label} ({self.stem})" if self.stem else self.label
        return decode_label(self.label_reader(self.label), classes, size, where)


def match_by_stem(images: Sequence[Path], labels: Sequence[Path], folder: Path) -> list[Sample]:
    """Match images with labels of the same stem, in the images' order.

    Raises:
        InputError: an image without a label, a label without an image, or two of the same stem.
    """
    by_stem: dict[str, Path] = {}
    for label in labels:
        if label.stem in by_stem:
            raise InputError(f"{label}: found two labels of the stem {label.stem!r}; expected one an image")
        by_stem[label.stem] = label
    samples, seen = [], set()
    for image in images:
        if image.stem in seen:
            raise InputError(f"{image}: found two images of the stem {image.stem!r}; expected stems that differ")
        seen.add(image.stem)
        if image.stem not in by_stem:
            raise InputError(f"{image}: has no label; expected {folder / image.stem}.png. Add it or move the image.")
        samples.append(Sample(image, by_stem[image.stem]))
    orphans = sorted(by_stem.keys() - seen)
    if orphans:
        raise InputError(f"{by_stem[orphans[0]]}: has no image of the same stem ({len(orphans)} such labels)")
    return samples


def require_same_size(sample: Sample) -> None:
    """Raise where an image and its label image differ in size, by their headers alone.

    Raises:
        InputError: sizes that differ, or a file that is no image.
    """
    if sample.label_reader is not read_values:
        return  # its size is known once it is read
    expected, actual_size = sample.size(), image_size(sample.label)
    if actual_size != expected:
        raise make_size_error(sample.label, actual_size, expected)
