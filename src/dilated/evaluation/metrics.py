"""All figures that follow from counts by image, pooled, with their intervals.

    totals = by_picture(per_picture, boundary)           # (images, K) counts, all that the figures need
    figures(totals.sum(0), classes)["iou"]               # (C,)
    intervals(totals, classes)["iou"]                    # C intervals, over the images

Figures are ratios of sums over images, so one table of counts by image serves them all, and so do the same draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.bootstrap import NUM_RESAMPLES, Interval, percentile_intervals, resample_counts
from dilated.evaluation.boundary import BoundaryCounts
from dilated.evaluation.confusion import intersection_and_areas, nanmean, safe_divide


def stack_image_counts(per_image: NDArray[np.int64], boundary: BoundaryCounts | None = None) -> NDArray[np.int64]:
    """(P, C, C) counts -> (P, 3 C): right pixels, truth, prediction by class; (P, 5 C) with those of the boundaries."""
    parts = list(intersection_and_areas(per_image))
    if boundary is not None:
        parts += [boundary.intersection, boundary.union]
    return np.concatenate(parts, axis=-1)


def compute_metrics(counts: NDArray[np.int64], classes: int) -> dict[str, NDArray[np.float64]]:
    """The figures of pooled counts; NaN where a figure has nothing to be about.

    Args:
        totals: (..., K), sums over images of `stack_image_counts`.
        classes: C.

    Returns:
        (..., C) each: `iou`, `dice` (which is F1), `precision`, `recall`, with boundaries `boundary_iou`. (..., 1)
        each: `mean_iou`, `mean_dice`, `pixel_accuracy`, `mean_boundary_iou`.

    Example:
        >>> counts = stack_image_counts(np.array([[[3, 1], [0, 4]]])).sum(0)
        >>> {name: values.round(3).tolist() for name, values in compute_metrics(counts, 2).items() if name.endswith("iou")}
        {'iou': [0.75, 0.8], 'mean_iou': [0.775]}
    """
    parts = [counts[..., start : start + classes] for start in range(0, counts.shape[-1], classes)]
    intersection, truth, prediction = parts[:3]
    metrics = {
        "iou": safe_divide(intersection, truth + prediction - intersection),
        "dice": safe_divide(2 * intersection, truth + prediction),
        "precision": safe_divide(intersection, prediction),
        "recall": safe_divide(intersection, truth),
        "pixel_accuracy": safe_divide(intersection.sum(-1, keepdims=True), truth.sum(-1, keepdims=True)),
    }
    if len(parts) > 3:
        metrics["boundary_iou"] = safe_divide(parts[3], parts[4])
    for name in ("iou", "dice", "boundary_iou"):
        if name in metrics:
            metrics[f"mean_{name}"] = nanmean(metrics[name])[..., None]
    return metrics


def compute_intervals(
    counts: NDArray[np.int64], classes: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, list[Interval]]:
    """The figures of all images, each with its interval.

    Args:
        totals: (P, K), as `stack_image_counts`.
    """
    resampled = compute_metrics(resample_counts(counts, num_resamples, seed), classes)
    return {
        name: percentile_intervals(values, resampled[name])
        for name, values in compute_metrics(counts.sum(0), classes).items()
    }


def compute_differences(
    candidate: NDArray[np.int64],
    baseline: NDArray[np.int64],
    classes: int,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, list[Interval]]:
    """The figures of one network less those of another, on the same images and the same draws.

    Raises:
        ValueError: counts of different shapes.
    """
    if candidate.shape != baseline.shape:
        raise ValueError(
            f"differences: found counts of {candidate.shape} and {baseline.shape}; expected the same images"
        )
    candidate_resampled = compute_metrics(resample_counts(candidate, num_resamples, seed), classes)
    baseline_resampled = compute_metrics(resample_counts(baseline, num_resamples, seed), classes)
    a, b = compute_metrics(candidate.sum(0), classes), compute_metrics(baseline.sum(0), classes)
    return {
        name: percentile_intervals(a[name] - b[name], candidate_resampled[name] - baseline_resampled[name])
        for name in a
    }


def nan_to_none(value: float) -> float | None:
    """A number as JSON has it: null for NaN, which is no JSON."""
    return None if np.isnan(value) else float(value)
