"""How sure a mean IoU is: 95% intervals by drawing the pictures anew (bootstrap over pictures).

Pixels of one picture are not independent, pictures nearly are; so pictures are what is drawn, with replacement. Two
networks are compared on the same draws (paired), which cancels how hard the drawn pictures are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.evaluate.confusion import mean_iou


@dataclass(frozen=True)
class Interval:
    """A value measured on all pictures, with the middle 95% of its bootstrap values."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def difference(ours: NDArray[np.int64], theirs: NDArray[np.int64], draws: int = 5000, seed: int = 0) -> Interval:
    """Mean IoU of one network less that of another, on the same pictures.

    Args:
        ours, theirs: (pictures, C, C) counts, as `Evaluation.per_picture`.

    Raises:
        ValueError: shapes that differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"difference: found counts of {ours.shape} and {theirs.shape}; expected the same pictures")
    value = float(mean_iou(ours.sum(0)) - mean_iou(theirs.sum(0)))
    weights = _draws(len(ours), draws, seed)
    return _interval(value, _resampled(ours, weights) - _resampled(theirs, weights))


def interval(counts: NDArray[np.int64], draws: int = 5000, seed: int = 0) -> Interval:
    """Mean IoU of one network.

    Example:
        >>> perfect = np.tile(np.eye(2, dtype=np.int64), (5, 1, 1))
        >>> print(interval(perfect))
        +1.0000 [+1.0000, +1.0000]
    """
    weights = _draws(len(counts), draws, seed)
    return _interval(float(mean_iou(counts.sum(0))), _resampled(counts, weights))


def _draws(pictures: int, draws: int, seed: int) -> NDArray[np.int64]:
    """(draws, pictures): how often each picture was drawn."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), size=draws)


def _resampled(counts: NDArray[np.int64], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    classes = counts.shape[-1]
    pooled = weights.astype(np.float64) @ counts.reshape(len(counts), -1).astype(np.float64)  # exact below 2**53
    return mean_iou(pooled.astype(np.int64).reshape(-1, classes, classes))


def _interval(value: float, values: NDArray[np.float64]) -> Interval:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Interval(value, float(low), float(high))
