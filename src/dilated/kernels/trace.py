"""Which layer of a network reads the output of which, as one run shows: what can be folded into a convolution.

trace, output = trace_layers(network, example)
norm = trace.reader.get(conv)                        # the only layer that reads its output, if there is one
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.kernels.geometry import conv_geometry
from dilated.kernels.layers import TORCH, FastConv2d

CLAMPS: dict[type[nn.Module], tuple[float, float]] = {nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0)}
_PASS_THROUGH = (nn.Identity, nn.Dropout, nn.Dropout2d)
"""Layers that do nothing in inference."""
_MAX_FOLDING_ERROR = 1e-4
"""Of the verified output, relative to its greatest value; folding itself costs about 1e-6."""


@dataclass
class Trace:
    """Which layer reads the output of which, as one run has shown."""

    convolutions: dict[str, nn.Conv2d] = field(default_factory=dict)
    """By name, those whose output a FastConv2d gives too."""
    calls: Counter[nn.Module] = field(default_factory=Counter)
    reader: dict[nn.Module, nn.Module] = field(default_factory=dict)
    """The only layer that reads the output of a layer."""
    names: dict[nn.Module, str] = field(default_factory=dict)


def trace_layers(module: nn.Module, example: Tensor) -> tuple[Trace, Any]:
    """Run a network, and note what reads the output of its convolutions and batch norms; also returns its output."""
    trace = Trace(names={layer: name for name, layer in module.named_modules()})
    producers: dict[tuple[int, int], nn.Module] = {}  # by the tensor and its version: sums may be taken in place
    readers: dict[nn.Module, list[nn.Module]] = {}
    versions: dict[int, int] = {}
    kept: list[object] = []  # while a tensor is kept, its id is its own

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        trace.calls[layer] += 1
        if isinstance(layer, _PASS_THROUGH) and len(inputs) == 1 and output is inputs[0]:
            return
        kept.extend([inputs, output])
        for value in inputs:
            if isinstance(value, Tensor) and (producer := producers.get((id(value), versions[id(value)]))):
                readers.setdefault(producer, []).append(layer)
        if isinstance(output, Tensor):
            producers[id(output), output._version] = layer
        if isinstance(layer, nn.Conv2d) and _is_plain(layer, inputs, output):
            trace.convolutions[trace.names[layer]] = layer

    def note_versions(layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # before the layer works in place
        versions.update({id(value): value._version for value in inputs if isinstance(value, Tensor)})

    leaves = [m for m in module.modules() if not list(m.children()) or isinstance(m, nn.BatchNorm2d)]
    handles = [layer.register_forward_hook(note) for layer in leaves]
    handles += [layer.register_forward_pre_hook(note_versions) for layer in leaves]
    try:
        output = module(example)
    finally:
        for handle in handles:
            handle.remove()
    trace.reader = {layer: after[0] for layer, after in readers.items() if len(after) == 1}
    return trace, output


def _is_plain(conv: nn.Conv2d, inputs: tuple[Any, ...], output: Tensor) -> bool:
    """Whether a convolution, perhaps of a class of its own, computes what its settings say."""
    if len(inputs) != 1 or conv_geometry(conv) is None or conv.weight.dtype != torch.float32:
        return False
    if type(conv) is nn.Conv2d:
        return True
    expected = FastConv2d(conv, TORCH)(inputs[0])
    return expected.shape == output.shape and torch.allclose(expected, output, rtol=1e-4, atol=1e-5)


def is_foldable(norm: nn.Module | None) -> bool:
    """Whether a layer is a batch norm with fixed statistics, perhaps with an activation as timm has it."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return False
    is_plain = type(norm).forward is nn.BatchNorm2d.forward
    return is_plain or (hasattr(norm, "act") and isinstance(getattr(norm, "drop", None), nn.Identity))


def require_equal(expected: Any, output: Any) -> None:
    """Raise where two outputs, tensors or sequences of them, differ by more than rounding."""
    if isinstance(expected, Tensor):
        error = float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        if not error <= _MAX_FOLDING_ERROR:
            raise InputError(
                f"accelerate: the output changes by {error:.1e} of its greatest value",
                hint="use the network itself, which does something that cannot be folded",
            )
        return
    for a, b in zip(expected, output, strict=True):
        require_equal(a, b)
