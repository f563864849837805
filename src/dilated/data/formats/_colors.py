"""How labels are kept in files: masks of colors read as values, and ids written back as values.

read = ColorValues(("Sky", "Road"), ((128, 128, 128), (128, 64, 128)))
read(Path("mask.png"))                               # (H, W) int64: 0 where the mask is grey, 1 where it is purple
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import ImageArray, open_image
from dilated.data.labels import IGNORE, Classes, LabelArray, assert_raw_values, assert_single_frame
from dilated.errors import InputError
from dilated.palettes import Color

SampleArrays = tuple[str, ImageArray, LabelArray]
"""What is saved: a stem, the image (H, W, 3) uint8, its label ids (H, W) uint8, 255 where ignored."""


@dataclass(frozen=True)
class ColorIndexReader:
    """Reads a mask of colors: `Pair.values` of formats that keep labels so.

    Args:
        names: what each color means, for messages.
        colors: the colors; a pixel's value is the place of its color.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.fromarray(np.array([[[128, 64, 128], [128, 128, 128]]], np.uint8)).save(path)
        >>> ColorIndexReader(("Sky", "Road"), ((128, 128, 128), (128, 64, 128)))(path).tolist()
        [[1, 0]]
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """Read a mask.

        Returns:
            (H, W) int64, places in `colors`.

        Raises:
            InputError: an unreadable file, an image of values, or a color that is not known, with its place.
        """
        with open_image(path) as image:
            if image.mode not in ("RGB", "RGBA", "P"):
                raise InputError(
                    f"{path}: found a label of mode {image.mode!r} (values); expected a mask of colors such as "
                    f"{_format_color(self.colors[0])} for {self.names[0]}. Was it converted already? Get the original."
                )
            assert_single_frame(image, path)
            assert_raw_values(image, path)
            mask = np.asarray(image.convert("RGB"))
        codes = _pack_rgb(mask)
        known = _pack_rgb(np.array(self.colors, dtype=np.uint8))
        order = np.argsort(known)
        positions = np.searchsorted(known[order], codes).clip(max=len(order) - 1)
        values = order[positions]
        unknown = known[values] != codes
        if unknown.any():
            y, x = (int(v[0]) for v in np.nonzero(unknown))
            raise InputError(
                f"{path}: found the color {_format_color(mask[y, x])} at x={x}, y={y} ({int(unknown.sum())} such pixels of "
                f"unknown colors); the nearest known is {self._describe_nearest(mask[y, x])}. Masks must be kept exactly: was "
                "this one resized with smoothing, or saved as JPEG?"
            )
        return values.astype(np.int64)

    def _describe_nearest(self, color: NDArray[np.uint8]) -> str:
        distance = ((np.array(self.colors, dtype=np.int64) - color.astype(np.int64)) ** 2).sum(1)
        i = int(distance.argmin())
        return f"{_format_color(self.colors[i])} {self.names[i]}"


def _pack_rgb(colors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(..., 3) -> (...), one number a color."""
    red, green, blue = (colors[..., i].astype(np.int64) for i in range(3))
    return (red << 16) | (green << 8) | blue


def _format_color(color: Color | NDArray[np.uint8]) -> str:
    return f"({', '.join(str(int(c)) for c in color)})"


def encode_ids(ids: LabelArray, classes: Classes, ignored: int) -> NDArray[np.uint8]:
    """Ids -> values as files of these classes have them, which `classes.decode` reads back as the same ids.

    Args:
        ids: (H, W) uint8, 255 where ignored.
        ignored: the value that is written there.

    Raises:
        InputError: an id that the classes have not.

    Example:
        >>> classes = Classes(("road", "car"), ((128, 64, 128), (0, 0, 142)), ((7,), (26, 29)), ignore=(0,))
        >>> encode_ids(np.array([[1, 0, 255]], np.uint8), classes, 0).tolist()
        [[26, 7, 0]]
    """
    wrong = ids[(ids >= len(classes)) & (ids != IGNORE)]
    if wrong.size:
        raise InputError(f"{classes.source}: found the id {wrong[0]}; expected 0 to {len(classes) - 1}, or {IGNORE}")
    table = np.full(256, ignored, dtype=np.uint8)
    table[: len(classes)] = [group[0] for group in classes.values]
    return table[ids]


def validate_arrays(samples: Iterable[SampleArrays]) -> Iterator[SampleArrays]:
    """The samples, each looked at before it is written.

    Raises:
        InputError: a stem that is no file name or comes twice, an image or label of another form.
    """
    seen = set()
    for stem, image, ids in samples:
        if not stem or stem != stem.strip() or not stem.isprintable() or Path(stem).name != stem:
            raise InputError(f"samples: found the stem {stem!r}; expected a file name that fits on a line")
        if stem in seen:
            raise InputError(f"samples: found the stem {stem!r} twice; expected stems that differ")
        seen.add(stem)
        if image.dtype != np.uint8 or ids.dtype != np.uint8 or image.shape != (*ids.shape, 3) or ids.ndim != 2:
            raise InputError(
                f"samples: {stem}: found an image {image.shape} {image.dtype} and a label {ids.shape} {ids.dtype}; "
                "expected (H, W, 3) uint8 and (H, W) uint8"
            )
        yield stem, image, ids
