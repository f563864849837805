import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.errors import InputError
from dilated.training.losses import LossConfig
from dilated.training.weighting import balance

counts = st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any)


@pytest.mark.parametrize("pixels", [[], [0, 0], [3, -1]])
def test_pixels_that_are_none_are_refused(pixels: list[int]) -> None:
    with pytest.raises(InputError, match="found the pixels"):
        balance(pixels)


@pytest.mark.parametrize(
    ("power", "cap"), [(-0.1, 10), (math.nan, 10), (math.inf, 10), (0.5, 0.9), (0.5, math.nan), (0.5, math.inf)]
)
def test_a_power_or_cap_out_of_range_is_refused(power: float, cap: float) -> None:
    with pytest.raises(InputError, match="found power="):
        balance([1, 2], power, cap)


def test_power_1_gives_every_class_the_same_weight_in_all_and_power_0_every_pixel() -> None:
    pixels = [600, 300, 100]
    assert [w * p for w, p in zip(balance(pixels, power=1), pixels, strict=True)] == pytest.approx([1000 / 3] * 3)
    assert balance(pixels, power=0) == pytest.approx((1.0, 1.0, 1.0))


def test_a_single_class_weighs_1() -> None:
    assert balance([0, 7], power=2) == (1.0, 1.0)


def test_a_class_without_pixels_changes_no_other_weight() -> None:
    assert balance([500, 0, 20])[::2] == balance([500, 20])


def test_capping_one_class_can_carry_another_to_the_cap() -> None:
    assert balance([10**6, 200, 100], power=1, cap=1500)[1:] == (1500, 1500)


@settings(deadline=None, max_examples=200)
@given(counts, st.floats(0, 2), st.floats(1, 100))
def test_the_mean_over_pixels_is_1_the_cap_holds_and_the_rest_follow_the_power(
    pixels: list[int], power: float, cap: float
) -> None:
    weights = balance(pixels, power, cap)
    assert sum(w * p for w, p in zip(weights, pixels, strict=True)) == pytest.approx(sum(pixels), rel=1e-9)
    assert max(weights) <= cap
    assert all(type(w) is float and w > 0 for w in weights)
    free = [w * p**power for w, p in zip(weights, pixels, strict=True) if p and w < cap * (1 - 1e-9)]
    assert free == pytest.approx([sum(free) / len(free)] * len(free) if free else [])
    assert all(weights[a] >= weights[b] for a, p in enumerate(pixels) for b, q in enumerate(pixels) if 0 < p <= q)


@settings(deadline=None, max_examples=50)
@given(counts)
def test_a_loss_takes_the_weights(pixels: list[int]) -> None:
    assert LossConfig(class_weights=balance(pixels)).class_weights == balance(pixels)
