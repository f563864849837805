"""How uncertain a mean over one film is, whose frames resemble their neighbors: a circular block bootstrap.

    length = choose_block_length(series)                 # 12 frames
    block_variance(series, length)                       # of the sum of the series

Drawing blocks of neighboring frames keeps what neighbors share. The variance that a circular block bootstrap of a sum
has is known in closed form, so nothing is drawn. Two corrections make it cover: blocks twice as long as what minimizes
the mean squared error, because a test wants less bias than that; and the factor by which blocks of this length come out
too narrow on a series of this length with this correlation of neighbors, a first-order autoregression.

Sources: Politis and Romano, "A circular block-resampling procedure for stationary data", 1992; Politis and White,
"Automatic block-length selection for the dependent bootstrap", 2004, with the correction by Patton, Politis and White,
2009; Kendall, "Note on bias in the estimation of autocorrelation", 1954.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MAX_CORRELATION = 0.97
_MIN_BLOCKS = 4
"""Blocks are not longer than this fraction of the series: a variance needs several of them."""

_Series = NDArray[np.float64]


def choose_block_length(series: _Series) -> int:
    """Choose the length of the blocks: twice that of Politis and White, at most a quarter of the series.

    Args:
        series: (n,) values in the order of the frames.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=100)
        >>> choose_block_length(noise), choose_block_length(np.cumsum(noise))
        (2, 25)
    """
    return max(1, min(math.ceil(2 * _politis_white_length(series)), len(series) // _MIN_BLOCKS))


def _politis_white_length(series: _Series) -> float:
    """Estimate the block length of least mean squared error for a circular block bootstrap of the mean.

    Args:
        series: (n,) values in the order of the frames.

    Returns:
        At least 1, at most the lesser of 3 sqrt(n) and n / 3.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=300)
        >>> smooth = np.convolve(noise, np.ones(9))
        >>> _politis_white_length(noise) < 3 < _politis_white_length(smooth)
        True
    """
    count = len(series)
    centered = series - series.mean()
    run = max(5, math.ceil(math.sqrt(math.log10(count))))  # insignificant correlations in a row that end the memory
    max_lag = min(math.ceil(math.sqrt(count)) + run, count - 1)
    covariance = np.array([centered[lag:] @ centered[: count - lag] / count for lag in range(max_lag + 1)])
    if covariance[0] <= 0:
        return 1.0
    is_small = np.abs(covariance[1:] / covariance[0]) < 2 * math.sqrt(math.log10(count) / count)
    memory = _find_memory(is_small, run)
    lags = np.arange(-min(max(2 * memory, 1), max_lag), min(max(2 * memory, 1), max_lag) + 1)
    taper = np.clip(2 * (1 - np.abs(lags) / lags[-1]), 0, 1)  # flat-top kernel
    spectrum = float((taper * covariance[np.abs(lags)]).sum())
    slope = float((taper * np.abs(lags) * covariance[np.abs(lags)]).sum())
    if spectrum <= 0:
        return 1.0
    length = (2 * slope**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * count ** (1 / 3)
    return float(np.clip(length, 1, max(1, math.ceil(min(3 * math.sqrt(count), count / 3)))))


def block_variance(series: _Series, length: int) -> float:
    """Estimate the variance of the sum of a series from circular blocks of it, corrected for their shortness.

    Args:
        series: (n,) values in the order of the frames; their mean is taken off.
        length: frames in a block, at most n.

    Example:
        >>> alternating = np.tile([1.0, -1.0], 50)
        >>> block_variance(alternating, 2)
        0.0
    """
    count = len(series)
    centered = series - series.mean()
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([centered, centered[:length]]))])
    blocks = sums[length : length + count] - sums[:count]
    return float((blocks**2).mean() * count / length * _shortness_factor(_neighbor_correlation(series), length, count))


def _find_memory(is_small: NDArray[np.bool_], run: int) -> int:
    """Return the last lag before `run` small correlations in a row, or else the last that is not small."""
    for start in range(len(is_small) - run + 1):
        if is_small[start : start + run].all():
            return start
    large = np.flatnonzero(~is_small)
    return int(large[-1]) + 1 if len(large) else 1


def _neighbor_correlation(series: _Series) -> float:
    """Estimate the correlation of neighbors, with Kendall's correction of its bias; 0 where it is negative."""
    centered = series - series.mean()
    power = float(centered @ centered)
    if power <= 0:
        return 0.0
    correlation = float(centered[1:] @ centered[:-1]) / power
    return float(np.clip(correlation + (1 + 3 * correlation) / len(series), 0, _MAX_CORRELATION))


def _shortness_factor(correlation: float, length: int, count: int) -> float:
    """Compute the true variance of a mean over what circular blocks expect, for a first-order autoregression.

    Example:
        >>> _shortness_factor(0.0, 1, 10), _shortness_factor(0.6, 4, 100) > 1.3
        (1.1111111111111112, True)
    """
    lags = np.arange(count)
    twice = np.where(lags > 0, 2.0, 1.0)
    of_mean = float(((1 - lags / count) * correlation**lags * twice).sum()) / count
    inside = lags[:length]
    circular = ((count - inside) * correlation**inside + inside * correlation ** (count - inside)) / count - of_mean
    return count * of_mean / float(((1 - inside / length) * circular * twice[:length]).sum())
