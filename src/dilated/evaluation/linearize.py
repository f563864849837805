"""Metrics of pooled counts to first order: how far each group, or each image, moves them.

estimate = linearize_metrics(counts, num_classes)["mean_iou"]
estimate.value + estimate.summed_influence.sum()     # the value again: influences sum to 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.metrics import divide, metric_ratios

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Linearized:
    """M ratios of sums over U units, or the mean of them, or a difference of two of these."""

    value: _Array
    """(M,), or (1,) for a mean; NaN where there is nothing to measure."""
    influence: _Array
    """(U, M): numerator less value times denominator, over the sum of the denominators; 0 where the value is NaN."""
    leverage: _Array
    """(U, M): the unit's fraction of the denominator."""
    is_mean: bool = False
    """Whether the value is the mean over the columns that are known."""

    @property
    def num_known(self) -> int:
        """Columns that a mean is over."""
        return int((self.leverage.sum(0) > 0).sum())

    @property
    def summed_influence(self) -> _Array:
        """(U,): the influence on the mean."""
        influence: _Array = self.influence.sum(1) / max(self.num_known, 1)
        return influence

    def __sub__(self, other: Linearized) -> Linearized:
        """The difference of two estimates from the same units; a column that one of them lacks is lacking."""
        known = (self.leverage.sum(0) > 0) & (other.leverage.sum(0) > 0)
        # a mean is over the columns of each, so that its influences are weighted before they are subtracted
        weights = (self._weight, other._weight) if self.is_mean else (1.0, 1.0)
        influence = self.influence * weights[0] - other.influence * weights[1]
        leverage = (self.leverage + other.leverage) / 2
        if self.is_mean:
            columns = max(int((leverage.sum(0) > 0).sum()), 1)
            return Linearized(self.value - other.value, influence * columns, leverage, True)
        return Linearized(self.value - other.value, np.where(known, influence, 0.0), np.where(known, leverage, 0.0))

    @property
    def _weight(self) -> float:
        return 1 / max(self.num_known, 1)


def average(estimates: Sequence[Linearized]) -> Linearized:
    """Average estimates of the same metric from the same units; a column that one of them lacks is lacking."""
    if len(estimates) == 1:
        return estimates[0]
    value = np.mean([estimate.value for estimate in estimates], axis=0)
    leverage = np.mean([estimate.leverage for estimate in estimates], axis=0)
    if estimates[0].is_mean:
        columns = max(int((leverage.sum(0) > 0).sum()), 1)
        parts = [estimate.influence * estimate._weight * columns for estimate in estimates]
        return Linearized(value, np.mean(parts, axis=0), leverage, True)
    known = ~np.isnan(value)
    influence = np.mean([estimate.influence for estimate in estimates], axis=0)
    return Linearized(value, np.where(known, influence, 0.0), np.where(known, leverage, 0.0))


def linearize_metrics(counts: NDArray[np.int64], num_classes: int) -> dict[str, Linearized]:
    """Linearize all metrics.

    Args:
        counts: (U, K), sums over the images of each unit of what `stack_image_counts` returns.
        num_classes: C.

    Example:
        >>> counts = np.array([[3, 5, 4, 6, 4, 7], [1, 5, 2, 6, 2, 7]])
        >>> linearize_metrics(counts, 2)["iou"].leverage.tolist()
        [[0.625, 0.5], [0.375, 0.5]]
    """
    metrics = {}
    for name, (numerator, denominator) in metric_ratios(counts, num_classes).items():
        estimate = _linearize_ratio(numerator, denominator)
        metrics[name] = estimate
        if name in ("iou", "dice", "boundary_iou"):
            known = estimate.value[~np.isnan(estimate.value)]
            mean = np.array([known.mean() if len(known) else np.nan])
            metrics[f"mean_{name}"] = Linearized(mean, estimate.influence, estimate.leverage, is_mean=True)
    return metrics


def _linearize_ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> Linearized:
    total = denominator.sum(0)
    value = divide(numerator.sum(0), total)
    residual = numerator - np.nan_to_num(value) * denominator
    influence, leverage = (
        np.nan_to_num(divide(rows, np.broadcast_to(total, rows.shape))) for rows in (residual, denominator)
    )
    return Linearized(value, influence, leverage)
