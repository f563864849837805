"""A convolution on a GPU in half precision, channels last, by a kernel of cuDNN, cuBLAS or Triton.

    layer = GPUConv2d(fast_conv, torch.bfloat16)         # weights are rounded once
    y = layer.run(x, GPUKernel("slabs", TileConfig()))

Sums are taken in float32, and bias and clamp are applied to them before the result is rounded, except by cuDNN's
unfused kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.kernels.geometry import Pair
from dilated.kernels.layers import FastConv2d, to_channels_last
from dilated.kernels.native import has_triton

if TYPE_CHECKING:
    from dilated.kernels.triton_conv import TileConfig

_COLUMN_BYTES = 2**30
"""Memory that the columns of a convolution may take at a time."""
_LANE = 8
"""Channels of half precision in the 16 bytes that boxes are aligned to."""


@dataclass(frozen=True)
class GPUKernel:
    """How a convolution runs on a GPU."""

    kind: str
    """`cudnn`; `cudnn relu`, its kernel with bias and ReLU fused; `matmul`, cuBLAS's product for 1x1; `columns`, that
    of all taps side by side; Triton's `rows`, `slabs` (a copy of the map for each column of the kernel) or `gather`."""
    tile: TileConfig | None = None
    """Of Triton's kernels."""

    def __str__(self) -> str:
        return self.kind if self.tile is None else f"{self.kind} {self.tile}"

    @property
    def is_triton(self) -> bool:
        return self.kind in ("rows", "slabs", "gather", "columns")

    @classmethod
    def parse(cls, text: str) -> GPUKernel:
        """Read what `str` gives.

        Raises:
            ValueError: it is something else.

        Example:
            >>> str(GPUKernel.parse("cudnn relu"))
            'cudnn relu'
        """
        if text in ("cudnn", "cudnn relu", "matmul", "columns"):
            return cls(text)
        from dilated.kernels.triton_conv import TileConfig

        kind, _, tile = text.partition(" ")
        if kind not in ("rows", "slabs", "gather"):
            raise ValueError(text)
        return cls(kind, TileConfig.parse(tile))


CUDNN, FUSED_CUDNN = GPUKernel("cudnn"), GPUKernel("cudnn relu")

GPUChooser = Callable[["GPUConv2d", Tensor], GPUKernel]
"""Which kernel a layer uses for an input."""


