"""Mean IoU of counts by image, (P, 3 C) or confusion matrices (P, C, C), with 95% intervals over groups or blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import find_groups
from dilated.evaluation.intervals import Interval, compute_differences, compute_intervals
from dilated.evaluation.metrics import stack_image_counts


def mean_iou_interval(counts: NDArray[np.int64], names: Sequence[str]) -> Interval:
    """Compute the mean IoU over all images with its interval; the names tell the groups."""
    rows = _to_rows(counts)
    return compute_intervals(rows, rows.shape[1] // 3, find_groups(names)).metrics["mean_iou"][0]


def mean_iou_difference(candidate: NDArray[np.int64], baseline: NDArray[np.int64], names: Sequence[str]) -> Interval:
    """Compute the mean IoU of one network minus that of another, on the same images, paired."""
    return mean_iou_difference_of_seeds([candidate], [baseline], names)


def mean_iou_difference_of_seeds(
    candidates: Sequence[NDArray[np.int64]], baselines: Sequence[NDArray[np.int64]], names: Sequence[str]
) -> Interval:
    """Compute the mean over trainings of one side minus that of another; with several, their variance is part of it."""
    ours, theirs = [_to_rows(counts) for counts in candidates], [_to_rows(counts) for counts in baselines]
    return compute_differences(ours, theirs, ours[0].shape[1] // 3, find_groups(names)).metrics["mean_iou"][0]


def _to_rows(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return stack_image_counts(counts) if counts.ndim == 3 else counts
