"""Cook-Toom transforms: exact in rational arithmetic, accurate in float32."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.errors import InputError
from dilated.kernels.winograd import (
    MAX_SIZE,
    cook_toom,
    to_tensor,
    transform_weight,
)


@pytest.mark.parametrize("kernel", range(1, MAX_SIZE + 1))
def test_every_transform_is_an_exact_correlation(kernel: int):
    for tile in range(1, MAX_SIZE + 2 - kernel):
        assert cook_toom(tile, kernel).verify(), (tile, kernel)


def test_a_wrong_entry_is_noticed_by_verify():
    transform = cook_toom(2, 3)
    wrong = ((transform.output[0][0] + 1, *transform.output[0][1:]), *transform.output[1:])
    assert not type(transform)(2, 3, wrong, transform.filter, transform.input).verify()


@pytest.mark.parametrize(("tile", "kernel"), [(2, 3), (4, 3), (6, 3), (4, 5), (4, 7), (6, 7)])
def test_float32_holds_the_entries_of_both_fast_transforms_exactly(tile: int, kernel: int):
    transform = cook_toom(tile, kernel)
    for matrix in (transform.output, transform.input):
        exact = to_tensor(matrix)
        assert torch.equal(exact.float().double(), exact)


def test_transforms_of_one_sample_are_a_product():
    transform = cook_toom(1, 1)
    assert (transform.output, transform.filter, transform.input) == (((1,),),) * 3


@pytest.mark.parametrize(("tile", "kernel"), [(0, 3), (2, 0), (MAX_SIZE, 2), (-1, 3)])
def test_sizes_without_points_are_refused(tile: int, kernel: int):
    with pytest.raises(InputError, match="cook_toom"):
        cook_toom(tile, kernel)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 2**31))
def test_one_dimension_in_float64_equals_the_sum(tile: int, kernel: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    transform = cook_toom(tile, kernel)
    taps = torch.randn(kernel, generator=generator, dtype=torch.float64)
    data = torch.randn(transform.size, generator=generator, dtype=torch.float64)
    expected = torch.stack([(taps * data[k : k + kernel]).sum() for k in range(tile)])
    output, filters, inputs = (to_tensor(m) for m in (transform.output, transform.filter, transform.input))
    torch.testing.assert_close(output @ ((filters @ taps) * (inputs @ data)), expected, rtol=1e-8, atol=1e-8)


def test_weights_are_transformed_in_float64_whatever_their_type():
    weight = torch.randn(2, 3, 3, 5)
    transformed = transform_weight(weight, (4, 2))
    assert transformed.shape == (6 * 6, 2, 3)
    assert transformed.dtype == torch.float64
    assert torch.equal(transformed, transform_weight(weight.double(), (4, 2)))
