"""Convolutions and poolings on dense maps: the layer's own windows, at every position instead of every s-th.

A dense map of rate d holds the original map x at X[d n] = x[n] and is d times as long. A layer with kernel k, stride
s, dilation t and padding p reads it with dilation d t and padding d p: its own rate, not that of its output. The
output has rate d s and is padded at its end to d s times the original's length; what is read there belongs to
positions that are no samples.

    >>> conv, image = nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.rand(1, 3, 9, 9)
    >>> coarse = conv(image)
    >>> dilate_layer(conv, rate=(1, 1), kept_stride=(1, 1))
    >>> conv(image).shape, torch.allclose(conv(image)[..., ::2, ::2], coarse)
    (torch.Size([1, 4, 10, 10]), True)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from dilated.dilation.rewrite import RewrittenLayer, rewrite
from dilated.errors import InputError
from dilated.fields.arithmetic import ConvAxis, conv_axes

_CONVS = (nn.Conv2d, StdConv2d, ScaledStdConv2d)
"""Classes whose forward hands stride, padding and dilation to one convolution."""
_SAME_CONVS = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame)
_SAME_POOLS = (MaxPool2dSame, AvgPool2dSame)


@dataclass(frozen=True)
class _DilatedAxis:
    """A layer's windows along one axis, as in the original, and how they read the dense map."""

    window: ConvAxis
    """The original's."""
    rate: int
    """Of the input."""
    kept_stride: int
    """How much of the stride stays."""

    @property
    def output_rate(self) -> int:
        return self.rate * self.window.stride // self.kept_stride

    @property
    def dilation(self) -> int:
        """Of the dense map."""
        return self.rate * self.window.dilation

    def output_size(self, length: int) -> int:
        """The original's number of outputs for its own length of input."""
        count = self.window.output_size(length)
        if count < 1:
            raise InputError(
                f"dilated layer: {length} steps are too few for a window of {self.window.span + 1}",
                hint="give a larger image",
            )
        return count

    def dense_padding(self, dense_length: int) -> tuple[int, int]:
        """What to add at the start and the end of the dense map; what is less than zero is taken away."""
        length = dense_length // self.rate
        start = self.rate * self.window.padding_at(length)[0]
        needed = (self.output_rate * self.output_size(length) - 1) * self.kept_stride + self.rate * self.window.span + 1
        return start, needed - dense_length - start


class _DilatedConv(RewrittenLayer):
    """A convolution on a dense map. Shapes: (N, C, d h, d w) -> (N, K, D h', D w')."""

    axes: tuple[_DilatedAxis, _DilatedAxis]

    def forward(self, x: Tensor) -> Tensor:
        x = _pad_windows(x, self.axes, 0.0)
        return super().forward(x)  # type: ignore[misc]


