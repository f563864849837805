"""Convolutions of channels-last maps on a CPU that record their gradients: pointwise ones, and depthwise ones.

    y = pointwise_conv2d(x, weight, bias, low=0.0, high=6.0)          # conv2d and clamp; one autograd node

torch's own kernels turn channels-last maps for most depthwise layers, and take several times as long for their
gradients. Here a pointwise convolution is a matrix product, and a depthwise one runs by the compiled kernels.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dilated.kernels.geometry import ConvGeometry
from dilated.kernels.layers import scratch_memory, to_channels_last
from dilated.kernels.native import Layer, Mask, empty_map, load_native


def pointwise_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, low: float = -math.inf, high: float = math.inf
) -> Tensor:
    """Convolve by 1x1 and clamp; needs the compiled kernels.

    Args:
        x: (N, C, H, W) float32.
        weight: (c_out, C, 1, 1).
        bias: (c_out,).
        low, high: what the result is clamped to.

    Returns:
        (N, c_out, H, W), channels last.

    Example:
        >>> x, weight = torch.rand(1, 3, 4, 5), torch.rand(2, 3, 1, 1)
        >>> y = pointwise_conv2d(x, weight, None, 0.0, 6.0) if load_native() else None
    """
    return _Pointwise.apply(x, weight, bias, low, high)


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    low: float = -math.inf,
    high: float = math.inf,
) -> Tensor:
    """Convolve each channel by itself and clamp; needs the compiled kernels.

    Args:
        x: (N, C, H, W) float32.
        weight: (C, 1, kh, kw).
        bias: (C,).
        geometry: with C groups.
        low, high: what the result is clamped to.

    Returns:
        (N, C, H', W'), channels last.
    """
    return _Depthwise.apply(x, weight, bias, geometry, low, high)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, low: float, high: float) -> Tensor:
        x = to_channels_last(x)
        n, channels, height, width = x.shape
        pixels, matrix = _as_rows(x), weight.view(len(weight), channels)
        y = _empty_maps(n, len(weight), height, width)
        rows = _as_rows(y)
        if bias is None:
            torch.mm(pixels, matrix.T, out=rows)
        else:
            torch.addmm(bias, pixels, matrix.T, out=rows)
        if low > -math.inf or high < math.inf:
            y.clamp_(low, high)
        ctx.low, ctx.high = low, high
        ctx.save_for_backward(x, weight, y if low > -math.inf or high < math.inf else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        gradient, bias_gradient = _mask(gradient, y, ctx.low, ctx.high, needs_bias)
        rows = _as_rows(gradient)
        x_gradient = weight_gradient = None
        if needs_x:
            n, channels, height, width = x.shape
            x_gradient = _empty_maps(n, channels, height, width)
            torch.mm(rows, weight.view(len(weight), channels), out=_as_rows(x_gradient))
        if needs_weight:
            weight_gradient = (rows.T @ _as_rows(x)).view_as(weight)
        return x_gradient, weight_gradient, bias_gradient, None, None


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry, low: float, high: float
    ) -> Tensor:
        x = to_channels_last(x)
        y = _run_depthwise(x, _taps(weight), bias, geometry, geometry.output_size(x.shape[2], x.shape[3]), low, high)
        ctx.geometry, ctx.low, ctx.high = geometry, low, high
        ctx.save_for_backward(x, weight, y if low > -math.inf or high < math.inf else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        gradient, bias_gradient = _mask(gradient, y, ctx.low, ctx.high, needs_bias)
        x_gradient = _input_gradient(gradient, weight, ctx.geometry, x) if needs_x else None
        weight_gradient = _weight_gradient(gradient, weight, ctx.geometry, x) if needs_weight else None
        return x_gradient, weight_gradient, bias_gradient, None, None, None


def _mask(
    gradient: Tensor, y: Tensor | None, low: float, high: float, needs_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """The gradient before a clamp that gave y, channels last, and its sum over the pixels if that is needed."""
    gradient = to_channels_last(gradient)
    if y is None and not needs_bias:
        return gradient, None
    native = load_native()
    assert native is not None
    n, channels, height, width = gradient.shape
    sums = torch.empty(channels)
    masked = None if y is None else _empty_maps(n, channels, height, width)
    arguments = Mask(
        gradient=gradient.data_ptr(), y=None if y is None else y.data_ptr(), sums=sums.data_ptr(),
        masked=None if masked is None else masked.data_ptr(), pixels=n * height * width, channels=channels,
        threads=torch.get_num_threads(), low=low, high=high,
    )  # fmt: skip
    native.dilated_mask(ctypes.byref(arguments))
    return gradient if masked is None else masked, sums if needs_bias else None


def _input_gradient(gradient: Tensor, weight: Tensor, geometry: ConvGeometry, x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    if geometry.stride == (1, 1):  # a convolution with the kernel turned by half
        before = geometry.padding_before(height, width)
        spans = [d * (k - 1) for d, k in zip(geometry.dilation, geometry.kernel, strict=True)]
        padding = (spans[0] - before[0], spans[1] - before[1])
        turned = replace(geometry, padding=padding, end_padding=(0, 0), is_same=False)
        return _run_depthwise(gradient, _taps(weight.flip(2, 3)), None, turned, (height, width), -math.inf, math.inf)
    native, taps = load_native(), _taps(weight)
    assert native is not None
    maps = _empty_maps(x.shape[0], x.shape[1], height, width)
    layer = _describe(x, gradient, geometry)
    layer.x, layer.y, layer.u = gradient.data_ptr(), maps.data_ptr(), taps.data_ptr()
    native.dilated_depthwise_input(ctypes.byref(layer))
    return maps


def _weight_gradient(gradient: Tensor, weight: Tensor, geometry: ConvGeometry, x: Tensor) -> Tensor:
    native, taps = load_native(), torch.empty(math.prod(geometry.kernel), len(weight))
    assert native is not None
    layer = _describe(x, gradient, geometry)
    layer.x, layer.u, layer.y = x.data_ptr(), gradient.data_ptr(), taps.data_ptr()
    native.dilated_depthwise_weight(ctypes.byref(layer))
    return taps.T.reshape(weight.shape)


def _run_depthwise(
    x: Tensor,
    taps: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    size: tuple[int, int],
    low: float,
    high: float,
) -> Tensor:
    native = load_native()
    assert native is not None
    y = _empty_maps(x.shape[0], x.shape[1], *size)
    layer = _describe(x, y, geometry)
    layer.low, layer.high = low, high
    scratch = scratch_memory(native.dilated_depthwise(ctypes.byref(layer), 0))
    bias = None if bias is None else bias.contiguous()
    layer.x, layer.y, layer.u, layer.scratch = x.data_ptr(), y.data_ptr(), taps.data_ptr(), scratch.data_ptr()
    layer.bias = None if bias is None else bias.data_ptr()
    native.dilated_depthwise(ctypes.byref(layer), 1)
    return y


def _describe(x: Tensor, y: Tensor, geometry: ConvGeometry) -> Layer:
    """The arguments of a compiled kernel but the addresses."""
    n, channels, height, width = x.shape
    padding = geometry.padding_before(height, width)
    return Layer(
        batch=n, height=height, width=width, out_height=y.shape[2], out_width=y.shape[3], groups=channels, c_in=1,
        c_out=1, kernel_h=geometry.kernel[0], kernel_w=geometry.kernel[1], stride_h=geometry.stride[0],
        stride_w=geometry.stride[1], dilation_h=geometry.dilation[0], dilation_w=geometry.dilation[1],
        padding_h=padding[0], padding_w=padding[1], threads=torch.get_num_threads(),
    )  # fmt: skip


def _empty_maps(n: int, channels: int, height: int, width: int) -> Tensor:
    """(N, C, H, W), channels last, and no view of another tensor: what follows may work in place."""
    return empty_map((n, channels, height, width), torch.channels_last)


def _as_rows(x: Tensor) -> Tensor:
    """(N, C, H, W), channels last -> (N * H * W, C)."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _taps(weight: Tensor) -> Tensor:
    """(C, 1, kh, kw) -> (kh * kw, C)."""
    return weight.flatten(1).T.contiguous()