class GPUConv2d(nn.Module):
    """A convolution and an optional clamp, for inference on a GPU in half precision.

    Args:
        conv: what is computed, in float32.
        dtype: torch.bfloat16 or torch.float16, of weights, inputs and outputs.
        kernel: the kernel, or what chooses one for each input.

    Shapes:
        (N, C, H, W) of any type -> (N, c_out, H', W') of this one, channels last.
    """

    def __init__(self, conv: FastConv2d, dtype: torch.dtype, kernel: GPUKernel | GPUChooser = CUDNN) -> None:
        super().__init__()
        self.geometry, self.kernel, self.low, self.high, self.dtype = conv.geometry, kernel, conv.low, conv.high, dtype
        weight = conv.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        bias = None if conv.bias is None else conv.bias.detach().float().contiguous()
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._packed: dict[Any, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.prepare(x)
        return self.run(x, self.kernel if isinstance(self.kernel, GPUKernel) else self.kernel(self, x))

    def prepare(self, x: Tensor) -> Tensor:
        """An input as `run` takes it."""
        return to_channels_last(x.to(self.dtype))

    def can_run(self, kernel: GPUKernel) -> bool:
        """Whether a kernel can compute this layer."""
        geometry, is_relu = self.geometry, (self.low, self.high) == (0.0, math.inf)
        is_dense = geometry.groups == 1 and geometry.stride == (1, 1)
        if kernel.kind == "cudnn relu":
            is_even = geometry.padding == geometry.end_padding and not geometry.is_same
            return is_relu and self.bias is not None and is_even
        if kernel.kind == "matmul":
            return is_dense and geometry.kernel == (1, 1) and not (any(geometry.padding) or any(geometry.end_padding))
        if kernel.is_triton:
            return has_triton() and (is_dense or (kernel.kind == "gather" and geometry.groups == 1))
        return kernel.kind == "cudnn"

    def run(self, x: Tensor, kernel: GPUKernel) -> Tensor:
        """Compute by one kernel, one for which `can_run` is true; x as `prepare` gives it."""
        if kernel.kind.startswith("cudnn"):
            return self._run_cudnn(x, is_fused=kernel.kind == "cudnn relu")
        n, _, height, width = x.shape
        size = self.geometry.output_size(height, width)
        y = x.new_empty((n, *size, self.weight.shape[0]))
        maps = x.permute(0, 2, 3, 1)
        if kernel.kind == "matmul":
            self._multiply(maps.reshape(-1, maps.shape[-1]), y.view(-1, y.shape[-1]), channels=maps.shape[-1])
        elif kernel.kind == "columns":
            self._run_columns(maps, y)
        elif kernel.kind == "gather":
            self._run_gather(maps, y, kernel)
        else:
            self._run_rows(maps, y, kernel)
        return y.permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        c_out, c_in = self.weight.shape[0], self.weight.shape[1] * self.geometry.groups
        kernel = self.kernel if isinstance(self.kernel, GPUKernel) else "chosen by shape"
        return f"{c_in}, {c_out}, kernel_size={self.geometry.kernel}, dilation={self.geometry.dilation}, {kernel}"

    def _run_cudnn(self, x: Tensor, is_fused: bool) -> Tensor:
        geometry = self.geometry
        padding = geometry.padding_before(x.shape[-2], x.shape[-1])
        end_padding = geometry.padding_after(x.shape[-2], x.shape[-1])
        bias = None if self.bias is None else self._half_bias()
        if is_fused:
            return torch.cudnn_convolution_relu(
                x, self.weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups
            )
        if end_padding != padding:
            x, padding = F.pad(x, (padding[1], end_padding[1], padding[0], end_padding[0])), (0, 0)
        y = F.conv2d(x, self.weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups)
        return self._clamp(y)

    def _clamp(self, y: Tensor) -> Tensor:
        if (self.low, self.high) == (-math.inf, math.inf):
            return y
        return y.relu_() if (self.low, self.high) == (0.0, math.inf) else y.clamp_(self.low, self.high)

    def _half_bias(self) -> Tensor:
        if "bias" not in self._packed:
            assert self.bias is not None
            self._packed["bias"] = self.bias.to(self.dtype)
        return self._packed["bias"]

    def _multiply(self, a: Tensor, y: Tensor, channels: int) -> None:
        """y = a @ weight + bias, clamped: (M, taps * channels) -> (M, c_out)."""
        weight = self._pack(channels)
        if self.bias is not None and (self.low, self.high) == (0.0, math.inf):
            torch._addmm_activation(self._half_bias(), a, weight.T, use_gelu=False, out=y)
            return
        if self.bias is None:
            torch.mm(a, weight.T, out=y)
        else:
            torch.addmm(self._half_bias(), a, weight.T, out=y)
        self._clamp(y)

    def _pack(self, channels: int) -> Tensor:
        """The weights as (c_out, taps * channels), with zeros where there are more channels than the layer reads."""
        if channels not in self._packed:
            weight = self.weight.permute(0, 2, 3, 1).flatten(1, 2)
            padded = F.pad(weight, (0, channels - weight.shape[-1])) if channels > weight.shape[-1] else weight
            self._packed[channels] = padded.flatten(1).contiguous()
        return self._packed[channels]

    def _run_columns(self, maps: Tensor, y: Tensor) -> None:
        """Write all taps of some rows of outputs side by side, and multiply."""
        from dilated.kernels.triton_maps import unfold

        n, out_h, out_w, c_out = y.shape
        channels, taps = _round_up(maps.shape[-1], _LANE), math.prod(self.geometry.kernel)
        rows = max(1, min(out_h, _COLUMN_BYTES // (n * out_w * taps * channels * 2)))
        rows = -(-out_h // -(-out_h // rows)) if n == 1 else out_h
        before = self.geometry.padding_before(maps.shape[1], maps.shape[2])
        for start in range(0, out_h, rows):
            part = min(rows, out_h - start)
            padding, size = (before[0] - start, before[1]), (part, out_w)
            columns = unfold(maps, size, padding, self.geometry.kernel, self.geometry.dilation, channels, True)
            target = y[:, start : start + part] if n == 1 else y
            self._multiply(columns.flatten(0, 1), target.reshape(-1, c_out), channels)

    def _run_gather(self, maps: Tensor, y: Tensor, kernel: GPUKernel) -> None:
        from dilated.kernels.triton_conv import Epilogue, conv_gather

        padding = self.geometry.padding_before(maps.shape[1], maps.shape[2])
        geometry: dict[str, Pair] = {
            "stride": self.geometry.stride, "dilation": self.geometry.dilation, "padding": padding,
        }  # fmt: skip
        end = Epilogue(self.bias, self.low, self.high)
        assert kernel.tile is not None
        conv_gather(maps, self._pack(maps.shape[-1]), y, self.geometry.kernel, geometry, end, kernel.tile)

    def _run_rows(self, maps: Tensor, y: Tensor, kernel: GPUKernel) -> None:
        from dilated.kernels.triton_conv import Epilogue, RowLayout, conv_rows
        from dilated.kernels.triton_maps import unfold

        assert kernel.tile is not None
        (n, height, width, c_in), geometry = maps.shape, self.geometry
        channels = _round_up(c_in, _LANE)
        before, after = geometry.padding_before(height, width), geometry.padding_after(height, width)
        rows, columns = height + before[0] + after[0], width + before[1] + after[1]
        (dilation_h, dilation_w), kernel_w = geometry.dilation, geometry.kernel[1]
        if kernel.kind == "slabs":
            pitch, slabs = y.shape[2], kernel_w
            x = unfold(maps, (rows, pitch), before, (1, slabs), (0, dilation_w), channels)
            step_w = rows * pitch
        else:
            pitch, slabs, step_w = columns, 1, dilation_w
            is_padded = (rows, columns, channels) != (height, width, c_in)
            x = unfold(maps, (rows, columns), before, (1, 1), (0, 0), channels) if is_padded else maps
        layout = RowLayout(n, slabs * rows * pitch, pitch, (dilation_h * pitch, step_w))
        weight = self._pack(_round_up(c_in, kernel.tile.depth))
        end = Epilogue(self.bias, self.low, self.high)
        conv_rows(x.reshape(-1, channels), weight, y, geometry.kernel, layout, end, kernel.tile)


def choose_cudnn(layer: GPUConv2d, x: Tensor) -> GPUKernel:
    """Choose cuDNN's kernel with bias and ReLU fused where the layer has both, else its plain one."""
    return FUSED_CUDNN if layer.can_run(FUSED_CUDNN) else CUDNN


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
