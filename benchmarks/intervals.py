"""Mean IoU of (P, C, C) counts, one confusion matrix per image, with 95% intervals over the images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.bootstrap import Interval, compute_differences, compute_intervals
from dilated.evaluation.metrics import stack_image_counts


def mean_iou_interval(counts: NDArray[np.int64]) -> Interval:
    """Compute the mean IoU over all images with its interval."""
    return compute_intervals(stack_image_counts(counts), counts.shape[-1])["mean_iou"][0]


def mean_iou_difference(candidate: NDArray[np.int64], baseline: NDArray[np.int64]) -> Interval:
    """Compute the mean IoU of one network minus that of another, on the same images and the same resamples."""
    counts = stack_image_counts(candidate), stack_image_counts(baseline)
    return compute_differences(*counts, candidate.shape[-1])["mean_iou"][0]
