"""Calibration: whether a network that is 80% sure is right 80% of the time.

    counts = reliability_counts(prediction.logits, prediction.labels, target)    # of one image
    expected_calibration_error(counts)                                           # ECE, 0 to 1

The confidence of a pixel is the greatest of its softmax probabilities. Pixels are put into 15 bins of equal width,
bin m holding those above m / 15 and at most (m + 1) / 15; the ECE is the mean over pixels of the distance between the
bin's accuracy and its mean confidence. Confidences are summed as whole multiples of 2**-31, which the 32-bit floats of
up to 255 classes are: the sum is exact, and the same however the images are divided among processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dilated.evaluation.metrics import ImageCounts
from dilated.label_ids import ignore_id

NUM_BINS = 15
CONFIDENCE_BITS = 31  # a confidence of 1 is 2**31


@dataclass(frozen=True)
class ReliabilityCounts(ImageCounts):
    """Counts by bin, (NUM_BINS,), or (P, NUM_BINS) of P images."""

    pixels: NDArray[np.int64]
    correct: NDArray[np.int64]
    confidence: NDArray[np.int64]
    """The sum of confidences, in multiples of 2**-31."""

    @classmethod
    def zeros(cls, num_images: int) -> ReliabilityCounts:
        return cls(*np.zeros((3, num_images, NUM_BINS), dtype=np.int64))

    @property
    def mean_confidence(self) -> float:
        """The mean over all pixels; NaN without pixels."""
        total = sum(_pool_images(self.pixels))
        return sum(_pool_images(self.confidence)) / total / 2**CONFIDENCE_BITS if total else float("nan")


@dataclass(frozen=True)
class ReliabilityBin:
    """One row of a reliability table: pixels of a confidence in (low, high], their mean confidence and accuracy."""

    low: float
    high: float
    pixels: int
    confidence: float
    accuracy: float


def reliability_counts(logits: Tensor, labels: ArrayLike, target: ArrayLike) -> ReliabilityCounts:
    """Count the bins of one image.

    Args:
        logits: (C, H, W), before the softmax.
        labels: (H, W) ids, ignored where a pixel was left unknown, which counts nowhere.
        target: (H, W) true ids, ignored where not labelled.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 9.0]], [[0.0, -9.0]]])
        >>> counts = reliability_counts(logits, np.array([[0, 0]]), np.array([[1, 0]]))
        >>> for row in compute_reliability_bins(counts):
        ...     if row.pixels:
        ...         print(row.pixels, round(row.confidence, 2), row.accuracy)
        1 0.5 0.0
        1 1.0 1.0
    """
    labels, target = np.asarray(labels), np.asarray(target)
    ignore = ignore_id(len(logits))
    valid = (target != ignore) & (labels != ignore)
    confidences = logits.float().softmax(0).amax(0).cpu().numpy()[valid]
    fixed_point = np.rint(confidences.astype(np.float64) * 2**CONFIDENCE_BITS).astype(np.int64)
    fixed_point = fixed_point.clip(1, 2**CONFIDENCE_BITS)
    bin_index = (fixed_point * NUM_BINS - 1) >> CONFIDENCE_BITS
    is_correct = labels[valid] == target[valid]
    pixels = np.bincount(bin_index, minlength=NUM_BINS).astype(np.int64)
    correct = np.bincount(bin_index[is_correct], minlength=NUM_BINS).astype(np.int64)
    confidence = np.zeros(NUM_BINS, dtype=np.int64)
    np.add.at(confidence, bin_index, fixed_point)
    return ReliabilityCounts(pixels, correct, confidence)


def compute_reliability_bins(counts: ReliabilityCounts) -> list[ReliabilityBin]:
    """Compute the reliability table, over all images; the means of an empty bin are NaN."""
    pixels, correct, fixed_point = (_pool_images(part) for part in (counts.pixels, counts.correct, counts.confidence))
    table = []
    for m in range(NUM_BINS):
        accuracy = correct[m] / pixels[m] if pixels[m] else float("nan")
        confidence = fixed_point[m] / pixels[m] / 2**CONFIDENCE_BITS if pixels[m] else float("nan")
        table.append(ReliabilityBin(m / NUM_BINS, (m + 1) / NUM_BINS, pixels[m], confidence, accuracy))
    return table


def expected_calibration_error(counts: ReliabilityCounts) -> float:
    """Compute the expected calibration error, 0 to 1; NaN without pixels.

    Example:
        >>> half = np.array([[0] * 14 + [10]])
        >>> expected_calibration_error(ReliabilityCounts(half, half // 2, half << 31))
        0.5
    """
    total = sum(_pool_images(counts.pixels))
    sums = zip(_pool_images(counts.correct), _pool_images(counts.confidence), strict=True)
    total_gap = sum(abs(correct * 2**CONFIDENCE_BITS - confidence) for correct, confidence in sums)
    return total_gap / total / 2**CONFIDENCE_BITS if total else float("nan")


def _pool_images(part: NDArray[np.int64]) -> list[int]:
    """Sum by bin in Python's integers, which do not overflow."""
    return [sum(column) for column in part.reshape(-1, NUM_BINS).T.tolist()]
