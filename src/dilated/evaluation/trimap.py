"""Trimap curves: how good the labels are within 1, 2, 4, ... pixels of a true border.

    counts = trimap_counts(labels, target, 11, widths=(1, 2, 4, 8))      # of one image
    counts.curve("mean_iou")                                            # mean IoU within each band

The bands are those of the truth: a pixel is in the band of `w` where a pixel of another true label is at most w away,
so the band is 2 w wide. Pixels that are not labelled count nowhere and make no border; where they lie between two
classes, as around the objects of PASCAL VOC, the band begins beyond them. The edge of the image is not a border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.data.labels import IGNORE
from dilated.errors import InputError
from dilated.evaluation.boundary import find_boundary_band
from dilated.evaluation.metrics import ImageCounts, compute_metrics


@dataclass(frozen=True)
class TrimapCounts(ImageCounts):
    """Pixels in the bands by width and class.

    IoU, Dice and accuracy follow from three counts per class; confusion matrices would fill the memory with many
    classes.
    """

    widths: tuple[int, ...]
    """Pixels from a true border, increasing."""
    counts: NDArray[np.int64]
    """(W, 3, C), or (P, W, 3, C) of P images: correct, true and predicted pixels in each band."""

    @classmethod
    def zeros(cls, num_images: int, num_classes: int, widths: tuple[int, ...]) -> TrimapCounts:
        return cls(widths, np.zeros((num_images, len(widths), 3, num_classes), dtype=np.int64))

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(W,): labelled pixels in each band."""
        pixels: NDArray[np.int64] = self._pooled[:, 1].sum(-1)
        return pixels

    @property
    def _pooled(self) -> NDArray[np.int64]:
        return self.counts.sum(0) if self.counts.ndim == 4 else self.counts

    def curve(self, metric: str) -> NDArray[np.float64]:
        """Compute `mean_iou` or `pixel_accuracy` within each band, (W,), over all images; NaN in an empty band."""
        num_widths, _, num_classes = self._pooled.shape
        return compute_metrics(self._pooled.reshape(num_widths, -1), num_classes)[metric][:, 0]


def trimap_counts(labels: ArrayLike, target: ArrayLike, num_classes: int, widths: Sequence[int]) -> TrimapCounts:
    """Count the bands of one image.

    Args:
        labels: (H, W) predicted ids below `num_classes`; any value where the target is 255.
        target: (H, W) true ids, 255 where not labelled.
        widths: pixels from a true border, increasing.

    Raises:
        InputError: widths that do not increase or are not positive.

    Example:
        >>> target = np.array([[0, 0, 0, 1, 1, 1]])
        >>> counts = trimap_counts(np.array([[0, 0, 1, 1, 1, 1]]), target, 2, (1, 3))
        >>> counts.curve("mean_iou").tolist()
        [0.25, 0.7083333333333333]
    """
    widths = validate_widths(widths)
    labels, target = np.asarray(labels), np.asarray(target)
    valid = target != IGNORE
    truth = target.astype(np.uint8)
    band_index = np.full(target.shape, len(widths), dtype=np.int64)  # of the narrowest band that holds the pixel
    for band in reversed(range(len(widths))):
        band_index[find_boundary_band(truth, valid, widths[band])] = band
    inside = band_index < len(widths)
    band_indices, target_ids = band_index[inside], truth[inside].astype(np.int64)
    prediction = labels[inside].astype(np.int64)
    correct = target_ids == prediction
    ids_of = [(band_indices[correct], target_ids[correct]), (band_indices, target_ids), (band_indices, prediction)]
    counts = np.stack([_count_by_band(*ids, len(widths), num_classes) for ids in ids_of], axis=1)
    return TrimapCounts(widths, counts.cumsum(0))  # a wider band holds the narrower ones


def validate_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Check that widths are positive, each greater than the one before.

    Raises:
        InputError: widths that are not.
    """
    if any(width < 1 for width in widths) or any(a >= b for a, b in pairwise(widths)):
        raise InputError(f"trimap: found {list(widths)}", hint="give increasing widths in pixels, such as 1 2 4 8")
    return tuple(int(width) for width in widths)


def _count_by_band(
    band_indices: NDArray[np.int64], ids: NDArray[np.int64], num_widths: int, num_classes: int
) -> NDArray[np.int64]:
    """Count pixels by ring between two widths and by id: (W, C)."""
    counts = np.bincount(band_indices * num_classes + ids, minlength=num_widths * num_classes)
    return counts.reshape(num_widths, num_classes).astype(np.int64)