class _DilatedSameConv(_DilatedConv):
    """As `_DilatedConv`, for a layer whose own forward would pad."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.Conv2d.forward(self, _pad_windows(x, self.axes, 0.0))  # type: ignore[arg-type]


class _DilatedMaxPool(RewrittenLayer):
    """A max pooling on a dense map. Shapes: (N, C, d h, d w) -> (N, C, D h', D w')."""

    axes: tuple[_DilatedAxis, _DilatedAxis]

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.axes
        lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
        return F.max_pool2d(
            _pad_windows(x, self.axes, lowest),
            (rows.window.kernel, columns.window.kernel),
            (rows.kept_stride, columns.kept_stride),
            dilation=(rows.dilation, columns.dilation),
        )


class _DilatedAvgPool(RewrittenLayer):
    """An average pooling on a dense map. Shapes: (N, C, d h, d w) -> (N, C, D h', D w')."""

    axes: tuple[_DilatedAxis, _DilatedAxis]
    count_include_pad: bool
    divisor_override: int | None

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.axes
        lengths = x.shape[-2] // rows.rate, x.shape[-1] // columns.rate
        x = _pad_windows(x, self.axes, 0.0)
        x = _window_sums(_window_sums(x, rows, -2), columns, -1)
        if self.divisor_override is not None:
            return x / self.divisor_override
        counts = [self._window_counts(axis, length, x) for axis, length in zip(self.axes, lengths, strict=True)]
        return x / (counts[0][:, None] * counts[1])

    def _window_counts(self, axis: _DilatedAxis, length: int, like: Tensor) -> Tensor:
        """How many values each window averages along an axis."""
        start, end = axis.window.padding_at(length)
        positions = torch.arange(axis.output_rate * axis.output_size(length), device=like.device) * axis.kept_stride
        begin = positions // axis.rate - start
        stop = (begin + axis.window.kernel).clamp(max=length + end)
        if not self.count_include_pad:
            begin, stop = begin.clamp(min=0), stop.clamp(max=length)
        return (stop - begin).clamp(min=1).to(like.dtype)  # windows that hold nothing are no samples


def _pad_windows(x: Tensor, axes: tuple[_DilatedAxis, _DilatedAxis], value: float) -> Tensor:
    """Padding at the start, and at the end whatever makes the output complete."""
    rows, columns = axes[0].dense_padding(x.shape[-2]), axes[1].dense_padding(x.shape[-1])
    return F.pad(x, (*columns, *rows), value=value) if any((*rows, *columns)) else x


def _window_sums(x: Tensor, axis: _DilatedAxis, dim: int) -> Tensor:
    """The sums over the windows along one axis."""
    span = x.shape[dim] - axis.rate * axis.window.span
    taps = [x.narrow(dim, tap * axis.rate, span) for tap in range(axis.window.kernel)]
    total = taps[0]
    for tap in taps[1:]:
        total = total + tap
    if axis.kept_stride > 1:
        total = total[..., :: axis.kept_stride, :] if dim == -2 else total[..., :: axis.kept_stride]
    return total


def is_dilatable(layer: nn.Module) -> bool:
    """Whether a layer is one that `dilate_layer` knows: by whose forward it runs, so subclasses that keep it count."""
    if isinstance(layer, nn.Conv2d):
        return type(layer).forward in [cls.forward for cls in (*_CONVS, *_SAME_CONVS)] and (
            layer.padding_mode == "zeros" or layer.padding in ((0, 0), "valid")
        )
    return type(layer).forward in [cls.forward for cls in (nn.MaxPool2d, nn.AvgPool2d, *_SAME_POOLS)]


def dilate_layer(layer: Any, rate: tuple[int, int], kept_stride: tuple[int, int]) -> None:
    """Let a layer that `is_dilatable` read a map of the given rate and keep that much of its stride, in place.

    Raises:
        InputError: a max pooling that returns indices.
    """
    if getattr(layer, "return_indices", False):
        raise InputError("it returns indices (return_indices=True)", hint="use a pooling that returns its maxima only")
    rows, columns = (
        _DilatedAxis(window, r, kept) for window, r, kept in zip(conv_axes(layer), rate, kept_stride, strict=True)
    )
    is_same_padding = rows.window.padding is None
    ordinary_padding = [_symmetric_padding(layer, axis) for axis in (rows, columns)]
    if isinstance(layer, nn.AvgPool2d):
        layer.divisor_override = getattr(layer, "divisor_override", None)
        layer.count_include_pad = layer.count_include_pad or is_same_padding  # what "same" adds counts as values
        rewrite(layer, _DilatedAvgPool, axes=(rows, columns))
        return
    layer.dilation = rows.dilation, columns.dilation
    if None not in ordinary_padding:  # an ordinary layer does it
        layer.padding = tuple(ordinary_padding)
        return
    if isinstance(layer, nn.MaxPool2d):
        rewrite(layer, _DilatedMaxPool, axes=(rows, columns))
        return
    layer.stride, layer.padding = (rows.kept_stride, columns.kept_stride), (0, 0)
    if is_same_padding:
        layer.same_pad = False
    rewrite(layer, _DilatedSameConv if isinstance(layer, Conv2dSame) else _DilatedConv, axes=(rows, columns))


def _symmetric_padding(layer: nn.Module, axis: _DilatedAxis) -> int | None:
    """The padding with which the ordinary layer does the same, if it does."""
    window = axis.window
    if window.stride != 1 or window.padding is None or window.padding[0] != window.padding[1]:
        return None
    padding = axis.rate * window.padding[0]
    # PyTorch lets a max pooling pad half a kernel at most, however dilated.
    return None if isinstance(layer, nn.MaxPool2d) and 2 * padding > window.kernel else padding
