"""Convolutions that record gradients, against float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dilated.kernels.geometry import ConvGeometry
from dilated.kernels.gradients import depthwise_conv2d, pointwise_conv2d
from dilated.kernels.native import load_native

pytestmark = pytest.mark.skipif(load_native() is None, reason="no C++ compiler")
CLAMPS = [(-math.inf, math.inf), (0.0, math.inf), (0.0, 0.5)]


def assert_same_gradients(y: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    """Compare a result and its gradients with those in float64."""
    gradient = torch.randn(y.shape)
    results = [y, *torch.autograd.grad(y, inputs, gradient)]
    exact = [expected, *torch.autograd.grad(expected, inputs, gradient.double())]
    for a, b in zip((t.detach() for t in results), (t.detach() for t in exact), strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= 2e-6 * max(1.0, float(b.abs().max()))


@given(
    n=st.integers(1, 2), channels=st.integers(2, 40), size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 3, 5, 7])), stride=st.integers(1, 3),
    dilation=st.integers(1, 4), padding=st.integers(0, 4), clamp=st.sampled_from(CLAMPS), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_depthwise_gradients_are_those_of_float64(
    n: int, channels: int, size: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int, padding: int,
    clamp: tuple[float, float], seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    geometry = ConvGeometry(
        kernel, (padding,) * 2, (padding,) * 2, (dilation,) * 2, stride=(stride,) * 2, groups=channels
    )
    if min(geometry.output_size(*size)) < 1:
        return
    x, weight = torch.randn(n, channels, *size, requires_grad=True), torch.randn(channels, 1, *kernel)
    bias = torch.randn(channels, requires_grad=True)
    weight.requires_grad_(True)
    y = depthwise_conv2d(x, weight, bias, geometry, *clamp)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), stride, padding, dilation, channels)
    mask = (y > clamp[0]) & (y < clamp[1])  # where rounding decides, a value may be clamped in one alone
    expected = torch.where(mask, exact, y.detach().double())
    assert_same_gradients(y, expected, [x, weight, bias])


@pytest.mark.parametrize("clamp", CLAMPS)
def test_pointwise_gradients_are_those_of_float64(clamp: tuple[float, float]) -> None:
    x, weight = torch.randn(2, 17, 5, 6, requires_grad=True), torch.randn(23, 17, 1, 1, requires_grad=True)
    bias = torch.randn(23, requires_grad=True)
    y = pointwise_conv2d(x, weight, bias, *clamp)
    exact = F.conv2d(x.double(), weight.double(), bias.double())
    expected = torch.where((y > clamp[0]) & (y < clamp[1]), exact, y.detach().double())
    assert_same_gradients(y, expected, [x, weight, bias])


def test_gradients_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 150, 20, 21, requires_grad=True), torch.randn(150, 1, 5, 5, requires_grad=True)
    geometry, threads, gradients = ConvGeometry((5, 5), (4, 4), (4, 4), (2, 2), groups=150), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            y = depthwise_conv2d(x, weight, None, geometry, 0.0, 6.0)
            gradients.append(torch.autograd.grad(y.square().sum(), [x, weight]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
