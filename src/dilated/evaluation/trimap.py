"""Trimap curves: how good the labels are within 1, 2, 4, ... pixels of a true border.

    counts = trimap_counts(labels, target, 11, widths=(1, 2, 4, 8))      # of one image
    curve(counts)                                                        # mean IoU within each band

The bands are those of the truth: a pixel is in the band of `w` where a pixel of another true label is at most w away,
so the band is 2 w wide. Pixels that are not labelled count nowhere and make no border; where they lie between two
classes, as around the things of PASCAL VOC, the band begins beyond them. The end of the image is no border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.data.labels import IGNORE
from dilated.errors import InputError
from dilated.evaluation.bands import find_boundary_band
from dilated.evaluation.confusion import nanmean, safe_divide


@dataclass(frozen=True)
class TrimapCounts:
    """`counts`: (W, 3, C) int64, or (P, W, 3, C) of P images: by width, the pixels of each class in the band that
    are right, of the truth, and of the prediction. IoU, Dice and accuracy follow from these three; whole confusion
    matrices would fill the memory with many classes.
    """

    widths: tuple[int, ...]
    counts: NDArray[np.int64]


def trimap_counts(labels: ArrayLike, target: ArrayLike, classes: int, widths: Sequence[int]) -> TrimapCounts:
    """Count the bands of one image.

    Args:
        labels: (H, W) predicted ids below `classes`; any value where the target is 255.
        target: (H, W) true ids, 255 where not labelled.
        widths: pixels from the border, growing.

    Raises:
        InputError: widths that do not grow, or are not positive.

    Example:
        >>> target = np.array([[0, 0, 0, 1, 1, 1]])
        >>> found = trimap_counts(np.array([[0, 0, 1, 1, 1, 1]]), target, 2, (1, 3))
        >>> mean_iou_curve(found).tolist()
        [0.25, 0.7083333333333333]
    """
    widths = validate_widths(widths)
    labels, target = np.asarray(labels), np.asarray(target)
    valid = target != IGNORE
    truth = target.astype(np.uint8)
    band_index = np.full(target.shape, len(widths), dtype=np.int64)  # the place of the first band that a pixel is in
    for band in reversed(range(len(widths))):
        band_index[find_boundary_band(truth, valid, widths[band])] = band
    inside = band_index < len(widths)
    band_indices, target_ids, prediction = (
        band_index[inside],
        truth[inside].astype(np.int64),
        labels[inside].astype(np.int64),
    )
    correct = target_ids == prediction
    found = [(band_indices[correct], target_ids[correct]), (band_indices, target_ids), (band_indices, prediction)]
    counts = np.stack([_count_by_band(*one, len(widths), classes) for one in found], axis=1)
    return TrimapCounts(widths, counts.cumsum(0))  # a wider band holds the narrower


def mean_iou_curve(trimap: TrimapCounts) -> NDArray[np.float64]:
    """Mean IoU within each band, (W,); NaN for a band without pixels. Counts of several images are pooled."""
    counts = trimap.counts.sum(0) if trimap.counts.ndim == 4 else trimap.counts
    intersection, truth, prediction = counts[:, 0], counts[:, 1], counts[:, 2]
    return nanmean(safe_divide(intersection, truth + prediction - intersection))


def pixel_accuracy_curve(trimap: TrimapCounts) -> NDArray[np.float64]:
    """The share of right pixels within each band, (W,); NaN for a band without pixels."""
    counts = trimap.counts.sum(0) if trimap.counts.ndim == 4 else trimap.counts
    return safe_divide(counts[:, 0].sum(-1), counts[:, 1].sum(-1))


def validate_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Widths as they must be: positive, each greater than the one before.

    Raises:
        InputError: widths that are not.
    """
    if any(width < 1 for width in widths) or any(a >= b for a, b in pairwise(widths)):
        raise InputError(f"trimap: found {list(widths)}; expected pixels that grow, such as 1 2 4 8")
    return tuple(int(width) for width in widths)


def _count_by_band(
    band_indices: NDArray[np.int64], ids: NDArray[np.int64], widths: int, classes: int
) -> NDArray[np.int64]:
    """(W, C): pixels by ring and id."""
    return (
        np.bincount(band_indices * classes + ids, minlength=widths * classes).reshape(widths, classes).astype(np.int64)
    )
