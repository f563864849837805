from __future__ import annotations

import json

import numpy as np
import pytest
from brute_force import CLASSES, NAMES, Told, drawn, pairs_of

from dilated import Classes, InputError
from dilated.data.groups import Groups
from dilated.evaluation.compare import Comparison, compare
from dilated.evaluation.evaluate import MetricsConfig, evaluate
from dilated.evaluation.intervals import compute_differences

TARGETS, ANSWERS = drawn(12)
OTHERS = [np.where(np.arange(a.size).reshape(a.shape) % 3, a, 0).astype(np.uint8) for a in ANSWERS]


def both(mine: list[np.ndarray], others: list[np.ndarray]) -> Comparison:
    return compare(
        [Told(mine)], [Told(others)], pairs_of(TARGETS), CLASSES, MetricsConfig(boundary=True), names=("a", "b")
    )


def test_a_network_against_itself_does_not_differ() -> None:
    same = both(ANSWERS, ANSWERS)
    assert same.changed_pixels["changed"] == 0
    assert {(g.value, g.low, g.high) for gaps in same.differences.values() for g in gaps} == {(0.0, 0.0, 0.0)}
    assert same.describe() == "a and b label every labelled pixel the same."


def test_one_pass_is_two_evaluations() -> None:
    found = both(ANSWERS, OTHERS)
    apart = [evaluate(Told(x), pairs_of(TARGETS), CLASSES, MetricsConfig(boundary=True)) for x in (ANSWERS, OTHERS)]
    assert found.candidate.to_dict(per_image=True) == apart[0].to_dict(per_image=True)
    assert found.baseline.to_dict(per_image=True) == apart[1].to_dict(per_image=True)
    assert (
        found.differences
        == compute_differences([apart[0].image_counts], [apart[1].image_counts], 4, apart[0].groups).metrics
    )
    assert "boundary_iou" in found.differences


def test_classes_in_another_order_are_matched_by_name() -> None:
    turned = NAMES[::-1]
    baseline = Told([3 - other for other in OTHERS], turned)
    found = compare([Told(ANSWERS)], [baseline], pairs_of(TARGETS), CLASSES)
    straight = both(ANSWERS, OTHERS)
    assert found.baseline.confusion.counts.tolist() == straight.baseline.confusion.counts.tolist()
    assert np.array_equal(found.changed, straight.changed)


def test_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"only the network has \['bike'\]"):
        compare([Told(ANSWERS)], [Told(OTHERS, ("sky", "road", "tree", "bike"))], pairs_of(TARGETS), CLASSES)


def test_changed_pixels_are_counted_where_labelled() -> None:
    found = both(ANSWERS, OTHERS).changed_pixels
    expected = [0, 0, 0]
    for target, mine, other in zip(TARGETS, ANSWERS, OTHERS, strict=True):
        for t, a, b in zip(target.flat, mine.flat, other.flat, strict=True):
            if t != 255 and a != b:
                expected[0 if a == t else 1 if b == t else 2] += 1
    assert [found["only_candidate_right"], found["only_baseline_right"], found["both_wrong"]] == expected
    assert found["changed"] == sum(expected)


def test_the_sentence_claims_no_more_than_the_interval_does() -> None:
    clear, turned = both(ANSWERS, OTHERS), both(OTHERS, ANSWERS)
    assert clear.describe().startswith("a has the higher mean IoU by more than the chance of which images")
    assert turned.describe().startswith("b has the higher mean IoU")
    assert "is not shown: another seed is another network" in clear.describe()
    halves = [mine if i % 2 else other for i, (mine, other) in enumerate(zip(ANSWERS, OTHERS, strict=True))]
    turns = [other if i % 2 else mine for i, (mine, other) in enumerate(zip(ANSWERS, OTHERS, strict=True))]
    unclear = both(halves, turns)
    assert unclear.describe().startswith("Which is better is not shown")
    assert "cannot be told apart" in unclear.describe()


