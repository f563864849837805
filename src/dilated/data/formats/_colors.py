"""How labels are kept in files: masks of colors read as values, and ids written back as values.

read = ColorIndexReader(("Sky", "Road"), ((128, 128, 128), (128, 64, 128)))
read(Path("mask.png"))                               # (H, W) int64: 0 where the mask is gray, 1 where it is purple
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import open_image
from dilated.data.labels import IGNORE, Classes, LabelArray, assert_raw_values, assert_single_frame
from dilated.errors import InputError
from dilated.palettes import Color


@dataclass(frozen=True)
class ColorIndexReader:
    """Read a mask of colors: the `label_reader` of formats that keep labels so.

    Args:
        names: what each color means, for messages.
        colors: the colors; a pixel's value is the index of its color.

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
            (H, W) int64, indices of `colors`.

        Raises:
            InputError: an unreadable file, an image of values, or an unknown color, with its position.
        """
        with open_image(path) as image:
            if image.mode not in ("RGB", "RGBA", "P"):
                raise InputError(
                    f"{path}: found a label of mode {image.mode!r} (values); expected a mask of colors such as "
                    f"{_format_color(self.colors[0])} for {self.names[0]}. Was it converted already?",
                    hint="get the original",
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
                f"{path}: found the color {_format_color(mask[y, x])} at x={x}, y={y} ({int(unknown.sum())} such "
                f"pixels of unknown colors); the nearest known is {self._describe_nearest(mask[y, x])}. Masks must be "
                "kept exactly: was this one resized with smoothing, or saved as JPEG?"
            )
        return values.astype(np.int64)

    def _describe_nearest(self, color: NDArray[np.uint8]) -> str:
        distance = ((np.array(self.colors, dtype=np.int64) - color.astype(np.int64)) ** 2).sum(1)
        i = int(distance.argmin())
        return f"{_format_color(self.colors[i])} {self.names[i]}"


@dataclass(frozen=True)
class ColorIdReader:
    """Read a mask of colors as class ids, 255 for colors that are ignored.

    Args:
        read: mask -> indices of its colors.
        ids: the id for each of these indices.
    """

    read: ColorIndexReader
    ids: tuple[int, ...]

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The ids (H, W).

        Raises:
            InputError: an unreadable file, or an unknown color, with its position.
        """
        return np.array(self.ids, dtype=np.int64)[self.read(path)]


def require_distinct_colors(classes: Classes) -> None:
    """Raise where two classes, or a class and an ignored color, have one color, which masks could not tell apart.

    Raises:
        InputError: the two and their color.
    """
    seen: dict[Color, str] = {}
    ignored = (("ignore_colors", color) for color in classes.ignore_colors)
    for name, color in [*zip(classes.names, classes.colors, strict=True), *ignored]:
        if color in seen:
            raise InputError(
                f"{classes.source}: {seen[color]!r} and {name!r} are both {color}; expected distinct colors"
            )
        seen[color] = name


def encode_ids(ids: LabelArray, classes: Classes, ignored: int) -> NDArray[np.uint8]:
    """Ids -> values as files of these classes have them, which `classes.decode` reads back as the same ids.

    Args:
        ids: (H, W) uint8, 255 where ignored.
        ignored: the value that is written there.

    Raises:
        InputError: an id outside the classes.

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


def _pack_rgb(colors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(..., 3) -> (...), one number per color."""
    red, green, blue = (colors[..., i].astype(np.int64) for i in range(3))
    return (red << 16) | (green << 8) | blue


def _format_color(color: Color | NDArray[np.uint8]) -> str:
    return f"({', '.join(str(int(c)) for c in color)})"
