"""A picture and its label, matched by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import Pixels, image_size, read_image
from dilated.data.labels import Classes, Labels, ids, read_values, wrong_size
from dilated.errors import InputError


@dataclass(frozen=True)
class Pair:
    """One sample of a data set on disk.

    `values` reads the label file: path -> (H, W) integers as the file has them, which the data set's `Classes` then
    turn into ids. Formats that keep labels in something else than pictures of values bring their own. `pixels` reads
    the picture: path -> (H, W, 3) uint8; formats that keep several in a file bring their own, and a `stem` for each.
    """

    image: Path
    label: Path
    values: Callable[[Path], NDArray[np.integer]] = read_values
    pixels: Callable[[Path], Pixels] = read_image
    stem: str = ""

    @property
    def name(self) -> str:
        return self.stem or self.image.stem

    def read_image(self) -> Pixels:
        """The picture, (H, W, 3) uint8.

        Raises:
            InputError: an unreadable file.
        """
        return self.pixels(self.image)

    def size(self) -> tuple[int, int]:
        """(H, W) of the picture, from the file's header where that says it.

        Raises:
            InputError: a file that is no picture.
        """
        if self.pixels is read_image:
            return image_size(self.image)
        height, width = self.read_image().shape[:2]
        return height, width

    def read_label(self, classes: Classes, size: tuple[int, int] | None = None) -> Labels:
        """The label as class ids, (H, W) uint8, 255 where ignored; `size` is (H, W) of the picture.

        Raises:
            InputError: an unreadable file, another size, a value outside the classes.
        """
        where = f"{self.label} ({self.stem})" if self.stem else self.label
        return ids(self.values(self.label), classes, size, where)


def pair_by_stem(images: Sequence[Path], labels: Sequence[Path], folder: Path) -> list[Pair]:
    """Match pictures with labels of the same stem, in the pictures' order.

    Raises:
        InputError: a picture without a label, a label without a picture, or two of the same stem.
    """
    by_stem: dict[str, Path] = {}
    for label in labels:
        if label.stem in by_stem:
            raise InputError(f"{label}: found two labels of the stem {label.stem!r}; expected one a picture")
        by_stem[label.stem] = label
    pairs, seen = [], set()
    for image in images:
        if image.stem in seen:
            raise InputError(f"{image}: found two pictures of the stem {image.stem!r}; expected stems that differ")
        seen.add(image.stem)
        if image.stem not in by_stem:
            raise InputError(f"{image}: has no label; expected {folder / image.stem}.png. Add it or move the picture.")
        pairs.append(Pair(image, by_stem[image.stem]))
    orphans = sorted(by_stem.keys() - seen)
    if orphans:
        raise InputError(f"{by_stem[orphans[0]]}: has no picture of the same stem ({len(orphans)} such labels)")
    return pairs


def same_size(pair: Pair) -> None:
    """Raise where a picture and its label picture differ in size, by their headers alone.

    Raises:
        InputError: sizes that differ, or a file that is no picture.
    """
    if pair.values is not read_values:
        return  # its size is known once it is read
    expected, found = pair.size(), image_size(pair.label)
    if found != expected:
        raise wrong_size(pair.label, found, expected)
