"""Inverted residual blocks as one kernel, against float64 layer by layer."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated.kernels import inverted_residual
from dilated.kernels.accelerate import accelerate
from dilated.kernels.inverted_residual import FusedInvertedResidual, is_fusable
from dilated.kernels.layers import TORCH, FastConv2d
from dilated.kernels.native import load_native


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if load_native() is None:
        pytest.skip("no compiler")


CLAMPS = [(0.0, 6.0), (0.0, math.inf), (-math.inf, math.inf)]


@st.composite
def blocks(draw: st.DrawFn) -> tuple[FusedInvertedResidual, Tensor]:
    """A block of any shape that the kernel takes, and an input that may be smaller than the kernel without padding."""
    kernel = (draw(st.sampled_from([1, 3, 5, 7])), draw(st.sampled_from([3, 5, 7])))
    dilation = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    stride = tuple(draw(st.integers(1, 2)) if d == 1 else 1 for d in dilation)
    padding = (draw(st.integers(0, 9)), draw(st.integers(0, 9)))
    height, width = (
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 40))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    torch.manual_seed(draw(st.integers(0, 2**31)))
    hidden, bias = draw(st.integers(1, 50)), draw(st.booleans())
    c_in = draw(st.integers(1, 40)) if draw(st.booleans()) else hidden
    depthwise = nn.Conv2d(hidden, hidden, kernel, stride, padding, dilation, hidden, bias)
    same = stride == (1, 1) and all(2 * p == d * (k - 1) for k, d, p in zip(kernel, dilation, padding, strict=True))
    skip = same and draw(st.booleans())
    c_out = c_in if skip else draw(st.integers(1, 40))
    convs = [nn.Conv2d(c_in, hidden, 1, bias=bias)] if c_in != hidden or draw(st.booleans()) else []
    convs += [depthwise, nn.Conv2d(hidden, c_out, 1, bias=bias)]
    layers = [FastConv2d(conv.requires_grad_(False), TORCH, *draw(st.sampled_from(CLAMPS))) for conv in convs]
    x = torch.randn(draw(st.integers(1, 2)), c_in, height, width)
    order = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    return FusedInvertedResidual(layers, skip), x.contiguous(memory_format=order)


def one_by_one(block: FusedInvertedResidual, x: Tensor) -> Tensor:
    """The layers in float64."""
    y = x = x.double()
    for layer in copy.deepcopy(block.layers).double():
        y = layer.run(y, TORCH)
    return y + x if block.skip else y


@settings(max_examples=60, deadline=None)
@given(blocks(), st.integers(1, 3))
def test_a_block_equals_its_layers_in_float64(case: tuple[FusedInvertedResidual, Tensor], threads: int):
    block, x = case
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = block(x)
    finally:
        torch.set_num_threads(before)
    exact = one_by_one(block, x)
    assert is_fusable(list(block.layers))
    assert result.shape == exact.shape
    assert float((result - exact).abs().max()) <= 3e-6 * float(exact.abs().max()) + 1e-5


def make_block(skip: bool = False, stride: int = 1) -> FusedInvertedResidual:
    convs = [
        nn.Conv2d(24, 144, 1),
        nn.Conv2d(144, 144, 3, stride, padding=1, groups=144),
        nn.Conv2d(144, 24, 1),
    ]
    layers = [FastConv2d(conv.requires_grad_(False), TORCH, *clamp) for conv, clamp in zip(convs, CLAMPS, strict=True)]
    return FusedInvertedResidual(layers, skip)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pixel_has_the_same_bits_in_every_tile(stride: int):
    torch.manual_seed(0)
    block, x = make_block(stride=stride), torch.randn(1, 24, 70, 90)
    whole = block(x)
    part = block(x[:, :, 20:60, 10:80])
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    offset = (20 // stride, 10 // stride)
    window = whole[:, :, offset[0] : offset[0] + part.shape[2], offset[1] : offset[1] + part.shape[3]]
    assert torch.equal(window[inner], part[inner])


def test_the_same_bits_come_out_with_any_number_of_threads():
    torch.manual_seed(0)
    block, x, before = make_block(skip=True), torch.randn(1, 24, 130, 40), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(block(x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in pairwise(results))


def test_a_value_that_is_not_finite_stays_within_the_reach_of_the_kernel():
    torch.manual_seed(0)
    block, x = make_block(), torch.randn(1, 24, 20, 20)
    x[0, 3, 10, 10] = math.nan
    is_finite = block(x).isfinite().all(1)[0]
    assert not is_finite[9:12, 9:12].any()
    assert is_finite.sum() == 400 - 9


def test_without_compiled_kernels_or_while_gradients_are_recorded_the_layers_run(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    block, x = make_block(skip=True), torch.randn(1, 24, 12, 9)
    compiled = block(x)
    recorded = block(x.clone().requires_grad_())
    assert recorded.requires_grad
    monkeypatch.setattr(inverted_residual, "load_native", lambda: None)
    for plain in (recorded, block(x)):
        torch.testing.assert_close(plain, compiled, rtol=1e-5, atol=1e-5)


def test_the_network_within_a_block_is_found_with_its_skip():
    torch.manual_seed(0)
    net = timm.create_model("efficientnet_lite0", num_classes=3).eval().requires_grad_(False)
    x = torch.rand(1, 3, 64, 96)
    fast = accelerate(net, x)
    fused = [module for module in fast.modules() if isinstance(module, FusedInvertedResidual)]
    assert len(fused) == 16
    assert sum(block.skip for block in fused) == 9
    assert [len(block.layers) for block in fused] == [2] + [3] * 15
    assert not any(isinstance(module, FusedInvertedResidual) for module in net.modules())
    assert sum(block.has_skip for stage in net.blocks for block in stage) == 9
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)


class Leaking(nn.Module):
    """A block whose wide map is used a second time, by a plain function that hooks do not see."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8, H, W) -> (N, 8, H, W)."""
        wide = self.wide(x)
        return self.narrow(self.depthwise(wide)) + wide.mean(1, keepdim=True)


def test_a_wide_map_that_is_read_twice_is_not_fused_away():
    torch.manual_seed(0)
    net, x = Leaking().eval().requires_grad_(False), torch.randn(1, 8, 20, 20)
    fast = accelerate(net, x)
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)


class Casting(Leaking):
    """A block that asks a layer within it for the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8, H, W) -> the same."""
        return self.narrow(self.depthwise(self.wide(x.to(self.wide.weight.dtype))))


def test_a_layer_whose_weights_the_network_asks_for_is_not_fused_away():
    torch.manual_seed(0)
    net, x = Casting().eval().requires_grad_(False), torch.randn(1, 8, 20, 20)
    fast = accelerate(net, x)
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
