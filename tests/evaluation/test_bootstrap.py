from __future__ import annotations

import numpy as np
import pytest

from dilated.evaluation import bootstrap
from dilated.evaluation.bootstrap import (
    Interval,
    _percentile_intervals,
    _resample_counts,
    compute_differences,
    compute_intervals,
)
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.metrics import compute_metrics, stack_image_counts


def counts(images: int, seed: int, right: int = 50) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 20, (images, 3, 3)) + right * np.eye(3, dtype=np.int64)


def mean_iou(pooled: np.ndarray) -> float:
    return ConfusionMatrix(3, pooled).mean_iou


def mean_iou_difference(candidate: np.ndarray, baseline: np.ndarray, **options: int) -> Interval:
    rows = stack_image_counts(candidate), stack_image_counts(baseline)
    return compute_differences(*rows, 3, **options)["mean_iou"][0]


def mean_iou_interval(rows: np.ndarray) -> Interval:
    return compute_intervals(stack_image_counts(rows), 3)["mean_iou"][0]


def test_a_network_does_not_differ_from_itself() -> None:
    same = mean_iou_difference(counts(10, 0), counts(10, 0))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_the_draws_equal_a_loop_over_drawn_images() -> None:
    candidate, baseline = counts(7, 1), counts(7, 2)
    random = np.random.default_rng(5)
    values = []
    for drawn in random.multinomial(7, np.full(7, 1 / 7), size=40):
        chosen = np.repeat(np.arange(7), drawn)
        assert len(chosen) == 7
        values.append(mean_iou(candidate[chosen].sum(0)) - mean_iou(baseline[chosen].sum(0)))
    found = mean_iou_difference(candidate, baseline, num_resamples=40, seed=5)
    assert found.low == pytest.approx(np.quantile(values, 0.025))
    assert found.high == pytest.approx(np.quantile(values, 0.975))
    assert found.value == pytest.approx(mean_iou(candidate.sum(0)) - mean_iou(baseline.sum(0)))


def test_pairing_narrows_the_interval_of_a_constant_gain() -> None:
    hard = counts(40, 3, right=5) * np.random.default_rng(0).integers(1, 30, (40, 1, 1))
    better = hard + 3 * np.eye(3, dtype=np.int64)
    paired = mean_iou_difference(better, hard)
    alone = mean_iou_interval(hard)
    assert 0 < paired.low < paired.value < paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_images_that_differ_in_number_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same images"):
        mean_iou_difference(counts(3, 0), counts(4, 0))


def test_draws_in_parts_are_the_draws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, 99, (6, 4))
    whole = _resample_counts(rows, num_resamples=50)
    monkeypatch.setattr(bootstrap, "_MAX_WEIGHTS_IN_MEMORY", 20)
    assert np.array_equal(_resample_counts(rows, num_resamples=50), whole)


def test_a_figure_that_no_draw_knows_has_no_interval_and_raises_no_warning() -> None:
    (found,) = _percentile_intervals(np.array([np.nan]), np.full((9, 1), np.nan))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_a_class_that_is_in_one_image_is_bounded_by_the_draws_that_have_it() -> None:
    rows = np.zeros((5, 2, 2), np.int64)
    rows[:, 0, 0] = 9
    rows[0, 1, 1] = rows[0, 1, 0] = 4
    assert compute_intervals(stack_image_counts(rows), 2)["iou"][1] == Interval(0.5, 0.5, 0.5)


def test_all_figures_are_bounded_as_the_mean_alone() -> None:
    rows, intersection = counts(9, 4), np.random.default_rng(1).integers(0, 9, (9, 3))
    found = compute_intervals(stack_image_counts(rows, intersection, intersection + 5), 3)
    assert found["mean_iou"] == [mean_iou_interval(rows)]
    assert set(found) == {
        "iou", "dice", "precision", "recall", "pixel_accuracy", "boundary_iou",
        "mean_iou", "mean_dice", "mean_boundary_iou",
    }  # fmt: skip
    for one in found["boundary_iou"]:
        assert one.low < one.value < one.high
    assert [one.value for one in found["boundary_iou"]] == pytest.approx(
        intersection.sum(0) / (intersection + 5).sum(0)
    )


def test_differences_by_class_are_on_the_same_draws() -> None:
    candidate, baseline = stack_image_counts(counts(8, 1)), stack_image_counts(counts(8, 2))
    found = compute_differences(candidate, baseline, 3, num_resamples=60, seed=3)
    apart = (
        compute_metrics(_resample_counts(candidate, 60, 3), 3)["iou"]
        - compute_metrics(_resample_counts(baseline, 60, 3), 3)["iou"]
    )
    for i, one in enumerate(found["iou"]):
        assert (one.low, one.high) == pytest.approx(tuple(np.quantile(apart[:, i], [0.025, 0.975])))
    assert found["mean_iou"] == [mean_iou_difference(counts(8, 1), counts(8, 2), num_resamples=60, seed=3)]
    with pytest.raises(ValueError, match="expected the same images"):
        compute_differences(candidate, baseline[:7], 3)


def test_an_interval_is_printed_as_it_is_asked_for() -> None:
    one = Interval(0.7261, -0.0004, 0.7318)
    assert f"{one:.3f}" == "0.726 [-0.000, 0.732]"
    assert str(one) == "+0.7261 [-0.0004, +0.7318]"
    assert not one.excludes_zero
    assert Interval(-0.2, -0.3, -0.1).excludes_zero
