"""Polygons and run lengths as masks, against their definitions."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dilated.data.masks import compress_rle, decode_rle, decompress_rle, encode_rle, merge_masks, rasterize_polygon
from dilated.errors import InputError

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@settings(deadline=None)
@given(masks)
def test_runs_of_a_mask_are_read_back_and_so_is_their_text(mask: np.ndarray) -> None:
    runs = encode_rle(mask)
    assert np.array_equal(decode_rle(runs, mask.shape), mask)
    assert decompress_rle(compress_rle(runs)) == runs
    assert sum(runs) == mask.size
    assert sum(runs[1::2]) == mask.sum()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), max_size=30))
def test_any_runs_are_read_back_from_their_text(runs: list[int]) -> None:
    assert decompress_rle(compress_rle(runs)) == runs


def test_runs_go_down_the_columns() -> None:
    assert encode_rle(np.array([[0, 0, 1], [1, 0, 1]], dtype=bool)) == [1, 1, 2, 2]
    assert decode_rle([1, 1, 2, 2], (2, 3)).tolist() == [[False, False, True], [True, False, True]]


@pytest.mark.parametrize(
    ("runs", "text"),
    [([1, 3], "13"), ([0, 5], "05"), ([150, 1, 149, 300], "f41e4[9"), ([6, 1, 40, 4, 5, 4], "61X13mN0")],
)
def test_the_text_is_that_of_pycocotools(runs: list[int], text: str) -> None:
    assert compress_rle(runs) == text
    assert decompress_rle(text) == runs


@pytest.mark.parametrize("text", ["1 3", "13~", "13\u20ac", "1X", "f"])
def test_a_damaged_text_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="compressed mask"):
        decompress_rle(text)


@pytest.mark.parametrize("runs", [[], [3], [7], [-1, 7], [2**62] * 4 + [6], [2**70], [1.0, 5.0]])
def test_runs_that_do_not_fill_the_mask_are_an_error(runs: list[int]) -> None:
    with pytest.raises(InputError, match=r"its runs (are not all|have)"):
        decode_rle(runs, (2, 3))


anywhere = st.tuples(st.floats(-3, 9), st.floats(-3, 9))
corners = st.integers(-8, 40).map(lambda n: n / 4)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(corners, corners), min_size=1, max_size=8))
@example([(-1.75, 7.75), (7.75, -1.75)])
def test_a_polygon_has_the_pixels_whose_centre_a_ray_to_the_left_leaves_it_from(
    polygon: list[tuple[float, float]],
) -> None:
    expected = np.zeros((6, 7), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        for row, column in np.ndindex(6, 7):
            y = row + 0.5
            if (y0 <= y) != (y1 <= y):
                # x of the crossing <= centre, multiplied out so that all numbers are exact
                left = (x0 - column - 0.5) * (y1 - y0) + (y - y0) * (x1 - x0)
                expected[row, column] ^= left <= 0 if y1 > y0 else left >= 0
    found = rasterize_polygon(np.array(polygon), (6, 7))
    assert np.array_equal(found, expected)


@settings(deadline=None, max_examples=150)
@given(anywhere, anywhere, anywhere, anywhere)
@example((-1.75, 7.75), (7.75, -1.75), (0.0, 0.0), (6.0, 4.0))
def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float]
) -> None:
    one, other, whole = (rasterize_polygon(np.array(p), (6, 7)) for p in ([a, b, c], [c, a, d], [a, b, c, d]))
    assert np.array_equal(one ^ other, whole)
    assert not rasterize_polygon(np.array([a, b]), (6, 7)).any()


@settings(deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(0, 5), st.just(4), st.just(6))))
def test_the_smaller_mask_is_on_top_and_of_equals_the_later(group: np.ndarray) -> None:
    label = merge_masks(enumerate(group, 1), (4, 6), 9)
    for y, x in np.ndindex(4, 6):
        there = [(int(mask.sum()), -value) for value, mask in enumerate(group, 1) if mask[y, x]]
        assert label[y, x] == (-min(there)[1] if there else 9)
