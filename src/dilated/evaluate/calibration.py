"""Calibration: whether a network that is 80% sure is right 80% of the time.

    counts = reliability_counts(prediction.scores, prediction.labels, target)    # of one picture
    error(counts)                                                                # expected calibration error (ECE)

The confidence of a pixel is the greatest of its softmax probabilities. Pixels are put into 15 bins of equal width,
bin m holding those above m / 15 and at most (m + 1) / 15; the ECE is the mean over pixels of how far the bin's share
of right labels is from its mean confidence. Confidences are summed as whole multiples of 2**-31, which the 32-bit
floats of up to 255 classes are: the sum is exact, and the same however pictures are shared out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dilated.data.labels import IGNORE

BINS = 15
UNIT = 31  # a confidence of 1 is 2**UNIT


@dataclass(frozen=True)
class ReliabilityCounts:
    """By bin, (BINS,) int64 or (P, BINS) of P pictures: pixels, the right ones, the sum of confidences in 2**-31."""

    pixels: NDArray[np.int64]
    hits: NDArray[np.int64]
    confidence: NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """One row of a reliability table: pixels of a confidence in (low, high], their mean confidence and accuracy."""

    low: float
    high: float
    pixels: int
    confidence: float
    accuracy: float


def reliability_counts(scores: Tensor, labels: ArrayLike, target: ArrayLike) -> ReliabilityCounts:
    """Count the bins of one picture.

    Args:
        scores: (C, H, W) before the softmax.
        labels: (H, W) the ids of the greatest scores.
        target: (H, W) true ids, 255 where not labelled.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[[0.0, 9.0]], [[0.0, -9.0]]])
        >>> counts = reliability_counts(scores, np.array([[0, 0]]), np.array([[1, 0]]))
        >>> [(one.pixels, round(one.confidence, 2), one.accuracy) for one in bins(counts) if one.pixels]
        [(1, 0.5, 0.0), (1, 1.0, 1.0)]
    """
    labels, target = np.asarray(labels), np.asarray(target)
    counted = target != IGNORE
    sure = scores.float().softmax(0).amax(0).cpu().numpy()[counted]
    units = np.rint(sure.astype(np.float64) * 2**UNIT).astype(np.int64).clip(1, 2**UNIT)
    place = (units * BINS - 1) >> UNIT
    right = labels[counted] == target[counted]
    pixels = np.bincount(place, minlength=BINS).astype(np.int64)
    hits = np.bincount(place[right], minlength=BINS).astype(np.int64)
    confidence = np.zeros(BINS, dtype=np.int64)
    np.add.at(confidence, place, units)
    return ReliabilityCounts(pixels, hits, confidence)


def bins(counts: ReliabilityCounts) -> list[Bin]:
    """The reliability table; counts of several pictures are pooled. An empty bin has NaN for its means."""
    pixels, hits, units = (_pooled(part) for part in (counts.pixels, counts.hits, counts.confidence))
    table = []
    for m in range(BINS):
        accuracy = hits[m] / pixels[m] if pixels[m] else float("nan")
        confidence = units[m] / pixels[m] / 2**UNIT if pixels[m] else float("nan")
        table.append(Bin(m / BINS, (m + 1) / BINS, pixels[m], confidence, accuracy))
    return table


def error(counts: ReliabilityCounts) -> float:
    """The expected calibration error, of 0 to 1; NaN without pixels.

    Example:
        >>> half = np.array([[0] * 14 + [10]])
        >>> error(ReliabilityCounts(half, half // 2, half << 31))
        0.5
    """
    total = sum(_pooled(counts.pixels))
    apart = sum(abs(h * 2**UNIT - u) for h, u in zip(_pooled(counts.hits), _pooled(counts.confidence), strict=True))
    return apart / total / 2**UNIT if total else float("nan")


def _pooled(part: NDArray[np.int64]) -> list[int]:
    """Sums by bin in Python's integers, which do not overflow."""
    return [sum(column) for column in part.reshape(-1, BINS).T.tolist()]
