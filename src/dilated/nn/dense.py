"""Convolutions and poolings on dense maps: the layer's own windows, at every position instead of every s-th.

A dense map of rate d holds the original map x at X[d n] = x[n] and is d times as long. A layer with kernel k, stride
s, dilation t and padding p reads it with dilation d t and padding d p: its own rate, not that of its output. The
output has rate d s and is padded at its end to d s times the original's length; what is read there belongs to
positions that are no samples.

    >>> conv, picture = nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.rand(1, 3, 9, 9)
    >>> coarse = conv(picture)
    >>> make_dense(conv, rate=(1, 1), keep=(1, 1))
    >>> conv(picture).shape, torch.allclose(conv(picture)[..., ::2, ::2], coarse)
    (torch.Size([1, 4, 10, 10]), True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from dilated.nn.places import pair
from dilated.nn.rewritten import Rewritten, rewrite

CONVS = (nn.Conv2d, StdConv2d, ScaledStdConv2d)
"""Classes whose forward hands stride, padding and dilation to one convolution."""
SAME_CONVS = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame)
SAME_POOLS = (MaxPool2dSame, AvgPool2dSame)


@dataclass(frozen=True)
class Axis:
    """A layer's windows along one axis, as in the original, and how the dense map is read."""

    kernel: int
    stride: int
    dilation: int
    padding: tuple[int, int] | None
    """At the start and the end; None where the size decides, as in TensorFlow's "same"."""
    ceil: bool
    rate: int
    """Of the input."""
    keep: int
    """How much of the stride stays."""

    def padded(self, length: int) -> tuple[int, int]:
        """The original's padding at its own length."""
        if self.padding is not None:
            return self.padding
        total = (-(-length // self.stride) - 1) * self.stride + self.reach + 1 - length
        return max(total, 0) // 2, max(total, 0) - max(total, 0) // 2

    @property
    def reach(self) -> int:
        return self.dilation * (self.kernel - 1)

    @property
    def rate_out(self) -> int:
        return self.rate * self.stride // self.keep

    def output(self, length: int) -> int:
        """The original's number of outputs."""
        start, end = self.padded(length)
        room = length + start + end - self.reach - 1
        if room < 0 and not (self.ceil and room + self.stride > 0):
            raise RuntimeError(f"dense layer: {length} steps are too few for a window of {self.reach + 1}")
        count = (room + (self.stride - 1 if self.ceil else 0)) // self.stride + 1
        if self.ceil and (count - 1) * self.stride >= length + start:
            count -= 1  # a window must begin inside the input
        return count

    def around(self, dense: int) -> tuple[int, int]:
        """What to add at the start and the end of the dense map; what is less than zero is taken away."""
        length = dense // self.rate
        start = self.rate * self.padded(length)[0]
        wanted = (self.rate_out * self.output(length) - 1) * self.keep + self.rate * self.reach + 1
        return start, wanted - dense - start


class DenseConv(Rewritten):
    """A convolution on a dense map. Shapes: (N, C, d h, d w) -> (N, K, D h', D w')."""

    axes: tuple[Axis, Axis]

    def forward(self, x: Tensor) -> Tensor:
        x = surround(x, self.axes, 0.0)
        return super().forward(x)  # type: ignore[misc]


class DenseSameConv(DenseConv):
    """As `DenseConv`, for a layer whose own forward would pad."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.Conv2d.forward(self, surround(x, self.axes, 0.0))  # type: ignore[arg-type]


class DenseMax(Rewritten):
    """A max pooling on a dense map. Shapes: (N, C, d h, d w) -> (N, C, D h', D w')."""

    axes: tuple[Axis, Axis]

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.axes
        lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
        return F.max_pool2d(
            surround(x, self.axes, lowest),
            (rows.kernel, columns.kernel),
            (rows.keep, columns.keep),
            dilation=(rows.rate * rows.dilation, columns.rate * columns.dilation),
        )


class DenseAverage(Rewritten):
    """An average pooling on a dense map. Shapes: (N, C, d h, d w) -> (N, C, D h', D w')."""

    axes: tuple[Axis, Axis]
    count_include_pad: bool
    divisor_override: int | None

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.axes
        lengths = x.shape[-2] // rows.rate, x.shape[-1] // columns.rate
        x = surround(x, self.axes, 0.0)
        x = _sums(_sums(x, rows, -2), columns, -1)
        if self.divisor_override is not None:
            return x / self.divisor_override
        counts = [self._counts(axis, length, x) for axis, length in zip(self.axes, lengths, strict=True)]
        return x / (counts[0][:, None] * counts[1])

    def _counts(self, axis: Axis, length: int, like: Tensor) -> Tensor:
        """How many values each window averages along an axis."""
        start, end = axis.padded(length)
        place = torch.arange(axis.rate_out * axis.output(length), device=like.device) * axis.keep
        begin = place // axis.rate - start
        stop = (begin + axis.kernel).clamp(max=length + end)
        if not self.count_include_pad:
            begin, stop = begin.clamp(min=0), stop.clamp(max=length)
        return (stop - begin).clamp(min=1).to(like.dtype)  # windows that hold nothing are no samples


def surround(x: Tensor, axes: tuple[Axis, Axis], value: float) -> Tensor:
    """Padding at the start, and at the end whatever makes the output whole."""
    rows, columns = axes[0].around(x.shape[-2]), axes[1].around(x.shape[-1])
    return F.pad(x, (*columns, *rows), value=value) if any((*rows, *columns)) else x


def _sums(x: Tensor, axis: Axis, dim: int) -> Tensor:
    """The sums over the windows along one axis."""
    span = x.shape[dim] - axis.rate * axis.reach
    taps = [x.narrow(dim, tap * axis.rate, span) for tap in range(axis.kernel)]
    total = taps[0]
    for tap in taps[1:]:
        total = total + tap
    if axis.keep > 1:
        total = total[..., :: axis.keep, :] if dim == -2 else total[..., :: axis.keep]
    return total


def fits(layer: nn.Module) -> bool:
    """Whether a layer is one that `make_dense` knows: by whose forward it runs, so subclasses that keep it count."""
    if isinstance(layer, nn.Conv2d):
        return type(layer).forward in [kind.forward for kind in (*CONVS, *SAME_CONVS)] and (
            layer.padding_mode == "zeros" or layer.padding in ((0, 0), "valid")
        )
    return type(layer).forward in [kind.forward for kind in (nn.MaxPool2d, nn.AvgPool2d, *SAME_POOLS)]


def make_dense(layer: Any, rate: tuple[int, int], keep: tuple[int, int]) -> None:
    """Lets a layer that `fits` read a map of the given rate and keep that much of its stride, in place.

    Raises:
        ValueError: a max pooling that returns indices.
    """
    if getattr(layer, "return_indices", False):
        raise ValueError("found return_indices=True; expected a pooling that returns its maxima only")
    same = isinstance(layer, SAME_POOLS) or (isinstance(layer, SAME_CONVS) and getattr(layer, "same_pad", True))
    kernel, stride = pair(layer.kernel_size), pair(layer.stride)
    dilation = pair(getattr(layer, "dilation", 1))
    padding = [None, None] if same else _paddings(layer.padding, kernel, dilation)
    ceil = bool(getattr(layer, "ceil_mode", False))
    rows, columns = (Axis(kernel[i], stride[i], dilation[i], padding[i], ceil, rate[i], keep[i]) for i in range(2))
    plain = [_plain(layer, axis) for axis in (rows, columns)]
    if isinstance(layer, nn.AvgPool2d):
        layer.divisor_override = getattr(layer, "divisor_override", None)
        layer.count_include_pad = layer.count_include_pad or same  # what "same" adds counts as values
        rewrite(layer, DenseAverage, axes=(rows, columns))
        return
    layer.dilation = rows.rate * rows.dilation, columns.rate * columns.dilation
    if None not in plain:  # an ordinary layer does it
        layer.padding = tuple(plain)
        return
    if isinstance(layer, nn.MaxPool2d):
        rewrite(layer, DenseMax, axes=(rows, columns))
        return
    layer.stride, layer.padding = (rows.keep, columns.keep), (0, 0)
    if same:
        layer.same_pad = False
    rewrite(layer, DenseSameConv if isinstance(layer, Conv2dSame) else DenseConv, axes=(rows, columns))


def _plain(layer: nn.Module, axis: Axis) -> int | None:
    """The padding with which the ordinary layer does the same, if it does."""
    if axis.stride != 1 or axis.padding is None or axis.padding[0] != axis.padding[1]:
        return None
    padding = axis.rate * axis.padding[0]
    # PyTorch lets a max pooling pad half a kernel at most, however dilated.
    return None if isinstance(layer, nn.MaxPool2d) and 2 * padding > axis.kernel else padding


def _paddings(
    padding: str | int | Sequence[int], kernel: tuple[int, int], dilation: tuple[int, int]
) -> list[tuple[int, int] | None]:
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if isinstance(padding, str):
        totals = [(k - 1) * t for k, t in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in pair(padding)]
