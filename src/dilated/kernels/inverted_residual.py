"""Inverted residual blocks, a few rows at a time: the wide maps inside them are never held whole.

A block widens its input by a 1x1 convolution, filters each channel, and narrows the result by another 1x1 convolution
(Sandler et al., 2018, MobileNetV2, section 3.3). One layer after another, the wide maps go through memory four times.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from torch import Tensor, nn

from dilated.kernels.layers import FastConv2d, scratch_memory, to_channels_last
from dilated.kernels.native import Block, empty_map, load_native

_COLUMNS, _STRIDES = (3, 5, 7), (1, 2)
"""Depthwise kernels' widths, and strides along the columns, that are compiled in."""
_MAX_ROWS = 16
"""The tallest depthwise kernel."""


class FusedInvertedResidual(nn.Module):
    """A 1x1 convolution (or none), a depthwise one and another 1x1, with an optional sum with the input.

    The result is that of the layers one after another, to rounding. They run so where no compiled kernel can.

    Args:
        layers: the two or three convolutions, for which `is_fusable` is true.
        skip: add the input to the result, which has its shape.

    Shapes:
        (N, C, H, W) -> (N, c_out, H', W'), channels last if the compiled kernel runs.
    """

    def __init__(self, layers: list[FastConv2d], skip: bool = False) -> None:
        super().__init__()
        self.layers, self.skip = nn.ModuleList(layers), skip
        self._packed: tuple[Tensor | None, ...] = ()
        self._panel = 0

    def forward(self, x: Tensor) -> Tensor:
        first, last = self._layer(0), self._layer(-1)
        recorded = torch.is_grad_enabled() and (x.requires_grad or last.weight.requires_grad)
        if not recorded and load_native() is not None and first.is_supported(x):
            depthwise = self._layer(-2)
            if min(depthwise.geometry.output_size(x.shape[2], x.shape[3])) > 0:
                return self._run(x)
        y = x
        for layer in self.layers:
            y = layer(y)
        return y + x if self.skip else y

    def extra_repr(self) -> str:
        return f"skip={self.skip}"

    def reset(self) -> None:
        """Forget the weights as the kernel reads them."""
        self._packed = ()

    def _layer(self, index: int) -> FastConv2d:
        layer = self.layers[index]
        assert isinstance(layer, FastConv2d)
        return layer

    def _run(self, x: Tensor) -> Tensor:
        native = load_native()
        assert native is not None
        if not self._packed or self._panel != native.dilated_panel():
            self._panel = native.dilated_panel()
            self._packed = self._pack(self._panel)
        layers = [self._layer(i) for i in range(len(self.layers))]
        depthwise, last = layers[-2:]
        geometry = depthwise.geometry
        n, c_in, height, width = x.shape
        out_height, out_width = geometry.output_size(height, width)
        padding = geometry.padding_before(height, width)
        x, y = to_channels_last(x), empty_map((n, out_height, out_width, last.weight.shape[0]))
        lows = [-math.inf] * (3 - len(layers)) + [layer.low for layer in layers]
        highs = [math.inf] * (3 - len(layers)) + [layer.high for layer in layers]
        addresses = [None if tensor is None else tensor.data_ptr() for tensor in (x, y, *self._packed)]
        block = Block(
            *addresses, None, batch=n, height=height, width=width, out_height=out_height, out_width=out_width,
            c_in=c_in, hidden=depthwise.weight.shape[0], c_out=last.weight.shape[0], kernel_h=geometry.kernel[0],
            kernel_w=geometry.kernel[1], stride_h=geometry.stride[0], stride_w=geometry.stride[1],
            dilation_h=geometry.dilation[0], dilation_w=geometry.dilation[1], padding_h=padding[0],
            padding_w=padding[1], skip=self.skip, threads=torch.get_num_threads(),
            low=(ctypes.c_float * 3)(*lows), high=(ctypes.c_float * 3)(*highs),
        )  # fmt: skip
        scratch = scratch_memory(native.dilated_inverted_residual(ctypes.byref(block), 0))
        block.scratch = scratch.data_ptr()
        native.dilated_inverted_residual(ctypes.byref(block), 1)
        return y.permute(0, 3, 1, 2)

    def _pack(self, panel: int) -> tuple[Tensor | None, ...]:
        """Weight and bias of each layer, in panels of output channels with zeros beyond the last."""
        packed: list[Tensor | None] = [] if len(self.layers) == 3 else [None, None]
        for layer in map(self._layer, range(len(self.layers))):
            weight = layer.weight.detach().flatten(1).contiguous()  # (c_out, c_in or taps)
            bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()
            excess = -len(weight) % panel
            panels = F.pad(weight, (0, 0, 0, excess)).unflatten(0, (-1, panel))
            packed += [panels.transpose(1, 2).contiguous(), F.pad(bias, (0, excess))]
        return tuple(packed)


