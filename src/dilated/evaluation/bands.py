"""Bands along the borders between labels, of any width, for all classes at once.

    near = near_another(labels, labels != 255, 3)        # (H, W): another label within 3 pixels
    near |= at_edge(labels.shape, 3)                     # or the end of the image

A pixel is within `width` of another where the square of 2 width + 1 pixels around it holds that other: as many
erosions with a square of 3 take it off a mask. In the square there is another label than the pixel's own if the
greatest or the least label there is not its own; so two running extremes serve any number of classes, and label ids
are never subtracted from one another. A pixel that is not labelled is neither: it makes no border and hides none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_LabelArray = NDArray[np.uint8]
_BoolArray = NDArray[np.bool_]


def find_boundary_band(labels: _LabelArray, valid: _BoolArray, width: int) -> _BoolArray:
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
        >>> find_boundary_band(labels, labels > 0, 1).astype(int).tolist()
        [[0, 0, 1, 1, 0, 0]]
    """
    if width < 1:
        raise ValueError(f"near_another: found a width of {width}; expected at least 1 pixel")
    maximum = _sliding_extremum(np.where(valid, labels, np.uint8(0)), width, np.maximum)
    minimum = _sliding_extremum(np.where(valid, labels, np.uint8(255)), width, np.minimum)
    band: _BoolArray = valid & ((maximum != labels) | (minimum != labels))
    return band


def find_image_border_band(shape: tuple[int, ...], width: int) -> _BoolArray:
    """Where the outside of an image of (H, W) is within `width` pixels.

    Example:
        >>> find_image_border_band((3, 4), 1).astype(int).tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    band = np.ones(shape, dtype=bool)
    rows, columns = shape
    band[width : max(rows - width, width), width : max(columns - width, width)] = False
    return band


def _sliding_extremum(values: _LabelArray, width: int, reduce: Callable[..., _LabelArray]) -> _LabelArray:
    """The extreme over the square around each pixel, as far as the image goes: rows, then columns."""
    return _sliding_extremum_over_rows(
        _sliding_extremum_over_rows(values.copy(), width, reduce).T.copy(), width, reduce
    ).T


def _sliding_extremum_over_rows(values: _LabelArray, width: int, reduce: Callable[..., _LabelArray]) -> _LabelArray:
    """The extreme of up to `width` rows above and below, in place: windows that double until they are wide enough."""
    reversed_values = values.copy()
    _extremum_of_following_rows(values, width, reduce)
    _extremum_of_following_rows(reversed_values[::-1], width, reduce)
    return reduce(values, reversed_values)


def _extremum_of_following_rows(values: _LabelArray, width: int, reduce: Callable[..., _LabelArray]) -> None:
    """In place: the extreme of each row and the `width` rows after it."""
    covered = 0  # rows beyond its own that each row has seen
    while covered < width:
        step = min(covered + 1, width - covered)
        if step < len(values):
            values[:-step] = reduce(values[:-step], values[step:])
        covered += step
