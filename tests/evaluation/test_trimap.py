from __future__ import annotations

import math

import numpy as np
import pytest
from brute_force import images, near_border
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dilated import InputError
from dilated.evaluation.boundary import trimap_counts

Image = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def test_one_class_everywhere_has_no_border() -> None:
    found = trimap_counts(np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8), 2, (1, 9))
    assert found.counts.sum() == 0
    assert all(map(math.isnan, [*found.curve("mean_iou"), *found.curve("pixel_accuracy")]))


def test_what_is_not_labelled_makes_no_border_and_hides_none() -> None:
    target = np.array([[0, 0, 255, 1]], np.uint8)
    found = trimap_counts(target, target, 2, (1, 2, 3))
    assert found.counts[:, 1].tolist() == [[0, 0], [1, 1], [2, 1]]


@pytest.mark.parametrize("widths", [(0, 1), (2, 1), (2, 2), (-3,)])
def test_widths_that_do_not_grow_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"trimap: .* are not increasing widths.*Give pixels"):
        trimap_counts(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 2, widths)


def test_errors_far_from_borders_count_in_no_band() -> None:
    target = np.zeros((5, 30), np.uint8)
    target[:, 15:] = 1
    labels = target.copy()
    labels[:, :10] = 1
    assert trimap_counts(labels, target, 2, (1, 5, 6, 15)).curve("mean_iou").tolist() == pytest.approx(
        [1.0, 1.0, (5 / 6 + 6 / 7) / 2, (5 / 15 + 15 / 25) / 2]
    )


@settings(deadline=None, max_examples=50)
@given(images, st.sets(st.integers(1, 5), min_size=1).map(sorted))
def test_counts_are_those_of_the_definition(image: Image, widths: list[int]) -> None:
    labels, target = image
    found = trimap_counts(labels, target, 4, widths)
    assert found.counts.dtype == np.int64
    for i, width in enumerate(widths):
        pixels = [(int(target[p]), int(labels[p])) for p in near_border(target, width)]
        for one in range(4):
            expected = [pixels.count((one, one)), sum(t == one for t, _ in pixels), sum(g == one for _, g in pixels)]
            assert found.counts[i, :, one].tolist() == expected
