"""The variance of linearized metrics, over groups or over blocks of a film, and its degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.blocks import block_variance, choose_block_length
from dilated.evaluation.linearize import Linearized

_Array = NDArray[np.float64]
_ALL_OF_IT = 1 - 1e-9  # a leverage from which on a unit has the metric to itself
_MAX_BIAS_LEVERAGE = 0.98
_QUANTILES = {
    1: 12.7062,
    1.05: 11.3619,
    1.1: 10.2768,
    1.15: 9.3875,
    1.2: 8.6488,
    1.3: 7.5005,
    1.4: 6.6570,
    1.5: 6.0167,
    1.75: 4.9488,
    2: 4.3027,
    2.5: 3.5747,
    3: 3.1824,
    4: 2.7764,
    5: 2.5706,
    6: 2.4469,
    8: 2.3060,
    10: 2.2281,
    15: 2.1314,
    20: 2.0860,
    30: 2.0423,
    60: 2.0003,
    120: 1.9799,
    np.inf: 1.9600,
}
"""The 97.5% quantile of Student's t by its degrees of freedom; scipy, which has it, is an extra."""


@dataclass(frozen=True, eq=False)
class Spread:
    """M values with what is known of their distribution; NaN where nothing is."""

    value: _Array
    variance: _Array
    freedom: _Array
    """Degrees of freedom of the variance."""
    bias: _Array
    """What the value is expected to be off by."""
    block_length: NDArray[np.int64]
    """Images in a block; 0 over groups."""


def student_quantile(freedom: _Array) -> _Array:
    """Return the 97.5% quantile of Student's t, interpolated in the inverse of its degrees of freedom.

    Example:
        >>> student_quantile(np.array([2.0, 9.0, np.nan])).round(2).tolist()
        [4.3, 2.26, nan]
    """
    inverse = 1 / np.array(list(_QUANTILES))[::-1]
    quantiles = np.array(list(_QUANTILES.values()))[::-1]
    known = np.where(np.isnan(freedom), 1.0, freedom)
    return np.where(np.isnan(freedom), np.nan, np.interp(1 / known, inverse, quantiles))


def add_variance(spread: Spread, variance: _Array, freedom: int) -> Spread:
    """Add a variance from another source; degrees of freedom are pooled as Welch and Satterthwaite do."""
    total = spread.variance + variance
    squares = spread.variance**2 / spread.freedom + variance**2 / freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = np.where(squares > 0, total**2 / squares, spread.freedom)
    return replace(spread, variance=total, freedom=pooled)


def group_spread(estimate: Linearized) -> Spread:
    """Estimate the spread over groups, which are independent of each other.

    A class that occurs in one group only has no spread. In a mean over classes it counts with the spread between groups
    that the other classes have.
    """
    leverage = estimate.leverage
    residual = estimate.influence / np.sqrt(np.maximum(1 - leverage, 1e-12))
    is_known = (leverage.max(0, initial=0.0) < _ALL_OF_IT) & (leverage.sum(0) > 0)
    residual = np.where(is_known, residual, 0.0)
    squares = (leverage**2).sum(0)
    between = (residual**2).sum(0)[is_known] / squares[is_known]  # variance of one group's ratio
    pull = estimate.influence / np.maximum(1 - leverage, 1 - _MAX_BIAS_LEVERAGE)
    bias = np.where(is_known, -(len(leverage) - 1) * pull.mean(0), 0.0)  # jackknife
    nothing = np.zeros(len(estimate.value), dtype=np.int64)
    if not estimate.is_mean:
        variance = np.where(is_known, (residual**2).sum(0), np.nan)
        freedom = np.array([_effective_number(column) for column in leverage.T**2])
        return Spread(estimate.value, variance, np.where(is_known, freedom, np.nan), bias, nothing)
    if not is_known.any():
        return _unknown(estimate.value)
    columns = estimate.num_known
    assumed = np.zeros(leverage.shape[1])
    assumed[is_known] = between
    is_single = ~is_known & (leverage.sum(0) > 0)
    assumed[is_single] = between.mean()
    mean_variance = ((residual.sum(1) / columns) ** 2).sum() + assumed[is_single].sum() / columns**2
    mean_freedom = _effective_number((assumed * leverage**2).sum(1) if between.any() else (leverage**2).sum(1))
    return Spread(
        estimate.value, np.array([mean_variance]), np.array([mean_freedom]), np.array([bias.sum() / columns]), nothing
    )


def series_spread(estimate: Linearized, series: Sequence[NDArray[np.int64]]) -> Spread:
    """Estimate the spread within films, each a series of images that resemble their neighbors.

    Args:
        estimate: by image.
        series: the images of each film in their order, as indices; none where nothing can be said.
    """
    if not series:
        return _unknown(estimate.value)
    influence = estimate.summed_influence[:, None] if estimate.is_mean else estimate.influence
    leverage = estimate.leverage.mean(1, keepdims=True) if estimate.is_mean else estimate.leverage
    columns = [_column_spread(*column, series) for column in zip(influence.T, leverage.T, strict=True)]
    variance, freedom, lengths = (np.array(values) for values in zip(*columns, strict=True))
    variance = np.where(np.isnan(estimate.value), np.nan, variance)
    return Spread(estimate.value, variance, freedom, np.zeros(len(columns)), lengths.astype(np.int64))


def _column_spread(
    influence: _Array, leverage: _Array, series: Sequence[NDArray[np.int64]]
) -> tuple[float, float, int]:
    """Return the variance, its degrees of freedom and the block length of one metric."""
    parts = [influence[film] - influence[film].mean() for film in series]
    length = choose_block_length(np.concatenate(parts))
    lengths = [max(1, min(length, len(part) // 4)) for part in parts]
    variance = sum(block_variance(part, size) for part, size in zip(parts, lengths, strict=True))
    blocks = [
        leverage[film[start : start + size]].sum()
        for film, size in zip(series, lengths, strict=True)
        for start in range(0, len(film), size)
    ]
    occupied = np.array(blocks)
    if not occupied.any() or occupied.max() > _ALL_OF_IT * occupied.sum():
        return np.nan, np.nan, length  # it occurs in one stretch of the film only
    freedom = sum(len(part) / size for part, size in zip(parts, lengths, strict=True)) - len(parts)
    return float(variance), min(freedom, _effective_number(occupied**2)), length


def _effective_number(weights: _Array) -> float:
    """Compute how many equal squared weights are worth as much as these, less one where they are equal."""
    total = float(weights.sum())
    if total <= 0:
        return np.nan
    return max(1.0, min(total**2 / float((weights**2).sum()), float((weights > 0).sum()) - 1))


def _unknown(value: _Array) -> Spread:
    nothing = np.full(len(value), np.nan)
    return Spread(value, nothing, nothing, np.zeros(len(value)), np.zeros(len(value), dtype=np.int64))