def is_fusable(layers: list[FastConv2d]) -> bool:
    """Whether the compiled kernel can compute these layers, one after another, as one block."""
    if not 2 <= len(layers) <= 3 or any(layer.weight.dtype != torch.float32 for layer in layers):
        return False
    depthwise = layers[-2]
    geometry, channels = depthwise.geometry, depthwise.weight.shape[0]
    is_compiled = geometry.kernel[1] in _COLUMNS and geometry.stride[1] in _STRIDES and geometry.kernel[0] <= _MAX_ROWS
    is_dense = all(1 in pair for pair in zip(geometry.stride, geometry.dilation, strict=True))
    is_depthwise = geometry.groups == channels and depthwise.weight.shape[1] == 1
    pointwise = [layer for layer in layers if layer is not depthwise]
    return is_compiled and is_dense and is_depthwise and all(_is_pointwise(layer) for layer in pointwise)


def _is_pointwise(layer: FastConv2d) -> bool:
    geometry = layer.geometry
    return (
        geometry.kernel == geometry.stride == (1, 1)
        and geometry.groups == 1
        and geometry.padding == geometry.end_padding == (0, 0)
    )


Change = tuple[nn.Module, str, Any]
"""A module, the name of its attribute that was replaced, and what it was."""


def fuse_inverted_residuals(module: nn.Module, reader: Mapping[nn.Module, nn.Module]) -> list[Change]:
    """Fuse, in place, each depthwise layer with the 1x1 layers before and after it.

    Args:
        module: a network whose convolutions are FastConv2d.
        reader: the only layer that reads the output of a layer, as a run has shown.

    Returns:
        What was replaced, for `undo`.
    """
    changes: list[Change] = []

    def replace(parent: nn.Module, name: str, value: Any) -> None:
        changes.append((parent, name, getattr(parent, name)))
        setattr(parent, name, value)

    for parent in list(module.modules()):
        names = {child: name for name, child in parent.named_children() if isinstance(child, FastConv2d)}
        for depthwise in list(names):
            last = reader.get(depthwise)
            if not isinstance(last, FastConv2d) or last not in names or depthwise not in names:
                continue
            if not is_fusable([depthwise, last]):
                continue
            first = [layer for layer in names if reader.get(layer) is depthwise and _is_pointwise(layer)]
            layers = [*first, depthwise, last]
            skip = _has_plain_skip(parent) and names[layers[0]] == ("conv_pw" if first else "conv_dw")
            if skip:
                replace(parent, "has_skip", False)
            for layer in layers[:-1]:
                replace(parent, names.pop(layer), nn.Identity())
            replace(parent, names.pop(last), FusedInvertedResidual(layers, skip))
    return changes


def undo(changes: list[Change]) -> None:
    """Put back what was replaced."""
    for parent, name, value in reversed(changes):
        setattr(parent, name, value)


def _has_plain_skip(parent: nn.Module) -> bool:
    """Whether a block of timm's adds its input to what its last convolution gives."""
    kinds = (InvertedResidual, DepthwiseSeparableConv)
    return (
        isinstance(parent, kinds)
        and type(parent).forward in [kind.forward for kind in kinds]
        and bool(parent.has_skip)
        and isinstance(parent.drop_path, nn.Identity)
        and parent.conv_s2d is None
        and isinstance(parent.aa, nn.Identity)
        and isinstance(parent.se, nn.Identity)
        and all(isinstance(getattr(parent, name, nn.Identity()), nn.Identity) for name in ("bn1", "bn2", "bn3"))
    )
