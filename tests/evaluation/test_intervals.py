from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dilated.data.groups import Groups
from dilated.evaluation.intervals import Interval, MetricIntervals, compute_differences, compute_intervals
from dilated.evaluation.metrics import compute_metrics, stack_image_counts
from dilated.evaluation.variance import student_quantile


def counts(images: int, seed: int, right: int = 50) -> np.ndarray:
    random = np.random.default_rng(seed)
    return stack_image_counts(random.integers(1, 20, (images, 3, 3)) + right * np.eye(3, dtype=np.int64))


def groups(*sizes: int) -> Groups:
    labels = tuple(f"g{i}" for i, size in enumerate(sizes) for _ in range(size))
    return Groups(labels, tuple(n for size in sizes for n in range(size)), "given")


def clustered(seed: int, *sizes: int) -> np.ndarray:
    """Counts of two classes; how many pixels are right is that of the group, and nearly the same in its images."""
    random = np.random.default_rng(seed)
    right = np.repeat(1 / (1 + np.exp(-random.normal(1, 0.8, len(sizes)))), sizes)
    right = np.clip(right + random.normal(0, 0.01, len(right)), 0, 1)
    rows = np.stack(
        [np.stack([1000 * right, 1000 * (1 - right)], -1), np.stack([500 * (1 - right), 500 * right], -1)], 1
    )
    return stack_image_counts(rows.round().astype(np.int64))


def mean_iou(found: MetricIntervals) -> Interval:
    return found.metrics["mean_iou"][0]


def test_the_quantile_is_students() -> None:
    freedom = np.concatenate([np.geomspace(1, 500, 200), [1e9]])
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.01)


def test_of_groups_of_one_size_it_is_students_interval_on_the_logit_scale() -> None:
    random = np.random.default_rng(0)
    right = random.integers(600, 900, 9)
    table = np.stack([np.stack([right, 1000 - right], -1), np.zeros((9, 2), np.int64)], 1)
    found = compute_intervals(stack_image_counts(table), 2, groups(*[1] * 9)).metrics["recall"][0]
    rate, half = right.mean() / 1000, stats.t.ppf(0.975, 8) * (right / 1000).std(ddof=1) / 3
    logit, slope = np.log(rate / (1 - rate)), 1 / (rate * (1 - rate))
    expected = [1 / (1 + np.exp(-(logit + sign * half * slope))) for sign in (-1, 1)]
    assert found.value == pytest.approx(rate)
    assert [found.low, found.high] == pytest.approx(expected, rel=2e-3)


def test_images_of_a_group_are_no_more_evidence_than_the_group() -> None:
    rows = clustered(0, *[30] * 8)
    by_group = compute_intervals(rows, 2, groups(*[30] * 8))
    one_each = compute_intervals(rows[::30], 2, groups(*[1] * 8))
    as_images = compute_intervals(rows, 2, groups(*[1] * 240))
    width = [mean_iou(found).high - mean_iou(found).low for found in (by_group, one_each, as_images)]
    assert width[0] == pytest.approx(width[1], rel=0.1)
    assert width[2] < width[0] / 4
    assert by_group.units.effective_images == pytest.approx(8, rel=0.3)
    assert (by_group.units.kind, by_group.units.number, by_group.units.groups) == ("group", 8, 8)
    assert (as_images.units.kind, as_images.units.effective_images) == ("image", 240)


def test_fewer_groups_give_a_wider_interval_though_there_are_more_images() -> None:
    few, many = ([clustered(seed, *sizes) for seed in range(20)] for sizes in ((80,) * 4, (5,) * 24))
    widths = [
        np.median([mean_iou(found).high - mean_iou(found).low for found in (compute_intervals(r, 2, g) for r in rows)])
        for rows, g in ((few, groups(*[80] * 4)), (many, groups(*[5] * 24)))
    ]
    assert widths[0] > 2 * widths[1]


