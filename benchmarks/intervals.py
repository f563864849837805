"""Mean IoU of (P, C, C) counts, one confusion matrix per image, with 95% intervals over groups or blocks of a film."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import find_groups
from dilated.evaluation.intervals import Interval, compute_differences, compute_intervals
from dilated.evaluation.metrics import stack_image_counts


def mean_iou_interval(counts: NDArray[np.int64], names: Sequence[str]) -> Interval:
    """Compute the mean IoU over all images with its interval; the names tell the groups."""
    return compute_intervals(stack_image_counts(counts), counts.shape[-1], find_groups(names)).metrics["mean_iou"][0]


def mean_iou_difference(candidate: NDArray[np.int64], baseline: NDArray[np.int64], names: Sequence[str]) -> Interval:
    """Compute the mean IoU of one network minus that of another, on the same images, paired."""
    counts = stack_image_counts(candidate), stack_image_counts(baseline)
    return compute_differences(*counts, candidate.shape[-1], find_groups(names)).metrics["mean_iou"][0]