def test_one_image_tells_nothing_of_chance() -> None:
    one = Classes(CLASSES.names, CLASSES.colors)
    found = compare([Told(ANSWERS)], [Told(OTHERS)], pairs_of(TARGETS[:1]), one)
    assert not any(interval.is_known for interval in found.differences["mean_iou"])
    assert found.describe() == "Which is better is not shown. No intervals: 1 image says nothing of chance."
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_comparison_is_json() -> None:
    found = both(ANSWERS, OTHERS).to_dict()
    json.dumps(found, allow_nan=False)
    gap = found["difference"]["mean_iou"]
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert list(found["difference"]["iou"]) == list(NAMES)


def test_a_comparison_prints_both_means_the_difference_and_what_it_says() -> None:
    found = both(ANSWERS, OTHERS)
    text = str(found)
    assert text.startswith("A is a, B is b\nmean IoU: A ")
    assert f"A minus B {found.differences['mean_iou'][0]:+.3f}" in text
    assert text.endswith(found.describe())
    assert str(found.changed_pixels["changed"]) in text


def with_noise(answers: list[np.ndarray], fraction: float, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [
        np.where(random.random(a.shape) < fraction, random.integers(0, 4, a.shape), a).astype(np.uint8) for a in answers
    ]


RIGHT = [np.where(target == 255, 0, target).astype(np.uint8) for target in TARGETS]


def trainings(fractions: list[float], seed: int) -> list[Told]:
    return [Told(with_noise(RIGHT, fraction, seed + i)) for i, fraction in enumerate(fractions)]


def test_better_takes_three_trainings_of_each() -> None:
    good, bad = [0.1, 0.12, 0.11], [0.5, 0.55, 0.52]
    shown = compare(trainings(good, 0), trainings(bad, 9), pairs_of(TARGETS), CLASSES, names=("a", "b"))
    assert shown.describe().startswith("a is better than b: the interval of the difference in mean IoU, over groups")
    few = compare(trainings(good[:2], 0), trainings(bad, 9), pairs_of(TARGETS), CLASSES, names=("a", "b"))
    assert (
        "is not shown: another seed is another network, and that takes 3 trainings of each (here 2 and 3)"
        in few.describe()
    )
    assert "is better than b:" not in few.describe()


def test_trainings_that_differ_among_themselves_show_nothing() -> None:
    unsteady = compare(
        trainings([0.1, 0.6, 0.1], 0), trainings([0.55, 0.15, 0.6], 9), pairs_of(TARGETS), CLASSES, names=("a", "b")
    )
    single = compare(trainings([0.1], 0), trainings([0.55], 9), pairs_of(TARGETS), CLASSES)
    assert single.differences["mean_iou"][0].excludes_zero
    assert unsteady.describe().startswith("Which is better is not shown")


def test_the_difference_is_that_of_the_means_over_trainings() -> None:
    found = compare(trainings([0.1, 0.2, 0.3], 0), trainings([0.4, 0.5], 9), pairs_of(TARGETS), CLASSES)
    means = [np.mean([run.confusion.mean_iou for run in side]) for side in found.sides]
    assert found.differences["mean_iou"][0].value == pytest.approx(means[0] - means[1])
    assert found.mean_values("mean_iou") == pytest.approx(tuple(means))
    assert "(mean of " in str(found)
    figures = found.to_dict()
    json.dumps(figures, allow_nan=False)
    assert [len(side) for side in figures["runs"]] == [3, 2]


def test_one_film_shows_nothing_elsewhere() -> None:
    targets = TARGETS * 2
    right = RIGHT * 2
    sides = [[Told(with_noise(right, f, s)) for s in range(3)] for f in (0.1, 0.6)]
    found = compare(*sides, pairs_of(targets), CLASSES, names=("a", "b"))
    film = found.with_groups(Groups(("film",) * len(targets), tuple(range(len(targets))), "given"))
    assert film.describe().startswith("On this data a is better than b")
    assert "That it is better elsewhere is not shown" in film.describe()
