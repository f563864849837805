from __future__ import annotations

import numpy as np
import pytest
from brute_force import band, images
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dilated import InputError
from dilated.evaluation.boundary import (
    _find_changes,
    _sliding_extremum,
    band_width_in_pixels,
    boundary_counts,
    find_boundary_band,
)

Image = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def test_nothing_labelled_has_no_band() -> None:
    counts = boundary_counts(np.zeros((3, 3), np.uint8), np.full((3, 3), 255, np.uint8), 2)
    assert counts.intersection.tolist() == counts.union.tolist() == [0, 0]
    assert counts.intersection.dtype == counts.union.dtype == np.int64


def test_the_outside_of_the_image_is_outside_of_the_mask() -> None:
    target = np.zeros((7, 9), np.uint8)
    counts = boundary_counts(target, target, 1, width=2)
    assert counts.union.tolist() == [7 * 9 - 3 * 5]


def test_what_is_not_labelled_makes_no_outline() -> None:
    target = np.zeros((9, 9), np.uint8)
    target[4, 4] = 255
    assert boundary_counts(target, np.where(target == 255, 255, 0), 1, width=1).union.tolist() == [81 - 49]


def test_a_class_beside_another_keeps_its_own_id() -> None:
    target = np.full((4, 8), 2, np.uint8)
    target[:, 4:] = 5
    assert boundary_counts(target, target, 8, width=1).union.nonzero()[0].tolist() == [2, 5]


def test_great_class_ids_do_not_wrap() -> None:
    target = np.full((5, 10), 254, np.uint8)
    target[:, 5:] = 0
    counts = boundary_counts(target, target, 255, width=1)
    assert (counts.union[254], counts.union[0]) == (25 - 9, 25 - 9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (4, 2)])
def test_a_band_wider_than_the_image_is_all_of_it(shape: tuple[int, int]) -> None:
    target = np.zeros(shape, np.uint8)
    assert boundary_counts(target, target, 1, width=50).union.tolist() == [target.size]


@pytest.mark.parametrize("width", [0, -1, 1.5, float("nan"), float("inf")])
def test_a_width_that_is_neither_pixels_nor_a_share_is_refused(width: float) -> None:
    with pytest.raises(InputError, match=r"boundary width: .* is neither .*Give a fraction of the diagonal"):
        band_width_in_pixels((10, 10), width)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        find_boundary_band(np.zeros((1, 1), np.uint8), np.ones((1, 1), bool), 0)


@settings(deadline=None, max_examples=60)
@given(images, st.integers(1, 4))
def test_counts_are_those_of_the_definition(image: Image, width: int) -> None:
    labels, target = image
    counts = boundary_counts(labels, target, 4, width)
    for one in range(4):
        truth, guess = band(target, target, one, width), band(labels, target, one, width)
        assert (counts.intersection[one], counts.union[one]) == (len(truth & guess), len(truth | guess))


@pytest.mark.parametrize("shape", [(40, 60), (61, 33), (200, 300)])
@pytest.mark.parametrize("ignored", [0.0, 0.05])
def test_counts_are_those_of_eroding_each_mask_with_opencv(shape: tuple[int, int], ignored: float) -> None:
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    target = np.kron(random.integers(0, 4, (shape[0] // 12 + 1, shape[1] // 12 + 1)), np.ones((12, 12)))
    target = target[: shape[0], : shape[1]].astype(np.uint8)
    labels = np.roll(target, (2, -3), (0, 1))
    target = np.where(random.random(shape) < ignored, np.uint8(255), target)
    steps = max(1, round(0.02 * np.hypot(*shape)))

    def eroded(ids: NDArray[np.uint8], one: int) -> NDArray[np.bool_]:
        mask = ((ids == one) | (target == 255)).astype(np.uint8)
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1]
        return (ids == one) & (target != 255) & (inner == 0)

    counts = boundary_counts(labels, target, 4)
    for one in range(4):
        truth, guess = eroded(target, one), eroded(labels, one)
        assert (counts.intersection[one], counts.union[one]) == ((truth & guess).sum(), (truth | guess).sum())


@settings(deadline=None, max_examples=30)
@given(images, st.integers(1, 3))
def test_a_perfect_prediction_hits_all_of_the_union(image: Image, width: int) -> None:
    _, target = image
    counts = boundary_counts(np.where(target == 255, 1, target), target, 4, width)
    assert counts.intersection.tolist() == counts.union.tolist()


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_changes_between_neighbors_find_what_sliding_extrema_find(seed: int, width: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = random.integers(1, 40, 2)
    labels = np.kron(random.integers(0, 255, (rows, columns)), np.ones((2, 3)))[:rows, :columns].astype(np.uint8)
    if seed % 3 == 0:
        labels[random.random(labels.shape) < 0.9] = 7
    maximum = _sliding_extremum(labels, width, np.maximum, 0)
    minimum = _sliding_extremum(labels, width, np.minimum, 255)
    assert np.array_equal(_find_changes(labels, width), (maximum != labels) | (minimum != labels))


def test_one_pixel_that_is_not_labelled_changes_only_its_surroundings() -> None:
    random = np.random.default_rng(0)
    labels = np.kron(random.integers(0, 4, (6, 8)), np.ones((10, 10))).astype(np.uint8)
    valid = np.ones(labels.shape, bool)
    everywhere = find_boundary_band(labels, valid, 3)
    valid[30, 40] = False
    changed = find_boundary_band(labels, valid, 3) != everywhere
    assert not np.delete(changed, np.s_[27:34], axis=0).any()
