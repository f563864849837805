"""The formulas: all metrics from counts of pixels, pooled over images.

    counts = stack_image_counts(per_image, boundary)         # (images, K), all that the metrics need
    compute_metrics(counts.sum(0), num_classes)["iou"]       # (C,)

Every metric is a ratio of sums over images, so one table of counts per image serves all of them, and so does one
bootstrap sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CLASS_METRICS = ("iou", "dice", "precision", "recall", "boundary_iou")
MEAN_METRICS = ("mean_iou", "pixel_accuracy", "mean_dice", "mean_boundary_iou")


class ImageCounts:
    """Base of the dataclasses whose arrays hold the counts of one image, or one row per image."""

    def set_image(self, index: int, counts: Self) -> None:
        """Write the counts of one image into its row."""
        for name, rows in self._arrays().items():
            rows[index] = getattr(counts, name)

    @classmethod
    def concatenate(cls, parts: Sequence[Self], order: Sequence[int]) -> Self:
        """Join the rows of several parts, then put them into this order."""
        joined = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in parts[0]._arrays()}
        return cls(**{**vars(parts[0]), **joined})

    def _arrays(self) -> dict[str, NDArray[np.int64]]:
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}


def stack_image_counts(per_image: NDArray[np.integer], *more: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lay out what the metrics need of each image side by side.

    Args:
        per_image: (..., C, C) confusion matrices.
        more: (..., C) each: intersection and union of the boundary bands, where they were measured.

    Returns:
        (..., 3 C) or (..., 5 C): correct pixels, true pixels, predicted pixels by class, then `more`.

    Example:
        >>> stack_image_counts(np.array([[3, 1], [0, 2]])).tolist()
        [3, 2, 4, 2, 3, 3]
    """
    correct = np.diagonal(per_image, axis1=-2, axis2=-1).astype(np.int64)
    return np.concatenate([correct, per_image.sum(-1), per_image.sum(-2), *more], axis=-1)


def compute_metrics(counts: NDArray[np.int64], num_classes: int) -> dict[str, NDArray[np.float64]]:
    """Compute all metrics of pooled counts; NaN where a class or a pixel to measure is missing.

    Args:
        counts: (..., K), sums over images of what `stack_image_counts` returns.
        num_classes: C.

    Returns:
        (..., C) each: `iou`, `dice` (the same as F1), `precision`, `recall`, and with boundaries `boundary_iou`.
        (..., 1) each: `mean_iou`, `mean_dice`, `pixel_accuracy`, `mean_boundary_iou`.

    Example:
        >>> counts = stack_image_counts(np.array([[[3, 1], [0, 4]]])).sum(0)
        >>> metrics = compute_metrics(counts, 2)
        >>> metrics["iou"].tolist(), metrics["mean_iou"].round(3).tolist()
        ([0.75, 0.8], [0.775])
    """
    metrics = {name: divide(*ratio) for name, ratio in metric_ratios(counts, num_classes).items()}
    for name in ("iou", "dice", "boundary_iou"):
        if name in metrics:
            metrics[f"mean_{name}"] = _nan_mean(metrics[name])[..., None]
    return metrics


def metric_ratios(
    counts: NDArray[np.int64], num_classes: int
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the numerator and the denominator of each metric that is a ratio of sums.

    Args:
        counts: (..., K), as for `compute_metrics`.
        num_classes: C.

    Returns:
        (..., C) or (..., 1) each, by the names of `compute_metrics`.
    """
    parts = [counts[..., start : start + num_classes] for start in range(0, counts.shape[-1], num_classes)]
    intersection, truth, prediction = parts[:3]
    ratios = {
        "iou": (intersection, truth + prediction - intersection),
        "dice": (2 * intersection, truth + prediction),
        "precision": (intersection, prediction),
        "recall": (intersection, truth),
        "pixel_accuracy": (intersection.sum(-1, keepdims=True), truth.sum(-1, keepdims=True)),
    }
    if len(parts) > 3:
        ratios["boundary_iou"] = (parts[3], parts[4])
    return ratios


def divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide where the denominator is positive; NaN elsewhere.

    Example:
        >>> divide(np.array([1, 0]), np.array([4, 0])).tolist()
        [0.25, nan]
    """
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the last axis over values that are not NaN: (..., C) -> (...); NaN without any, and no warning.

    Example:
        >>> _nan_mean(np.array([[0.5, np.nan], [np.nan, np.nan]])).tolist()
        [0.5, nan]
    """
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def nan_to_none(value: float) -> float | None:
    """Convert a number to its JSON value: null for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)
