"""Masks of several channels: their colors, what is transparent, and whether they are values after all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

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


def is_deep_png(image: Image.Image) -> bool:
    """Whether an image is a PNG of 16-bit colors, of which pillow keeps half the bits."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) and image.format == "PNG" else ()
    return any(";16" in str(tile[-1]) for tile in tiles)  # its arguments, which have no name before pillow 11.1


def pick_channel(
    colors: NDArray[np.unsignedinteger], path: Path | str, mode: str, channel: int | None
) -> NDArray[np.integer]:
    """The values of a mask of several channels: those of one of them, or of all where they are equal.

    Args:
        colors: (H, W, n); alpha may be the last.

    Returns:
        (H, W).

    Raises:
        InputError: channels that differ, where none is named.
    """
    if channel is not None and channel < colors.shape[2]:
        return colors[..., channel]
    channels = colors[..., : 1 if colors.shape[2] == 2 else 3]
    if (channels != channels[..., :1]).any():
        raise make_color_error(path, mode)
    return channels[..., 0]


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
    """Make the error about a label that holds colors, or floating-point numbers, where values are expected."""
    if mode == "F":
        return InputError(
            f"{path}: found a label of floating-point numbers; expected whole numbers, one for each class",
            hint="save it as 8 or 16-bit integers, for example with gdal_translate -ot Byte",
        )
    return InputError(
        f"{path}: found a label of mode {mode!r} (colors); expected one channel of class values",
        hint="convert colors to values first, each color to the value in classes.toml, or name the channel that "
        "holds the values: `channel = 0` at its top",
    )
