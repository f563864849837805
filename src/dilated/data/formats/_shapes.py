"""Shapes of annotation tools beside polygons and COCO's runs: boxes, ellipses, and runs of a part of the image.

    shape = Ellipse((20.0, 10.0), (8.0, 4.0), 30.0)
    shape((40, 60))                                      # the mask (40, 60)

Corners and centers are in pixels: pixel (0, 0) covers 0 to 1 along both axes, and belongs to a shape if its center
does. Angles are in degrees, clockwise on the screen. What lies outside the image is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._objects import Polygons
from dilated.data.images import get_pixel_limit
from dilated.data.masks import Mask, decode_rle
from dilated.errors import InputError
from dilated.palettes import Color

_GREATEST = 1e6  # of the coordinates that are taken, in pixels


def make_box(
    left: float, top: float, width: float, height: float, angle: float = 0.0, pivot: tuple[float, float] | None = None
) -> Polygons:
    """A box, turned about a point.

    Args:
        angle: degrees, clockwise.
        pivot: x and y of the point; by default the center of the box.

    Example:
        >>> make_box(1, 0, 2, 1)((2, 4)).astype(int).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    center = np.array(pivot or (left + width / 2, top + height / 2))
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)]) + np.array([left, top]) - center
    if angle:  # a turn by zero would round
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        corners = corners @ np.array([(cosine, sine), (-sine, cosine)])
    return Polygons((corners + center,))


@dataclass(frozen=True, eq=False)
class Ellipse:
    """An ellipse.

    Args:
        center: x and y.
        radii: along x and along y, before the turn.
        angle: degrees, clockwise.
    """

    center: tuple[float, float]
    radii: tuple[float, float]
    angle: float = 0.0

    def __call__(self, size: tuple[int, int]) -> Mask:
        mask: Mask = np.zeros(size, dtype=np.bool_)
        (x, y), reach = self.center, max(self.radii)
        top, bottom = (int(np.clip(v, 0, size[0])) for v in (y - reach - 1, y + reach + 1))
        left, right = (int(np.clip(v, 0, size[1])) for v in (x - reach - 1, x + reach + 1))
        rows, columns = np.mgrid[top:bottom, left:right] + 0.5
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        across = ((columns - x) * cosine + (rows - y) * sine) / self.radii[0]
        down = ((rows - y) * cosine - (columns - x) * sine) / self.radii[1]
        mask[top:bottom, left:right] = across**2 + down**2 <= 1
        return mask


@dataclass(frozen=True, eq=False)
class RowRuns:
    """A mask of a part of the image as run lengths, row by row: how many pixels are off, then on, then off, ...

    Args:
        counts: (n,) the runs.
        box: left, top, width and height of the part.
    """

    counts: NDArray[np.int64]
    box: tuple[int, int, int, int]

    def __call__(self, size: tuple[int, int]) -> Mask:
        """The mask (H, W).

        Raises:
            InputError: runs that do not fill the box.
        """
        left, top, width, height = self.box
        if width * height > get_pixel_limit():
            raise InputError(f"its mask of {width}x{height} exceeds the {get_pixel_limit()} pixels that are read")
        return paste_mask(decode_rle(self.counts, (width, height)).T, left, top, size)


def parse_points(where: str, values: object, minimum: int, what: str) -> NDArray[np.float64]:
    """Points as (n, 2), checked.

    Args:
        where: the file and the object.
        minimum: how many there must be.
        what: the name of the shape.

    Raises:
        InputError: too few, or anything but pairs of numbers below a million.
    """
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < minimum or not (np.abs(points) < _GREATEST).all():
        raise InputError(
            f"{where}: cannot draw a {what} of the points {values!r:.80}",
            hint=f"give {minimum} pairs of x and y or more, below a million",
        )
    return points


def parse_number(where: str, value: object, name: str) -> float:
    """A coordinate, a length or an angle, also one written as text.

    Raises:
        InputError: no number, or a million and more.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) < _GREATEST:
        raise InputError(f"{where}: {name} is {value!r:.60}", hint="give a number below a million")
    return number


def parse_whole_numbers(where: str, values: Sequence[object], name: str) -> NDArray[np.int64]:
    """Whole numbers, also written as text, as (n,).

    Raises:
        InputError: anything else.
    """
    try:
        return np.array([int(value) for value in values], dtype=np.int64)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {name} holds {values!r:.60}", hint="give whole numbers") from error


def parse_hex_color(text: object) -> Color | None:
    """The color of a text such as `#fa3253`, if it is one.

    Example:
        >>> parse_hex_color("#fa3253")
        (250, 50, 83)
    """
    digits = text.strip().removeprefix("#") if isinstance(text, str) else ""
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        return None
    return (value[0], value[1], value[2]) if len(value) == 3 else None


def paste_mask(part: Mask, left: int, top: int, size: tuple[int, int]) -> Mask:
    """A part at its place in a mask (H, W); what lies outside is cut off."""
    mask: Mask = np.zeros(size, dtype=np.bool_)
    first_row, first_column = max(0, -top), max(0, -left)
    part = part[first_row : max(0, size[0] - top), first_column : max(0, size[1] - left)]
    row, column = max(0, top), max(0, left)
    mask[row : row + part.shape[0], column : column + part.shape[1]] = part
    return mask
