from __future__ import annotations

import numpy as np
import pytest
from brute_force import CLASSES, NAMES, Told, drawn, pairs_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.evaluation.evaluate import MetricsConfig, evaluate, merge
from dilated.evaluation.result import EvaluationResult

ALL = MetricsConfig(boundary=True, boundary_width=2, trimap=(1, 3), calibration=True)
TARGETS, ANSWERS = drawn(7)


def measured(indices: list[int] | None = None, metrics: MetricsConfig = ALL) -> EvaluationResult:
    return evaluate(Told(ANSWERS), pairs_of(TARGETS), CLASSES, metrics=metrics, indices=indices)


WHOLE = measured()


def test_no_part_is_refused() -> None:
    with pytest.raises(ValueError, match="found no part"):
        merge([])


def test_an_image_in_two_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="image 3 in two parts"):
        merge([measured([0, 1, 2, 3]), measured([3, 4, 5, 6])])


def test_an_image_in_no_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image 2 in no part \(2 such of 7\)"):
        merge([measured([0, 1, 3]), measured([4, 6])])


@pytest.mark.parametrize(
    "other", [MetricsConfig(), MetricsConfig(True, 0.5, (1, 3), True), MetricsConfig(True, 2, (1, 4), True)]
)
def test_parts_measured_in_another_way_are_refused(other: MetricsConfig) -> None:
    with pytest.raises(ValueError, match="expected the same of all"):
        merge([measured([0, 1, 2]), measured([3, 4, 5, 6], other)])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=7, max_size=7), st.randoms())
def test_parts_of_any_split_make_the_whole_to_the_last_count(owners: list[int], random: object) -> None:
    parts = [[i for i, owner in enumerate(owners) if owner == rank] for rank in range(4)]
    for indices in parts:
        random.shuffle(indices)  # type: ignore[attr-defined]
    merged = merge([measured(indices) for indices in parts])
    assert merged.names == WHOLE.names == tuple(f"p{i}" for i in range(7))
    assert merged.to_dict(per_image=True) == WHOLE.to_dict(per_image=True)
    assert np.array_equal(merged.class_counts, WHOLE.class_counts)
    assert np.array_equal(merged.pooled, WHOLE.pooled)
    for part in ("boundary", "trimap", "calibration"):
        for name, rows in vars(getattr(WHOLE, part)).items():
            assert np.array_equal(getattr(getattr(merged, part), name), rows)


def test_a_part_without_images_is_empty_and_merges() -> None:
    empty = measured([])
    assert empty.names == ()
    assert empty.to_dict()["mean_iou"] is None
    assert merge([empty, WHOLE]).to_dict() == WHOLE.to_dict()


def test_the_whole_is_what_counting_the_images_gives() -> None:
    counts = np.zeros((4, 4), np.int64)
    for target, labels in zip(TARGETS, ANSWERS, strict=True):
        np.add.at(counts, (target[target != 255], labels[target != 255]), 1)
    assert np.array_equal(WHOLE.confusion.counts, counts)
    assert WHOLE.confusion.classes == NAMES
