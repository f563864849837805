from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.evaluation.abstention import LEVELS, MIN_UNITS, ConfidenceCounts, fit_threshold, simulate_splits


def draw(units: int, seed: int, spread: float = 0.5, pixels: int = 2000) -> ConfidenceCounts:
    """Units of different difficulty, whose confidences are too high by as much as they are difficult."""
    random, counts = np.random.default_rng(seed), ConfidenceCounts.zeros(units)
    for unit in range(units):
        confidence = 1 - 0.5 * random.random(pixels) ** 3
        right = random.random(pixels) < 1 - (1 - confidence) * np.exp(random.normal(0, spread))
        counts.add(unit, confidence.astype(np.float32), right)
    return counts


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_shares_at_a_threshold_are_those_of_comparing_each_pixel(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.choice([*LEVELS, 0.3, 0.77, 1.0], 50).astype(np.float32)
    right = random.random(50) < 0.6
    counts = ConfidenceCounts.zeros(2)
    counts.add(1, confidence[:20], right[:20])
    counts.add(1, confidence[20:], right[20:])
    wrong, labelled = counts.fractions()
    assert len(wrong) == 1  # a unit without a pixel is none
    for level in range(0, 256, 5):
        sure = ~(confidence < LEVELS[level])  # as the predictor compares
        assert labelled[0, level] == sure.mean()
        assert wrong[0, level] == (sure & ~right).mean()


def test_a_threshold_keeps_the_risk_on_the_units_it_was_fitted_on() -> None:
    counts = draw(60, 0)
    threshold = fit_threshold(counts, 0.02)
    assert threshold is not None
    level = int(np.flatnonzero(np.float32(threshold.threshold) == LEVELS)[0])
    wrong, labelled = counts.fractions()
    assert wrong[:, level].sum() <= 0.02 * labelled[:, level].sum()
    assert threshold.unknown == pytest.approx(1 - labelled[:, level].mean())
    assert 0 < threshold.unknown < 0.9


def test_a_greater_risk_leaves_less_unknown() -> None:
    counts = draw(60, 1)
    unknown = [fitted.unknown for risk in (0.01, 0.02, 0.05, 0.2) if (fitted := fit_threshold(counts, risk))]
    assert len(unknown) == 4
    assert unknown == sorted(unknown, reverse=True)


def test_few_units_and_hopeless_networks_get_no_threshold() -> None:
    assert fit_threshold(draw(MIN_UNITS - 1, 2), 0.2) is None
    hopeless = ConfidenceCounts.zeros(30)
    for unit in range(30):
        hopeless.add(unit, np.full(100, 0.99, np.float32), np.arange(100) < 50)
    assert fit_threshold(hopeless, 0.1) is None


def test_the_worst_case_is_claimed_only_where_a_unit_that_is_all_wrong_could_be_added() -> None:
    perfect = ConfidenceCounts.zeros(60)
    for unit in range(60):
        perfect.add(unit, np.full(100, 0.99, np.float32), np.ones(100, bool))
    few, many = fit_threshold(perfect.select(np.arange(48)), 0.02), fit_threshold(perfect, 0.02)
    assert few is not None
    assert many is not None
    assert (few.is_worst_case, many.is_worst_case) == (False, True)  # 49 units at 2%


def test_the_promise_is_kept_on_new_units_in_93_of_100_worlds() -> None:
    kept = made = 0
    for seed in range(150):
        counts = draw(60, seed, spread=0.8, pixels=300)
        threshold = fit_threshold(counts.select(np.arange(30)), 0.05)
        if threshold is None:
            continue
        wrong, labelled = counts.select(np.arange(30, 60)).fractions()
        level = int(np.flatnonzero(np.float32(threshold.threshold) == LEVELS)[0])
        kept += wrong[:, level].sum() <= 0.05 * labelled[:, level].sum()
        made += 1
    assert made >= 140
    assert kept >= 0.93 * made


def test_splits_are_the_same_each_time_and_count_refusals() -> None:
    check = simulate_splits(draw(40, 3), 0.05, splits=20)
    assert check == simulate_splits(draw(40, 3), 0.05, splits=20)
    assert check.refused == 0
    assert check.kept_share >= 0.9
    few = simulate_splits(draw(12, 3), 0.05, splits=20)
    assert few.refused == 20
    assert np.isnan(few.kept_share)
