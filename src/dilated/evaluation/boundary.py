"""Boundary IoU: intersection over union of the inner bands along the outlines of truth and prediction.

    counts = boundary_counts(labels, target, classes=11)     # hits and union by class, of one image
    ratio(counts.hits, counts.union)

As in Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (2021): of each class's
mask, what lies within d pixels of its outside, d being 2% of the image's diagonal, rounded, at least 1; the outside
of the image is outside of every mask. Large things cannot hide a bad outline behind their area. Pixels that are not
labelled count nowhere, and neither the truth nor the prediction has an outline there. A class is one mask: borders
between things of the same class are not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.data.labels import IGNORE
from dilated.errors import InputError
from dilated.evaluation.bands import find_boundary_band, find_image_border_band

DEFAULT_BOUNDARY_WIDTH = 0.02


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixels of the bands by class: `hits` are in both bands, `union` in either; (C,), or (P, C) of P images.

    `width` is how wide the bands are: below 1 a share of each image's diagonal, else pixels.
    """

    intersection: NDArray[np.int64]
    union: NDArray[np.int64]
    width: float = DEFAULT_BOUNDARY_WIDTH


def boundary_counts(
    labels: ArrayLike, target: ArrayLike, classes: int, width: float = DEFAULT_BOUNDARY_WIDTH
) -> BoundaryCounts:
    """Count the bands of one image.

    Args:
        labels: (H, W) predicted ids below `classes`; any value where the target is 255.
        target: (H, W) true ids, 255 where not labelled.
        width: of the bands: below 1 a share of the diagonal, else whole pixels.

    Returns:
        `hits` and `union`, (classes,) int64 each.

    Raises:
        InputError: a width that is neither a share nor whole pixels.

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
    intersection = np.bincount(truth[truth_band & prediction_band & (truth == prediction)], minlength=classes)
    total = np.bincount(truth[truth_band], minlength=classes) + np.bincount(
        prediction[prediction_band], minlength=classes
    )
    return BoundaryCounts(intersection.astype(np.int64), (total - intersection).astype(np.int64), width)


def band_width_in_pixels(shape: tuple[int, ...], width: float = DEFAULT_BOUNDARY_WIDTH) -> int:
    """The pixels that a width means in an image of (H, W).

    Raises:
        InputError: a width that is neither a share of the diagonal nor whole pixels.

    Example:
        >>> band_width_in_pixels((1024, 2048)), band_width_in_pixels((10, 10)), band_width_in_pixels((10, 10), 3)
        (46, 1, 3)
    """
    if not (0 < width < 1 or (math.isfinite(width) and width >= 1 and width == int(width))):
        raise InputError(
            f"boundary width: found {width:g}; expected a share of the diagonal between 0 and 1, or whole pixels"
        )
    return int(width) if width >= 1 else max(1, round(width * math.hypot(*shape)))
