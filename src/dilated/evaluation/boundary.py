"""Boundary IoU, and the bands along the borders between labels that it and the trimap curves are measured in.

    counts = boundary_counts(labels, target, num_classes=11)     # intersection and union by class, of one image
    safe_divide(counts.intersection, counts.union)

Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", 2021) is the
intersection over union of the inner bands along the outlines of truth and prediction: of each class's mask, what lies
within d pixels of its outside, d being 2% of the image's diagonal, rounded, at least 1; the outside of the image is
outside of every mask. Large objects cannot hide a bad outline behind their area. Pixels that are not labelled count
nowhere, and neither the truth nor the prediction has an outline there. A class is one mask: borders between objects of
the same class are not seen.

A pixel is within `width` of another label where the square of 2 width + 1 pixels around it holds one: `width` erosions
with a 3x3 square remove it from its mask. The square holds another label if the maximum or the minimum over it is not
the pixel's own, so two sliding extrema serve any number of classes, and label ids are never subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.data.labels import IGNORE
from dilated.errors import InputError
from dilated.evaluation.metrics import ImageCounts

_LabelArray = NDArray[np.uint8]
_BoolArray = NDArray[np.bool_]

DEFAULT_BOUNDARY_WIDTH = 0.02


@dataclass(frozen=True)
class BoundaryCounts(ImageCounts):
    """Pixels of the bands by class, (C,), or (P, C) of P images."""

    intersection: NDArray[np.int64]
    """Pixels in both bands."""
    union: NDArray[np.int64]
    """Pixels in either band."""
    width: float = DEFAULT_BOUNDARY_WIDTH
    """Width of the bands: below 1 a fraction of each image's diagonal, else pixels."""

    @classmethod
    def zeros(cls, num_images: int, num_classes: int, width: float) -> BoundaryCounts:
        intersection, union = np.zeros((2, num_images, num_classes), dtype=np.int64)
        return cls(intersection, union, width)


def boundary_counts(
    labels: ArrayLike, target: ArrayLike, num_classes: int, width: float = DEFAULT_BOUNDARY_WIDTH
) -> BoundaryCounts:
    """Count the bands of one image.

    Args:
        labels: (H, W) predicted ids below `num_classes`; any value where the target is 255.
        target: (H, W) true ids, 255 where not labelled.
        width: width of the bands: below 1 a fraction of the diagonal, else whole pixels.

    Raises:
        InputError: a width that is neither a fraction nor whole pixels.

    Example:
        >>> target = np.zeros((4, 6), np.uint8)
        >>> target[:, 3:] = 1
        >>> counts = boundary_counts(np.zeros_like(target), target, 2, width=1)
        >>> counts.intersection.tolist(), counts.union.tolist()
        ([8, 0], [18, 10])
    """
    labels, target = np.asarray(labels), np.asarray(target)
    valid = target != IGNORE
    truth, prediction = target.astype(np.uint8), labels.astype(np.uint8)
    pixels = band_width_in_pixels(target.shape, width)
    image_border = find_image_border_band(target.shape, pixels)
    truth_band = valid & (image_border | find_boundary_band(truth, valid, pixels))
    prediction_band = valid & (image_border | find_boundary_band(prediction, valid, pixels))
    intersection = np.bincount(truth[truth_band & prediction_band & (truth == prediction)], minlength=num_classes)
    truth_areas = np.bincount(truth[truth_band], minlength=num_classes)
    total = truth_areas + np.bincount(prediction[prediction_band], minlength=num_classes)
    return BoundaryCounts(intersection.astype(np.int64), (total - intersection).astype(np.int64), width)


def band_width_in_pixels(shape: tuple[int, ...], width: float = DEFAULT_BOUNDARY_WIDTH) -> int:
    """Convert a width to pixels, for an image of (H, W).

    Raises:
        InputError: a width that is neither a fraction of the diagonal nor whole pixels.

    Example:
        >>> band_width_in_pixels((1024, 2048)), band_width_in_pixels((10, 10)), band_width_in_pixels((10, 10), 3)
        (46, 1, 3)
    """
    if not (0 < width < 1 or (math.isfinite(width) and width >= 1 and width == int(width))):
        raise InputError(
            f"boundary width: found {width:g}",
            hint="give a fraction of the diagonal between 0 and 1, or whole pixels",
        )
    return int(width) if width >= 1 else max(1, round(width * math.hypot(*shape)))


def find_boundary_band(labels: _LabelArray, valid: _BoolArray, width: int) -> _BoolArray:
    """Find the pixels that are near another label.

    Args:
        labels: (H, W) ids; any value where `valid` is false.
        valid: (H, W), the labelled pixels; the others make no border and hide none.
        width: distance in pixels, a diagonal step counting as one.

    Returns:
        (H, W): whether the pixel is labelled and a labelled pixel of another label is within `width`.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> labels = np.array([[1, 1, 1, 2, 2, 0]], np.uint8)
        >>> find_boundary_band(labels, labels > 0, 1).astype(int).tolist()
        [[0, 0, 1, 1, 0, 0]]
    """
    if width < 1:
        raise ValueError(f"boundary band: found a width of {width}; expected at least 1 pixel")
    maximum = _sliding_extremum(np.where(valid, labels, np.uint8(0)), width, np.maximum)
    minimum = _sliding_extremum(np.where(valid, labels, np.uint8(255)), width, np.minimum)
    band: _BoolArray = valid & ((maximum != labels) | (minimum != labels))
    return band


def find_image_border_band(shape: tuple[int, ...], width: int) -> _BoolArray:
    """Find the pixels of an (H, W) image that are within `width` pixels of its outside.

    Example:
        >>> find_image_border_band((3, 4), 1).astype(int).tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    band = np.ones(shape, dtype=bool)
    rows, columns = shape
    band[width : max(rows - width, width), width : max(columns - width, width)] = False
    return band


def _sliding_extremum(values: _LabelArray, width: int, reduce: Callable[..., _LabelArray]) -> _LabelArray:
    """Reduce over the square around each pixel, as far as the image goes: rows, then columns."""
    over_rows = _sliding_extremum_over_rows(values.copy(), width, reduce)
    return _sliding_extremum_over_rows(over_rows.T.copy(), width, reduce).T


def _sliding_extremum_over_rows(values: _LabelArray, width: int, reduce: Callable[..., _LabelArray]) -> _LabelArray:
    """Reduce up to `width` rows above and below, in place, in windows that double until they are wide enough."""
    reversed_values = values.copy()
    _extremum_of_following_rows(values, width, reduce)
    _extremum_of_following_rows(reversed_values[::-1], width, reduce)
    return reduce(values, reversed_values)


def _extremum_of_following_rows(values: _LabelArray, width: int, reduce: Callable[..., _LabelArray]) -> None:
    """Reduce each row and the `width` rows after it, in place."""
    covered = 0  # following rows that each row includes so far
    while covered < width:
        step = min(covered + 1, width - covered)
        if step < len(values):
            values[:-step] = reduce(values[:-step], values[step:])
        covered += step
