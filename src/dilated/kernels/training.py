"""Training on a CPU by faster kernels: the same parameters and gradients to rounding, while a context is active.

    kernels = plan_training(network, example)            # None where they would gain nothing
    with kernels.active():
        network(kernels.to_layout(images))               # records gradients as it always does

Pointwise and depthwise convolutions run by `dilated.kernels.gradients`, channels last. A batch norm whose statistics
are frozen is an affine function: its factor goes into the weights of the convolution before it, through which the
gradients of both flow, and no map is normalized. A ReLU after it becomes part of the convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.kernels.geometry import ConvGeometry, conv_geometry
from dilated.kernels.gradients import depthwise_conv2d, pointwise_conv2d
from dilated.kernels.native import load_native
from dilated.kernels.trace import CLAMPS, Trace, is_foldable, require_equal, trace_layers


@dataclass(frozen=True)
class _Layer:
    """A convolution, and what follows it that is computed with it."""

    conv: nn.Conv2d
    geometry: ConvGeometry
    norm: nn.BatchNorm2d | None
    low: float
    high: float

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias, geometry = self.conv.weight, self.conv.bias, self.geometry
        if self.norm is not None:
            weight, bias = _fold(self.norm, weight, bias)
        if x.numel() and min(geometry.output_size(x.shape[2], x.shape[3])) > 0:
            if _is_pointwise(geometry):
                return pointwise_conv2d(x, weight, bias, self.low, self.high)
            if _is_depthwise(self.conv):
                return depthwise_conv2d(x, weight, bias, geometry, self.low, self.high)
        before, after = geometry.padding_before(*x.shape[2:]), geometry.padding_after(*x.shape[2:])
        if before != after:
            x, before = F.pad(x, (before[1], after[1], before[0], after[0])), (0, 0)
        y = F.conv2d(x, weight, bias, geometry.stride, before, geometry.dilation, geometry.groups)
        return y if self.low == -math.inf and self.high == math.inf else y.clamp(self.low, self.high)


class TrainingKernels:
    """The faster kernels of a network; `plan_training` makes them.

    Args:
        forwards: what the layers compute instead of their own, by layer.
    """

    def __init__(self, forwards: dict[nn.Module, Callable[[Tensor], Tensor]]) -> None:
        self.forwards = forwards

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the network compute by these kernels; gradients may be asked for later."""
        for layer, forward in self.forwards.items():
            layer.forward = forward
        try:
            yield
        finally:
            for layer in self.forwards:
                layer.__dict__.pop("forward", None)

    @staticmethod
    def to_layout(images: Tensor) -> Tensor:
        """Images as the kernels read them: channels last."""
        return images.contiguous(memory_format=torch.channels_last)


def plan_training(network: nn.Module, example: Tensor) -> TrainingKernels | None:
    """Find what can be computed faster in training; the network itself stays as it is.

    The plan is verified on the example, in evaluation mode.

    Args:
        network: with its layers in the modes in which they are trained: batch norms in evaluation mode are frozen.
        example: an input, (1, bands, H, W) float32 on the CPU.

    Returns:
        The kernels; None for a network without depthwise convolutions, on which torch's own kernels are as fast,
        without the compiled kernels, or where the output would change.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4).eval())
        >>> kernels = plan_training(network, torch.rand(1, 4, 8, 8))
        >>> kernels is None or len(kernels.forwards)
        2
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not any(_is_depthwise(conv) for conv in convolutions) or load_native() is None:
        return None
    modes = [(layer, layer.training) for layer in network.modules()]
    frozen = {layer for layer, training in modes if not training}
    network.eval()
    try:
        with torch.no_grad():
            trace, expected = trace_layers(network, example)
            kernels = TrainingKernels(_plan_forwards(trace, frozen))
            with kernels.active():
                require_equal(expected, network(kernels.to_layout(example)))
    except Exception:  # what reads maps otherwise than by layers may expect anything of those that are passed over
        return None
    finally:
        for layer, training in modes:
            layer.training = training
    return kernels


def _plan_forwards(trace: Trace, frozen: set[nn.Module]) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    forwards: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
    for conv in trace.convolutions.values():
        geometry, norm, (low, high) = conv_geometry(conv), _next(trace, conv), (-math.inf, math.inf)
        assert geometry is not None
        if isinstance(norm, nn.BatchNorm2d) and is_foldable(norm) and norm in frozen:
            last: nn.Module = norm
            activation: nn.Module | None = getattr(norm, "act", None)
            if activation is not None and type(activation) in CLAMPS:
                low, high = CLAMPS[type(activation)]
                activation = None
            forwards[norm] = _pass if activation is None else partial(_activate, activation)
        else:
            norm, last, activation = None, conv, None
        reader: Any = _next(trace, last)
        if low == -math.inf and activation is None and type(reader) in CLAMPS:
            low, high = CLAMPS[type(reader)]
            forwards[reader] = _pass
        if norm is not None or _is_pointwise(geometry) or _is_depthwise(conv):
            forwards[conv] = _Layer(conv, geometry, norm, low, high)
        elif low > -math.inf:
            del forwards[reader]
    return forwards


def _next(trace: Trace, layer: nn.Module) -> nn.Module | None:
    """The only layer that reads a layer's output, where both run once."""
    reader = trace.reader.get(layer)
    return reader if reader is not None and trace.calls[layer] == trace.calls[reader] == 1 else None


def _pass(x: Tensor) -> Tensor:
    return x


def _activate(activation: nn.Module, x: Tensor) -> Tensor:
    return activation(x)


def _fold(norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The weight and bias of a convolution that does what a frozen batch norm after it did, with their gradients."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale: Tensor = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = (-norm.running_mean if bias is None else bias - norm.running_mean) * scale
    return weight * scale[:, None, None, None], shift if norm.bias is None else shift + norm.bias


def _is_pointwise(geometry: ConvGeometry) -> bool:
    is_unpadded = geometry.padding == geometry.end_padding == (0, 0)
    return geometry.kernel == geometry.stride == (1, 1) and geometry.groups == 1 and is_unpadded


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels == conv.out_channels > 1
