"""The basic context module as one Triton kernel: dilated 3x3 layers of equal width with ReLU, and a 1x1, for a GPU.

Tiles with halos would compute each value many times over: the default module sees 67x67 positions, so that a tile of
16x16 outputs needs 82x82 inputs of its first layer, 26 times as many. Here every layer is computed once; all programs
are on the GPU at the same time, and wait for each other between layers.

Only imported where Triton is installed: see `dilated.kernels.gpu`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from dilated.kernels.layers import FastConv2d, to_channels_last
from dilated.kernels.triton_conv import DTYPES, count_multiprocessors

MOST_CHANNELS = 128
"""Of a module whose weights a multiprocessor can hold."""
_ROWS = 64
"""Positions of a tile."""


@triton.jit
def _wait_for_all(counter_ptr, target):
    """Return when every program has come here, and what they have stored can be read."""
    tl.debug_barrier()
    arrived = tl.atomic_add(counter_ptr, 1, sem="acq_rel", scope="gpu") + 1
    while arrived < target:
        arrived = tl.atomic_add(counter_ptr, 0, sem="acq_rel", scope="gpu")
    tl.debug_barrier()


@triton.jit(do_not_specialize=["positions", "height", "width"])
def _context(
    x_ptr, maps_ptr, y_ptr, weight_ptr, bias_ptr, final_ptr, dilation_ptr, counter_ptr, positions, height, width,
    LAYERS: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, BM: tl.constexpr, PROGRAMS: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    c = tl.arange(0, CP)
    across, down = c[None, :], c[:, None]
    tiles = tl.cdiv(positions, BM)
    for layer in tl.static_range(LAYERS):
        dilation = tl.load(dilation_ptr + layer)
        bias = tl.load(bias_ptr + layer * CP + c)
        for tile in range(tl.program_id(0), tiles, PROGRAMS):
            m = tile * BM + tl.arange(0, BM)
            w = m % width
            h = m // width % height
            acc = tl.zeros((BM, CP), dtype=tl.float32) + bias[None, :]
            for tap in range(9):
                i = (tap // 3 - 1) * dilation
                j = (tap % 3 - 1) * dilation
                inside = (h + i >= 0) & (h + i < height) & (w + j >= 0) & (w + j < width) & (m < positions)
                place = (m + i * width + j)[:, None]
                if layer == 0:
                    a = tl.load(x_ptr + place * C + across, mask=inside[:, None] & (across < C), other=0.0)
                else:  # a map of its own for each layer, since a multiprocessor's cache does not see later stores
                    source = maps_ptr + (layer - 1) * positions * CP
                    a = tl.load(source + place * CP + across, mask=inside[:, None], other=0.0)
                b = tl.load(weight_ptr + (layer * 9 + tap) * CP * CP + down * CP + across)
                acc = tl.dot(a, b, acc)
            value = tl.maximum(acc, 0.0, propagate_nan=tl.PropagateNan.ALL).to(DTYPE)
            if layer + 1 < LAYERS:
                target = maps_ptr + layer * positions * CP + m[:, None] * CP + across
                tl.store(target, value, mask=(m < positions)[:, None])
            else:
                last = tl.load(bias_ptr + LAYERS * CP + c)
                value = tl.dot(value, tl.load(final_ptr + down * CP + across)) + last[None, :]
                mask = (m < positions)[:, None] & (across < C)
                tl.store(y_ptr + m[:, None] * C + across, value.to(DTYPE), mask=mask)
        if layer + 1 < LAYERS:
            _wait_for_all(counter_ptr, (layer + 1) * PROGRAMS)


class GPUContext(nn.Module):
    """A basic context module in half precision, as one kernel.

    Args:
        layers: 3x3 convolutions of C to C channels, padded by their dilation, with ReLU.
        final: a 1x1 convolution of C to C channels.
        dtype: torch.bfloat16 or torch.float16.

    Shapes:
        (N, C, h, w) of any type -> (N, C, h, w) of this one, channels last.
    """

    def __init__(self, layers: list[FastConv2d], final: FastConv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.channels, self.dtype = final.weight.shape[0], dtype
        self.num_layers = len(layers)
        self.padded = max(16, triton.next_power_of_2(self.channels))
        extra = self.padded - self.channels
        kernels = torch.stack([layer.weight.detach() for layer in layers]).permute(0, 3, 4, 2, 1)  # (L, 3, 3, in, out)
        biases = [_bias_of(layer) for layer in (*layers, final)]
        for name, value in {
            "weights": F.pad(kernels, (0, extra, 0, extra)).to(dtype).contiguous(),
            "biases": F.pad(torch.stack(biases).float(), (0, extra)).contiguous(),
            "final": F.pad(final.weight.detach()[:, :, 0, 0].T, (0, extra, 0, extra)).to(dtype).contiguous(),
            "dilations": torch.tensor([layer.geometry.dilation[0] for layer in layers], dtype=torch.int32),
        }.items():
            self.register_buffer(name, value.to(kernels.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = to_channels_last(x.to(self.dtype))
        n, _, height, width = x.shape
        positions, layers = n * height * width, self.num_layers
        maps = x.new_empty((max(1, layers - 1), positions, self.padded))
        y = x.new_empty((n, height, width, self.channels))
        programs = max(1, min(count_multiprocessors(x), -(-positions // _ROWS)))
        counter = torch.zeros(1, dtype=torch.int32, device=x.device)
        _context[(programs,)](
            x, maps, y, self.weights, self.biases, self.final, self.dilations, counter, positions, height, width,
            LAYERS=layers, C=self.channels, CP=self.padded, BM=_ROWS, PROGRAMS=programs, DTYPE=DTYPES[self.dtype],
            num_warps=4,
        )  # fmt: skip
        return y.permute(0, 3, 1, 2)


def _bias_of(layer: FastConv2d) -> Tensor:
    return layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.detach()


def find_basic_context(module: nn.Module) -> tuple[list[FastConv2d], FastConv2d] | None:
    """The layers and the last layer of a folded basic context module; None of everything else."""
    layers, final = getattr(module, "layers", None), getattr(module, "final", None)
    if not isinstance(layers, nn.ModuleList) or not isinstance(final, FastConv2d) or len(layers) == 0:
        return None
    if getattr(module, "input_padding", None) != 0 or final.weight.shape[0] > MOST_CHANNELS:
        return None
    shape = torch.Size((final.weight.shape[0],) * 2)
    is_basic = final.weight.shape == (*shape, 1, 1) and not any(final.geometry.padding) and not final.is_clamped
    convolutions = []
    for layer in layers:
        if not isinstance(layer, FastConv2d) or layer.weight.shape != (*shape, 3, 3):
            return None
        convolutions.append(layer)
        geometry = layer.geometry
        is_same = geometry.dilation == geometry.padding == geometry.end_padding and geometry.stride == (1, 1)
        is_relu = (layer.low, layer.high) == (0.0, float("inf"))
        is_basic &= is_same and is_relu and geometry.dilation[0] == geometry.dilation[1] and geometry.groups == 1
    return (convolutions, final) if is_basic else None
