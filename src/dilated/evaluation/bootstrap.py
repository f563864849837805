"""How certain a metric is: 95% intervals by resampling the images with replacement (bootstrap over images).

    (interval,) = compute_intervals(result.image_counts, len(result.classes))["mean_iou"]
    print(f"{interval:.3f}")                             # 0.726 [0.721, 0.732]

Pixels of one image are not independent of each other, images nearly are; so images are resampled. Two networks are
compared on the same resamples (paired), which cancels how hard the drawn images are. The interval is about images
like these: not about images from elsewhere, nor about the network that training with another seed would give. It is
too narrow for fewer than about twenty images, and for frames of one film, which resemble their neighbors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.metrics import compute_metrics

NUM_RESAMPLES = 2000
MIN_IMAGES_FOR_INTERVAL = 20
"""Number of images below which an interval is too narrow."""
_MAX_WEIGHTS_IN_MEMORY = 4_000_000  # resamples x images that are held at a time


@dataclass(frozen=True)
class Interval:
    """A value measured on all images, with the middle 95% of its bootstrap values.

    Example:
        >>> interval = Interval(0.7261, 0.7213, 0.7318)
        >>> print(f"{interval:.3f}"), print(interval)
        0.726 [0.721, 0.732]
        +0.7261 [+0.7213, +0.7318]
        (None, None)
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return f"{self:+.4f}"

    @property
    def is_known(self) -> bool:
        """Whether there is a value and an interval: not without a pixel to measure, nor from one image."""
        return not np.isnan([self.value, self.low]).any()

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; for a difference: whether it is more than the chance of which images these are."""
        return self.low > 0 or self.high < 0


def compute_intervals(
    counts: NDArray[np.int64], num_classes: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, list[Interval]]:
    """Compute the metrics of all images, each with its interval.

    Args:
        counts: (P, K), as returned by `stack_image_counts`.
        num_classes: C.

    Example:
        >>> from dilated.evaluation.metrics import stack_image_counts
        >>> perfect = stack_image_counts(np.tile(np.eye(2, dtype=np.int64), (5, 1, 1)))
        >>> print(*compute_intervals(perfect, num_classes=2)["mean_iou"])
        +1.0000 [+1.0000, +1.0000]
    """
    metrics, resampled = _resample_metrics(counts, num_classes, num_resamples, seed)
    return {name: _percentile_intervals(values, resampled[name]) for name, values in metrics.items()}


def compute_differences(
    candidate: NDArray[np.int64],
    baseline: NDArray[np.int64],
    num_classes: int,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, list[Interval]]:
    """Compute the metrics of one network minus those of another, on the same images and the same resamples.

    Raises:
        ValueError: counts of different shapes.
    """
    if candidate.shape != baseline.shape:
        raise ValueError(
            f"differences: found counts of {candidate.shape} and {baseline.shape}; expected the same images"
        )
    a, a_resampled = _resample_metrics(candidate, num_classes, num_resamples, seed)
    b, b_resampled = _resample_metrics(baseline, num_classes, num_resamples, seed)
    return {name: _percentile_intervals(a[name] - b[name], a_resampled[name] - b_resampled[name]) for name in a}


def _resample_metrics(
    counts: NDArray[np.int64], num_classes: int, num_resamples: int, seed: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Compute the metrics of all images, (M,) each, and of resampled images, (num_resamples, M) each."""
    resampled = _resample_counts(counts, num_resamples, seed)
    return compute_metrics(counts.sum(0), num_classes), compute_metrics(resampled, num_classes)


def _resample_counts(counts: NDArray[np.int64], num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """Pool the counts of resampled images.

    Args:
        counts: (P, K), any counts that are summed over images.
        seed: the same seed draws the same images, so that networks are compared on the same resamples.

    Returns:
        (num_resamples, K), exact below 2**53. At most some millions of weights are in memory at a time.

    Example:
        >>> _resample_counts(np.array([[1, 10], [1, 30]]), num_resamples=3).tolist()
        [[2, 40], [2, 40], [2, 60]]
    """
    values = counts.astype(np.float64)
    chunks = [
        weights.astype(np.float64) @ values for weights in _iter_resampling_weights(len(counts), num_resamples, seed)
    ]
    return np.concatenate(chunks).astype(np.int64)


def _percentile_intervals(values: NDArray[np.float64], resampled: NDArray[np.float64]) -> list[Interval]:
    """Turn (M,) metrics of all images and (num_resamples, M) of resampled images into M intervals.

    A metric is NaN in resamples that miss its class; its interval is over the other resamples.
    """
    result = []
    for value, column in zip(values.tolist(), resampled.T, strict=True):
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        result.append(Interval(value, float(low), float(high)))
    return result


def _iter_resampling_weights(num_images: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield (some resamples, images) at a time: how often each image is drawn."""
    rng = np.random.default_rng(seed)
    probabilities = np.full(num_images, 1 / num_images)
    step = max(1, _MAX_WEIGHTS_IN_MEMORY // num_images)
    for start in range(0, num_resamples, step):
        yield rng.multinomial(num_images, probabilities, size=min(step, num_resamples - start))
