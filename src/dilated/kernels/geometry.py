"""What a convolution does besides its weights."""

from __future__ import annotations

from dataclasses import dataclass

from timm.layers import Conv2dSame
from torch import nn

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvGeometry:
    """Kernel, stride, dilation, padding and groups of a convolution; rows first."""

    kernel: Pair
    padding: Pair = (0, 0)
    """Zeros before the first row and column."""
    end_padding: Pair = (0, 0)
    """Zeros after the last."""
    dilation: Pair = (1, 1)
    stride: Pair = (1, 1)
    groups: int = 1
    is_same: bool = False
    """The padding depends on the input, as TensorFlow has it: the output has ceil(size / stride) values."""

    def output_size(self, height: int, width: int) -> Pair:
        """The size of the output; below 1 where the kernel does not fit.

        Example:
            >>> ConvGeometry((3, 3), (1, 1), (1, 1), stride=(2, 2)).output_size(5, 8)
            (3, 4)
        """
        return self._axis(0, height)[0], self._axis(1, width)[0]

    def padding_before(self, height: int, width: int) -> Pair:
        """Zeros before the first row and column of an input."""
        return self._axis(0, height)[1], self._axis(1, width)[1]

    def padding_after(self, height: int, width: int) -> Pair:
        """Zeros after the last row and column of an input."""
        return self._axis(0, height)[2], self._axis(1, width)[2]

    def _axis(self, axis: int, size: int) -> tuple[int, int, int]:
        """The outputs, and the zeros before and after, along one axis."""
        span, stride = self.dilation[axis] * (self.kernel[axis] - 1) + 1, self.stride[axis]
        if self.is_same:
            outputs = -(-size // stride)
            total = max(0, (outputs - 1) * stride + span - size)
            return outputs, total // 2, total - total // 2
        before, after = self.padding[axis], self.end_padding[axis]
        return (size + before + after - span) // stride + 1, before, after


def conv_geometry(conv: nn.Conv2d) -> ConvGeometry | None:
    """The geometry of a convolution; None where it does not pad with zeros."""
    if conv.padding_mode != "zeros":
        return None
    (kh, kw), (dh, dw), (sh, sw) = conv.kernel_size, conv.dilation, conv.stride
    settings = {"dilation": (dh, dw), "stride": (sh, sw), "groups": conv.groups}
    if isinstance(conv, Conv2dSame):
        return ConvGeometry((kh, kw), is_same=True, **settings)  # type: ignore[arg-type]
    if isinstance(conv.padding, str):
        total = (dh * (kh - 1), dw * (kw - 1)) if conv.padding == "same" else (0, 0)
        before, after = (total[0] // 2, total[1] // 2), (total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        before = after = (conv.padding[0], conv.padding[1])
    return ConvGeometry((kh, kw), before, after, **settings)  # type: ignore[arg-type]
