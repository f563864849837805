"""Masks of several channels: their colors, what is transparent, and whether they are values after all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.errors import InputError

OPAQUE_MODES = ("RGB", "RGBA", "LA")
"""Modes of several channels that a mask may have, once its alpha is taken off."""


def split_alpha(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The colors of an image, and where it is fully transparent.

    Returns:
        (H, W, 3) uint8, and (H, W) bool.

    Example:
        >>> colors, hidden = split_alpha(Image.new("LA", (1, 1), (7, 0)))
        >>> colors.tolist(), hidden.tolist()
        ([[[7, 7, 7]]], [[True]])
    """
    if image.mode not in ("RGBA", "LA") and "transparency" not in image.info:
        colors = np.asarray(image.convert("RGB"))
        return colors, np.zeros(colors.shape[:2], dtype=np.bool_)
    pixels = np.asarray(image.convert("RGBA"))
    return pixels[..., :3], pixels[..., 3] == 0


def refuse_hidden(colors: NDArray[np.uint8], hidden: NDArray[np.bool_], path: Path | str, transparent: str) -> None:
    """Raise where transparent pixels carry a color other than black, and nobody has said what they are.

    Args:
        colors: (H, W, 3).
        hidden: (H, W), where the mask is fully transparent.
        transparent: what classes.toml says; anything but "refuse" allows them.

    Raises:
        InputError: such pixels, with the first.
    """
    carried = hidden & colors.any(axis=-1)
    if transparent != "refuse" or not carried.any():
        return
    y, x = (int(v[0]) for v in np.nonzero(carried))
    color = tuple(int(c) for c in colors[y, x])
    raise InputError(
        f"{path}: found the color {color} at x={x}, y={y} where the mask is fully transparent "
        f"({int(carried.sum())} such pixels)",
        hint='write `transparent = "ignore"`, or `transparent = "color"` to read the hidden color, at the top of '
        "classes.toml",
    )


def make_color_error(path: Path | str, mode: str) -> InputError:
    """Make the error about a label that holds colors where values are expected."""
    return InputError(
        f"{path}: found a label of mode {mode!r} (colors); expected one channel of class values",
        hint="convert colors to values first, each color to the value in classes.toml",
    )