def test_an_interval_of_few_groups_holds_the_truth_nineteen_times_out_of_twenty() -> None:
    sizes = (4, 9, 6, 5, 7)
    truth = compute_metrics(clustered(10**6, *[1] * 40_000).sum(0), 2)["mean_iou"][0]
    found = [mean_iou(compute_intervals(clustered(seed, *sizes), 2, groups(*sizes))) for seed in range(200)]
    held = np.mean([interval.low <= truth <= interval.high for interval in found])
    assert 0.9 <= held <= 0.985  # two and a half standard errors


def test_the_order_of_images_and_groups_changes_nothing() -> None:
    rows, films = clustered(1, 5, 9, 4, 6), groups(5, 9, 4, 6)
    order = np.random.default_rng(0).permutation(24)
    straight, shuffled = compute_intervals(rows, 2, films), compute_intervals(rows[order], 2, films.select(order))
    for name, intervals in straight.metrics.items():
        for a, b in zip(intervals, shuffled.metrics[name], strict=True):
            assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_frames_of_one_film_are_blocks_of_neighbors_in_the_order_of_their_positions() -> None:
    random = np.random.default_rng(0)
    drift = np.convolve(random.normal(0, 1, 407), np.ones(8) / 8**0.5, "valid")
    right = np.round(1000 / (1 + np.exp(-1 - drift))).astype(np.int64)
    rows = stack_image_counts(np.stack([np.stack([right, 1000 - right], -1), np.tile([100, 900], (400, 1))], 1))
    film = compute_intervals(rows, 2, groups(400))
    images = compute_intervals(rows, 2, groups(*[1] * 400))
    assert mean_iou(film).high - mean_iou(film).low > 2 * (mean_iou(images).high - mean_iou(images).low)
    assert film.units.kind == "block"
    assert 20 < film.units.effective_images < 80  # about 400 / 8
    assert film.units.block_length >= 8
    order = random.permutation(400)
    shuffled = mean_iou(compute_intervals(rows[order], 2, groups(400).select(order)))
    assert (shuffled.low, shuffled.high) == pytest.approx((mean_iou(film).low, mean_iou(film).high))


def test_one_film_says_nothing_about_other_films() -> None:
    text = compute_intervals(counts(40, 0), 3, groups(40)).units.describe()
    assert "1 group: this says nothing about other groups, such as other films." in text
    assert "of them in 40 images of 1 group, g0, worth about" in text
    assert "2 groups: this says nothing" in compute_intervals(counts(40, 0), 3, groups(25, 15)).units.describe()
    assert "says nothing" not in compute_intervals(counts(40, 0), 3, groups(20, 10, 10)).units.describe()


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((1, 1), "2 images say nothing of chance"),
        ((5,), "5 images of 1 group are too few"),
        ((9, 4), "13 images of 2 groups are too few; they take 3 groups, or 8 images of each"),
    ],
)
def test_too_few_are_refused_with_a_reason(sizes: tuple[int, ...], reason: str) -> None:
    found = compute_intervals(counts(sum(sizes), 0), 3, groups(*sizes))
    assert not any(interval.is_known for intervals in found.metrics.values() for interval in intervals)
    assert not np.isnan(mean_iou(found).value)
    assert reason in found.units.describe()


def test_a_class_of_one_group_has_no_interval_and_widens_that_of_the_mean() -> None:
    table = np.random.default_rng(0).integers(1, 20, (6, 3, 3)) + 50 * np.eye(3, dtype=np.int64)
    table[1:, 2], table[1:, :, 2] = 0, 0
    found = compute_intervals(stack_image_counts(table), 3, groups(*[1] * 6))
    without = compute_intervals(stack_image_counts(table[:, :2, :2]), 2, groups(*[1] * 6))
    assert found.metrics["iou"][0].is_known
    assert not found.metrics["iou"][2].is_known
    assert found.metrics["iou"][2].value > 0
    assert mean_iou(found).high - mean_iou(found).low > mean_iou(without).high - mean_iou(without).low


