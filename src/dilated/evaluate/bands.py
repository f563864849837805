"""Bands along the borders between labels, of any width, for all classes at once.

    near = near_another(labels, labels != 255, 3)        # (H, W): another label within 3 pixels
    near |= at_edge(labels.shape, 3)                     # or the end of the picture

A pixel is within `width` of another where the square of 2 width + 1 pixels around it holds that other: as many
erosions with a square of 3 take it off a mask. In the square there is another label than the pixel's own if the
greatest or the least label there is not its own; so two running extremes serve any number of classes, and label ids
are never subtracted from one another. A pixel that is not labelled is neither: it makes no border and hides none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def near_another(labels: Bytes, counted: Mask, width: int) -> Mask:
    """Where a pixel of another label is near.

    Args:
        labels: (H, W) ids; what they are where nothing is counted is not looked at.
        counted: (H, W), the labelled pixels.
        width: how far is near, in pixels, diagonals being as near as sides.

    Returns:
        (H, W): labelled, and another labelled pixel of another label within `width`.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> labels = np.array([[1, 1, 1, 2, 2, 0]], np.uint8)
        >>> near_another(labels, labels > 0, 1).astype(int).tolist()
        [[0, 0, 1, 1, 0, 0]]
    """
    if width < 1:
        raise ValueError(f"near_another: found a width of {width}; expected at least 1 pixel")
    greatest = _running(np.where(counted, labels, np.uint8(0)), width, np.maximum)
    least = _running(np.where(counted, labels, np.uint8(255)), width, np.minimum)
    near: Mask = counted & ((greatest != labels) | (least != labels))
    return near


def at_edge(shape: tuple[int, ...], width: int) -> Mask:
    """Where the outside of a picture of (H, W) is within `width` pixels.

    Example:
        >>> at_edge((3, 4), 1).astype(int).tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    edge = np.ones(shape, dtype=bool)
    height, wide = shape
    edge[width : max(height - width, width), width : max(wide - width, width)] = False
    return edge


def _running(values: Bytes, width: int, extreme: Callable[..., Bytes]) -> Bytes:
    """The extreme over the square around each pixel, as far as the picture goes: rows, then columns."""
    return _along(_along(values.copy(), width, extreme).T.copy(), width, extreme).T


def _along(values: Bytes, width: int, extreme: Callable[..., Bytes]) -> Bytes:
    """The extreme of up to `width` rows above and below, in place: windows that double until they are wide enough."""
    below = values.copy()
    _ahead(values, width, extreme)
    _ahead(below[::-1], width, extreme)
    return extreme(values, below)


def _ahead(values: Bytes, width: int, extreme: Callable[..., Bytes]) -> None:
    """In place: the extreme of each row and the `width` rows after it."""
    seen = 0  # rows beyond its own that each row has seen
    while seen < width:
        step = min(seen + 1, width - seen)
        if step < len(values):
            values[:-step] = extreme(values[:-step], values[step:])
        seen += step
