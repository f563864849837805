from __future__ import annotations

import numpy as np
import pytest

from dilated.evaluation.blocks import _politis_white_length, _shortness_factor, block_variance, choose_block_length


def autoregression(correlation: float, count: int, draws: int = 300, seed: int = 0) -> np.ndarray:
    """(draws, count) stationary first-order autoregressions of variance 1."""
    values = np.random.default_rng(seed).normal(size=(draws, count))
    for i in range(1, count):
        values[:, i] = correlation * values[:, i - 1] + (1 - correlation**2) ** 0.5 * values[:, i]
    return values


def test_the_variance_is_that_of_sums_of_drawn_circular_blocks() -> None:
    series = autoregression(0.6, 40)[0] - autoregression(0.6, 40)[0].mean()
    random = np.random.default_rng(1)
    starts = random.integers(0, 40, (40_000, 5))
    drawn = series[(starts[..., None] + np.arange(8)) % 40].sum((1, 2))
    correlation = series[1:] @ series[:-1] / (series @ series)
    factor = _shortness_factor(correlation + (1 + 3 * correlation) / 40, 8, 40)
    assert block_variance(series, 8) / factor == pytest.approx(drawn.var(), rel=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.64, 0.8])
def test_the_variance_of_a_film_is_nearly_that_over_many_films(correlation: float) -> None:
    series = autoregression(correlation, 120)
    truth = autoregression(correlation, 120, draws=4000, seed=9).sum(1).var()
    estimates = [block_variance(row, choose_block_length(row)) for row in series]
    assert np.mean(estimates) == pytest.approx(truth, rel=0.15)


def test_blocks_are_longer_where_neighbors_are_more_alike() -> None:
    lengths = [np.mean([choose_block_length(row) for row in autoregression(c, 200, 50)]) for c in (0, 0.5, 0.9)]
    assert lengths[0] < 5 < lengths[1] < lengths[2] < 51


def test_a_series_that_does_not_vary_has_no_variance() -> None:
    assert choose_block_length(np.zeros(50)) == 2
    assert block_variance(np.zeros(50), 2) == 0


def test_the_length_is_that_of_the_published_rule() -> None:
    """For a first-order autoregression the rule estimates (2 G^2 / D)^(1/3) n^(1/3) with G and D of the true series."""
    correlation, count = 0.6, 20_000
    slope = 2 * correlation / (1 - correlation) ** 2 / (1 - correlation**2)
    spectrum = (1 + correlation) / (1 - correlation) / (1 - correlation**2)
    slope, spectrum = slope * (1 - correlation**2), spectrum * (1 - correlation**2)
    expected = (2 * slope**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * count ** (1 / 3)
    lengths = [_politis_white_length(row) for row in autoregression(correlation, count, draws=5)]
    assert np.mean(lengths) == pytest.approx(expected, rel=0.1)