def test_a_class_in_one_stretch_of_a_film_has_no_interval() -> None:
    table = np.random.default_rng(0).integers(1, 20, (60, 3, 3)) + 50 * np.eye(3, dtype=np.int64)
    table[1:, 2], table[1:, :, 2] = 0, 0
    found = compute_intervals(stack_image_counts(table), 3, groups(60)).metrics["iou"]
    assert [interval.is_known for interval in found] == [True, True, False]


def test_bounds_stay_between_0_and_1_and_hold_the_value() -> None:
    for seed in range(30):
        right = np.random.default_rng(seed).choice([0, 1, 400], 3)
        found = compute_intervals(counts(6, seed, right), 3, groups(1, 1, 1, 3))
        for interval in (interval for intervals in found.metrics.values() for interval in intervals):
            assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_a_metric_without_a_pixel_has_no_interval_and_raises_no_warning() -> None:
    for sizes in ((1,) * 5, (40,)):
        rows = np.zeros((sum(sizes), 9), np.int64)
        found = compute_intervals(rows, 3, groups(*sizes))
        assert all(np.isnan(interval.value) for interval in found.metrics["iou"])
        assert not mean_iou(found).is_known


def test_a_network_does_not_differ_from_itself() -> None:
    for sizes in ((1,) * 10, (10,)):
        same = mean_iou(compute_differences([counts(10, 0)], [counts(10, 0)], 3, groups(*sizes)))
        assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
        assert not same.excludes_zero


def test_a_difference_turns_with_its_sides() -> None:
    a, b = clustered(1, *[4] * 7), clustered(2, *[4] * 7)
    forth = compute_differences([a], [b], 2, groups(*[4] * 7)).metrics
    back = compute_differences([b], [a], 2, groups(*[4] * 7)).metrics
    for name, intervals in forth.items():
        for x, y in zip(intervals, back[name], strict=True):
            assert (x.value, x.low, x.high) == pytest.approx((-y.value, -y.high, -y.low))


def test_pairing_narrows_the_interval_of_a_constant_gain() -> None:
    hard = np.random.default_rng(0).integers(1, 20, (40, 3, 3)) + 5 * np.eye(3, dtype=np.int64)
    hard = hard * np.random.default_rng(0).integers(1, 30, (40, 1, 1))
    better = stack_image_counts(hard + 3 * np.eye(3, dtype=np.int64))
    paired = mean_iou(compute_differences([better], [stack_image_counts(hard)], 3, groups(*[1] * 40)))
    alone = mean_iou(compute_intervals(stack_image_counts(hard), 3, groups(*[1] * 40)))
    assert 0 < paired.low < paired.value < paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_counts_that_differ_in_number_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same images"):
        compute_differences([counts(3, 0)], [counts(4, 0)], 3, groups(1, 1, 1))
    with pytest.raises(ValueError, match="groups of 4 images and counts of 3"):
        compute_intervals(counts(3, 0), 3, groups(4))


def test_all_metrics_have_intervals_about_the_values_that_they_have() -> None:
    rows, intersection = counts(9, 4), np.random.default_rng(1).integers(0, 9, (9, 3))
    rows = np.concatenate([rows, intersection, intersection + 5], axis=1)
    found = compute_intervals(rows, 3, groups(*[1] * 9)).metrics
    metrics = compute_metrics(rows.sum(0), 3)
    assert found.keys() == metrics.keys()
    for name, values in metrics.items():
        assert [interval.value for interval in found[name]] == pytest.approx(values.tolist())
        assert all(interval.low < interval.value < interval.high for interval in found[name])


def test_an_interval_is_printed_as_it_is_asked_for() -> None:
    interval = Interval(0.7261, -0.0004, 0.7318)
    assert f"{interval:.3f}" == "0.726 [-0.000, 0.732]"
    assert str(interval) == "+0.7261 [-0.0004, +0.7318]"
    assert not interval.excludes_zero
    assert Interval(-0.2, -0.3, -0.1).excludes_zero
