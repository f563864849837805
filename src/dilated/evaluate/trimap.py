"""Trimap curves: how good the labels are within 1, 2, 4, ... pixels of a true border.

    counts = trimap_counts(labels, target, 11, widths=(1, 2, 4, 8))      # of one picture
    curve(counts)                                                        # mean IoU within each band

The bands are those of the truth: a pixel is in the band of `w` where a pixel of another true label is at most w away,
so the band is 2 w wide. Pixels that are not labelled count nowhere and make no border; where they lie between two
classes, as around the things of PASCAL VOC, the band begins beyond them. The end of the picture is no border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.data.labels import IGNORE
from dilated.errors import InputError
from dilated.evaluate.bands import near_another
from dilated.evaluate.confusion import mean_of_known, ratio


@dataclass(frozen=True)
class TrimapCounts:
    """`counts`: (W, 3, C) int64, or (P, W, 3, C) of P pictures: by width, the pixels of each class in the band that
    are right, of the truth, and of the prediction. IoU, Dice and accuracy follow from these three; whole confusion
    matrices would fill the memory with many classes.
    """

    widths: tuple[int, ...]
    counts: NDArray[np.int64]


def trimap_counts(labels: ArrayLike, target: ArrayLike, classes: int, widths: Sequence[int]) -> TrimapCounts:
    """Count the bands of one picture.

    Args:
        labels: (H, W) predicted ids below `classes`; any value where the target is 255.
        target: (H, W) true ids, 255 where not labelled.
        widths: pixels from the border, growing.

    Raises:
        InputError: widths that do not grow, or are not positive.

    Example:
        >>> target = np.array([[0, 0, 0, 1, 1, 1]])
        >>> found = trimap_counts(np.array([[0, 0, 1, 1, 1, 1]]), target, 2, (1, 3))
        >>> curve(found).tolist()
        [0.25, 0.7083333333333333]
    """
    widths = check_widths(widths)
    labels, target = np.asarray(labels), np.asarray(target)
    counted = target != IGNORE
    truth = target.astype(np.uint8)
    ring = np.full(target.shape, len(widths), dtype=np.int64)  # the place of the first band that a pixel is in
    for place in reversed(range(len(widths))):
        ring[near_another(truth, counted, widths[place])] = place
    inside = ring < len(widths)
    rings, true, guess = ring[inside], truth[inside].astype(np.int64), labels[inside].astype(np.int64)
    right = true == guess
    found = [(rings[right], true[right]), (rings, true), (rings, guess)]
    counts = np.stack([_by_ring(*one, len(widths), classes) for one in found], axis=1)
    return TrimapCounts(widths, counts.cumsum(0))  # a wider band holds the narrower


def curve(trimap: TrimapCounts) -> NDArray[np.float64]:
    """Mean IoU within each band, (W,); NaN for a band without pixels. Counts of several pictures are pooled."""
    counts = trimap.counts.sum(0) if trimap.counts.ndim == 4 else trimap.counts
    hits, truth, guess = counts[:, 0], counts[:, 1], counts[:, 2]
    return mean_of_known(ratio(hits, truth + guess - hits))


def accuracy(trimap: TrimapCounts) -> NDArray[np.float64]:
    """The share of right pixels within each band, (W,); NaN for a band without pixels."""
    counts = trimap.counts.sum(0) if trimap.counts.ndim == 4 else trimap.counts
    return ratio(counts[:, 0].sum(-1), counts[:, 1].sum(-1))


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Widths as they must be: positive, each greater than the one before.

    Raises:
        InputError: widths that are not.
    """
    if any(width < 1 for width in widths) or any(a >= b for a, b in pairwise(widths)):
        raise InputError(f"trimap: found {list(widths)}; expected pixels that grow, such as 1 2 4 8")
    return tuple(int(width) for width in widths)


def _by_ring(rings: NDArray[np.int64], ids: NDArray[np.int64], widths: int, classes: int) -> NDArray[np.int64]:
    """(W, C): pixels by ring and id."""
    return np.bincount(rings * classes + ids, minlength=widths * classes).reshape(widths, classes).astype(np.int64)
