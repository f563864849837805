from __future__ import annotations

import numpy as np
import pytest

from dilated.evaluate.bootstrap import difference, interval
from dilated.evaluate.confusion import mean_iou


def counts(pictures: int, seed: int, right: int = 50) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 20, (pictures, 3, 3)) + right * np.eye(3, dtype=np.int64)


def test_a_network_does_not_differ_from_itself() -> None:
    same = difference(counts(10, 0), counts(10, 0))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_the_draws_equal_a_loop_over_drawn_pictures() -> None:
    ours, theirs = counts(7, 1), counts(7, 2)
    random = np.random.default_rng(5)
    values = []
    for drawn in random.multinomial(7, np.full(7, 1 / 7), size=40):
        chosen = np.repeat(np.arange(7), drawn)
        assert len(chosen) == 7
        values.append(mean_iou(ours[chosen].sum(0)) - mean_iou(theirs[chosen].sum(0)))
    found = difference(ours, theirs, draws=40, seed=5)
    assert found.low == pytest.approx(np.quantile(values, 0.025))
    assert found.high == pytest.approx(np.quantile(values, 0.975))
    assert found.value == pytest.approx(mean_iou(ours.sum(0)) - mean_iou(theirs.sum(0)))


def test_pairing_narrows_the_interval_of_a_constant_gain() -> None:
    hard = counts(40, 3, right=5) * np.random.default_rng(0).integers(1, 30, (40, 1, 1))
    better = hard + 3 * np.eye(3, dtype=np.int64)
    paired = difference(better, hard)
    alone = interval(hard)
    assert 0 < paired.low < paired.value < paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_pictures_that_differ_in_number_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same pictures"):
        difference(counts(3, 0), counts(4, 0))
