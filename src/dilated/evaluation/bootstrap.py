"""How sure a figure is: 95% intervals by drawing the images anew (bootstrap over images).

    bounds = interval(result.per_picture)
    print(f"{bounds:.3f}")                               # 0.726 [0.721, 0.732]

Pixels of one image are not independent, images nearly are; so images are what is drawn, with replacement. Two
networks are compared on the same draws (paired), which cancels how hard the drawn images are. The interval speaks
of images like these: not of images from elsewhere, and not of the network that training with another seed would
give. Of few images, below twenty or so, it comes out too narrow; and of frames of one film, which resemble their
neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.confusion import intersection_and_areas, nanmean, safe_divide

NUM_RESAMPLES = 2000
_MAX_WEIGHTS_IN_MEMORY = 4_000_000  # draws x images that are held at a time


@dataclass(frozen=True)
class Interval:
    """A value measured on all images, with the middle 95% of its bootstrap values.

    Example:
        >>> bounds = Interval(0.7261, 0.7213, 0.7318)
        >>> print(f"{bounds:.3f}"), print(bounds)
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
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside: for a difference, whether it is more than these images' chance."""
        return self.low > 0 or self.high < 0


def mean_iou_difference(
    candidate: NDArray[np.int64], baseline: NDArray[np.int64], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """Mean IoU of one network less that of another, on the same images.

    Args:
        ours, theirs: (images, C, C) counts, as `Evaluation.per_picture`.

    Raises:
        ValueError: shapes that differ.
    """
    if candidate.shape != baseline.shape:
        raise ValueError(
            f"difference: found counts of {candidate.shape} and {baseline.shape}; expected the same images"
        )
    a, b = _intersections_and_unions(candidate), _intersections_and_unions(baseline)
    values = _mean_iou_of_areas(resample_counts(a, num_resamples, seed)) - _mean_iou_of_areas(
        resample_counts(b, num_resamples, seed)
    )
    (result,) = percentile_intervals(
        _mean_iou_of_areas(a.sum(0, keepdims=True)) - _mean_iou_of_areas(b.sum(0, keepdims=True)), values[:, None]
    )
    return result


def mean_iou_interval(counts: NDArray[np.int64], num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Interval:
    """Mean IoU of one network.

    Example:
        >>> perfect = np.tile(np.eye(2, dtype=np.int64), (5, 1, 1))
        >>> print(mean_iou_interval(perfect))
        +1.0000 [+1.0000, +1.0000]
    """
    areas = _intersections_and_unions(counts)
    values = _mean_iou_of_areas(resample_counts(areas, num_resamples, seed))
    (result,) = percentile_intervals(_mean_iou_of_areas(areas.sum(0, keepdims=True)), values[:, None])
    return result


def resample_counts(counts: NDArray[np.int64], num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """Pooled counts of images drawn anew.

    Args:
        counts: (images, K), any that are summed over images.
        seed: counts of other networks on the same images get the same draws.

    Returns:
        (draws, K), exact below 2**53. However many images and draws, only some millions of weights are held.

    Example:
        >>> resample_counts(np.array([[1, 10], [1, 30]]), num_resamples=3).tolist()
        [[2, 40], [2, 40], [2, 60]]
    """
    values = counts.astype(np.float64)
    chunks = [
        weights.astype(np.float64) @ values for weights in _iter_resampling_weights(len(counts), num_resamples, seed)
    ]
    return np.concatenate(chunks).astype(np.int64)


def percentile_intervals(values: NDArray[np.float64], resampled: NDArray[np.float64]) -> list[Interval]:
    """(M,) figures of all images and (draws, M) of drawn ones -> M intervals.

    A figure may be unknown (NaN) in draws that miss a class; its interval is over the draws that know it.
    """
    result = []
    for value, column in zip(values.tolist(), resampled.T, strict=True):
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        result.append(Interval(value, float(low), float(high)))
    return result


def _iter_resampling_weights(num_images: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """(some draws, images) at a time: how often each image was drawn."""
    rng = np.random.default_rng(seed)
    probabilities = np.full(num_images, 1 / num_images)
    step = max(1, _MAX_WEIGHTS_IN_MEMORY // num_images)
    for start in range(0, num_resamples, step):
        yield rng.multinomial(num_images, probabilities, size=min(step, num_resamples - start))


def _intersections_and_unions(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P, C, C) -> (P, 2 C): intersections and unions, all that IoU needs."""
    intersection, truth, prediction = intersection_and_areas(counts)
    return np.concatenate([intersection, truth + prediction - intersection], axis=-1)


def _mean_iou_of_areas(areas: NDArray[np.int64]) -> NDArray[np.float64]:
    classes = areas.shape[-1] // 2
    return nanmean(safe_divide(areas[..., :classes], areas[..., classes:]))
