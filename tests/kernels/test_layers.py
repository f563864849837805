"""Every kernel of a convolution against float64 brute force, compiled and in plain PyTorch."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.kernels import layers
from dilated.kernels.layers import TORCH, FastConv2d, Kernel
from dilated.kernels.native import load_native

DIRECT, DEPTHWISE = Kernel("direct"), Kernel("depthwise")


def winograd(rows: int, columns: int | None = None) -> Kernel:
    return Kernel("winograd", (rows, columns or rows))


@pytest.fixture(params=["compiled", "plain"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the compiled kernels and with those in plain PyTorch."""
    if request.param == "plain":
        monkeypatch.setattr(layers, "load_native", lambda: None)
    elif load_native() is None:
        pytest.skip("no compiler")
    return request.param


def brute_force(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The sum itself, tap by tap, in float64."""
    (kh, kw), (dh, dw), (sh, sw) = conv.kernel_size, conv.dilation, conv.stride
    x = F.pad(x.double(), (conv.padding[1],) * 2 + (conv.padding[0],) * 2)
    height, width = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    y = x.new_zeros(x.shape[0], conv.groups, conv.out_channels // conv.groups, height, width)
    weight = conv.weight.double().unflatten(0, (conv.groups, -1))
    for i in range(kh):
        for j in range(kw):
            part = x[:, :, i * dh :, j * dw :][:, :, : (height - 1) * sh + 1 : sh, : (width - 1) * sw + 1 : sw]
            y += torch.einsum("ngchw,goc->ngohw", part.unflatten(1, (conv.groups, -1)), weight[..., i, j])
    y = y.flatten(1, 2)
    return y if conv.bias is None else y + conv.bias.double()[:, None, None]


LARGE_TILE_LIMIT = 1e-4
"""Of tiles of 5 and 6 outputs: with a 7x7 kernel they take 12 points, whose rounding the dispatcher's limit weighs."""


def assert_equal_to_rounding(conv: nn.Conv2d, x: Tensor, kernel: Kernel, limit: float = 3e-5) -> None:
    exact = brute_force(conv, x)
    result = FastConv2d(conv, kernel)(x)
    assert result.shape == exact.shape
    assert result.dtype == torch.float32
    scale = conv.weight.abs().sum((1, 2, 3)).max() * x.abs().max() + 1e-30
    assert float((result - exact).abs().max() / scale) < limit


@st.composite
def convolutions(draw: st.DrawFn, stride: int = 1) -> tuple[nn.Conv2d, Tensor]:
    """A convolution of any shape that it can have, and an input that may be smaller than the kernel without padding."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    c_in, c_out = groups * draw(st.integers(1, 20)), groups * draw(st.integers(1, 20))
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (7, 7), (5, 5), (1, 1), (2, 2), (1, 3), (3, 1), (7, 5), (4, 3)]))
    dilation = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    padding = (draw(st.integers(0, 9)), draw(st.integers(0, 9)))
    height, width = (
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 40))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    torch.manual_seed(draw(st.integers(0, 2**31)))
    strides = (draw(st.integers(1, stride)), draw(st.integers(1, stride)))
    conv = nn.Conv2d(c_in, c_out, kernel, strides, padding, dilation, groups, bias=draw(st.booleans()))
    x = torch.randn(draw(st.integers(1, 3)), c_in, height, width)
    return conv.requires_grad_(False), x.contiguous(memory_format=draw(st.sampled_from(
        [torch.contiguous_format, torch.channels_last]
    )))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(1, 6), st.integers(1, 6))
def test_winograd_in_plain_pytorch_equals_brute_force(case: tuple[nn.Conv2d, Tensor], rows: int, columns: int):
    conv, x = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "load_native", lambda: None)
        limit = LARGE_TILE_LIMIT if max(rows, columns) > 4 else 3e-5
        assert_equal_to_rounding(conv, x, winograd(rows, columns), limit)


@settings(max_examples=150, deadline=None)
@given(convolutions(), st.sampled_from([(2, 2), (4, 4), (6, 6), (4, 6)]))
def test_winograd_compiled_equals_brute_force(case: tuple[nn.Conv2d, Tensor], tile: tuple[int, int]):
    conv, x = case
    assert_equal_to_rounding(conv, x, Kernel("winograd", tile), LARGE_TILE_LIMIT if 6 in tile else 3e-5)


@settings(max_examples=100, deadline=None)
@given(convolutions(stride=3))
def test_direct_equals_brute_force(case: tuple[nn.Conv2d, Tensor]):
    conv, x = case
    assert_equal_to_rounding(conv, x, DIRECT, 1e-6)


@settings(max_examples=100, deadline=None)
@given(convolutions(stride=3), st.integers(1, 40))
def test_depthwise_equals_brute_force(case: tuple[nn.Conv2d, Tensor], channels: int):
    like, x = case
    conv = nn.Conv2d(
        channels, channels, like.kernel_size, like.stride, like.padding, like.dilation, channels, bias=like.bias is None
    ).requires_grad_(False)
    x = torch.randn(x.shape[0], channels, *x.shape[2:])
    assert_equal_to_rounding(conv, x, DEPTHWISE, 1e-6)


@pytest.mark.parametrize("tile", [(4, 4), (4, 6), (6, 6)])
def test_fc6_is_within_a_ten_thousandth_of_float64(build: str, tile: tuple[int, int]):
    torch.manual_seed(0)
    conv = nn.Conv2d(256, 32, 7, dilation=4).requires_grad_(False)
    x = torch.randn(1, 256, 42, 40).relu()
    exact = brute_force(conv, x)
    error = FastConv2d(conv, Kernel("winograd", tile))(x) - exact
    limit = 1e-4 if tile != (6, 6) else 3e-4
    assert float(error.square().mean().sqrt() / exact.square().mean().sqrt()) < limit


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads: int):
    if load_native() is None:
        pytest.skip("no compiler")
    conv = nn.Conv2d(512, 40, 7, padding=6, dilation=2).requires_grad_(False)  # so wide that threads share tiles
    x = torch.randn(1, 512, 30, 30)
    assert FastConv2d(conv).kernel_bytes(winograd(4)) > 1e6
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = [FastConv2d(conv, k)(x) for k in (winograd(4), DIRECT)]
        torch.set_num_threads(threads)
        results = [FastConv2d(conv, k)(x) for k in (winograd(4), DIRECT)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(expected, results, strict=True))


@pytest.mark.parametrize("kernel", [TORCH, winograd(4), DIRECT])
def test_results_are_clamped(build: str, kernel: Kernel):
    conv = nn.Conv2d(8, 20, 3, padding=1).requires_grad_(False)
    x = 9 * torch.randn(1, 8, 9, 11)
    y = FastConv2d(conv, kernel, low=0.0, high=6.0)(x)
    torch.testing.assert_close(y, F.relu6(conv(x)), atol=1e-4, rtol=1e-4)
    assert float(y.min()) == 0
    assert float(y.max()) == 6


@pytest.mark.parametrize("kernel", [winograd(4), DIRECT])
def test_nan_reaches_every_output_that_reads_it(build: str, kernel: Kernel):
    conv = nn.Conv2d(4, 4, 3, padding=2, dilation=2).requires_grad_(False)
    x = torch.randn(1, 4, 12, 12)
    x[0, 1, 5, 6] = math.nan
    expected, result = conv(x).isnan(), FastConv2d(conv, kernel, low=0.0)(x).isnan()
    assert bool((expected <= result).all())


def test_a_padding_as_tensorflow_has_it(build: str):
    for kernel, stride, size in ((3, 2, 17), (3, 2, 18), (5, 2, 9), (3, 1, 6)):
        conv = Conv2dSame(6, 6, kernel, stride=stride).requires_grad_(False)
        x = torch.randn(1, 6, size, size + 3)
        for way in (TORCH, DIRECT, *([winograd(2)] if stride == 1 else [])):
            torch.testing.assert_close(FastConv2d(conv, way)(x), conv(x), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel_size", [3, 4, (2, 5)])
def test_a_padding_given_by_its_name(build: str, padding: str, kernel_size: int | tuple[int, int]):
    conv = nn.Conv2d(3, 5, kernel_size, padding=padding, dilation=3).requires_grad_(False)
    x = torch.randn(2, 3, 20, 17)
    for kernel in (TORCH, winograd(2), DIRECT):
        torch.testing.assert_close(FastConv2d(conv, kernel)(x), conv(x), atol=1e-5, rtol=1e-5)


def test_an_input_that_is_a_view_is_read_where_it_lies(build: str):
    conv = nn.Conv2d(6, 7, 3).requires_grad_(False)
    storage = torch.randn(2, 9, 20, 30)
    for x in (storage[:, 2:8, 3:15, 1::2], storage.transpose(2, 3)[:, :6], storage[:1, :6, :3, :3]):
        for kernel in (winograd(2), DIRECT):
            torch.testing.assert_close(FastConv2d(conv, kernel)(x), conv(x), atol=1e-5, rtol=1e-5)


def test_empty_batches_and_gradients_run_by_torch(build: str):
    conv = nn.Conv2d(3, 4, 3)
    layer = FastConv2d(conv, winograd(4), low=0.0)
    assert layer(torch.empty(0, 3, 8, 8)).shape == (0, 4, 6, 6)
    layer(torch.rand(1, 3, 8, 8)).sum().backward()
    assert conv.weight.grad is not None


def test_other_types_run_by_torch(build: str):
    conv = nn.Conv2d(3, 4, 3).double().requires_grad_(False)
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(FastConv2d(conv, winograd(4))(x), conv(x))


def test_an_input_that_does_not_fit_is_refused_as_by_torch(build: str):
    layer = FastConv2d(nn.Conv2d(3, 4, 3).requires_grad_(False), winograd(4))
    for shape in ((1, 3, 2, 9), (1, 2, 9, 9)):
        with pytest.raises(RuntimeError):
            layer(torch.rand(shape))


def test_another_padding_mode_is_refused():
    with pytest.raises(InputError, match="pads with zeros"):
        FastConv2d(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))


def test_new_weights_are_used_after_reset(build: str):
    conv = nn.Conv2d(3, 4, 3).requires_grad_(False)
    layer, x = FastConv2d(conv, winograd(4)), torch.rand(1, 3, 8, 8)
    before = layer(x)
    conv.weight.mul_(2)
    assert torch.equal(layer(x), before)
    layer.reset()
    torch.testing.assert_close(layer(x), conv(x), atol=1e-5, rtol=1e-5)


def test_a_copy_has_the_parameters_of_the_convolution():
    conv = nn.Conv2d(3, 4, 3)
    layer = copy.deepcopy(FastConv2d(conv, winograd(4)))
    assert layer.state_dict().keys() == conv.state_dict().keys()
    assert all(torch.equal(layer.state_dict()[k], v) for k, v in conv.state_dict().items())


def test_the_memory_of_transformed_weights_is_stated():
    layer = FastConv2d(nn.Conv2d(512, 4096, 7, device="meta"))
    assert layer.kernel_bytes(winograd(4)) == 4 * 100 * 512 * 4096
    assert layer.kernel_bytes(TORCH) == 0
