"""Receptive-field arithmetic: what one output value sees, layer by layer, in exact integers.

    >>> from dilated import ContextModule, receptive_field
    >>> [row.field for row in receptive_field(ContextModule(21, width="large"))]
    [3, 5, 9, 17, 33, 65, 67, 67]

Section 2 of the paper: a layer with kernel k and dilation d widens the field by (k - 1) * d input steps, so dilations
1, 2, 4, ... widen it exponentially while every layer keeps its resolution and its 9 weights per pair of maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from dilated.models.context import ContextModule


@dataclass(frozen=True)
class Layer:
    """One layer of a chain along one axis: a convolution or a pooling."""

    name: str
    kernel: int
    dilation: int = 1
    stride: int = 1
    padding: int = 0
    ceil_mode: bool = False
    """Whether a last, incomplete window counts, as in Caffe's poolings."""


@dataclass(frozen=True)
class ReceptiveField:
    """What one output value of a layer sees of the chain's input, along one axis.

    `field`: width of the receptive field in input steps. `jump`: input steps between neighbouring outputs. `start`:
    the input position of the centre of output 0 (half-integer for even fields). `shrink`: how many input steps fewer
    the layer's output covers, over the whole chain so far, than the input (0 where every layer pads fully).
    """

    name: str
    kernel: int
    dilation: int
    stride: int
    field: int
    jump: int
    start: float
    shrink: int


def receptive_field(module_or_layers: nn.Module | Sequence[Layer]) -> list[ReceptiveField]:
    """The receptive field after each layer of a chain (paper, Section 2 and Table 1).

    Args:
        network: a list of `Layer`, or a module whose convolutions and poolings form one chain in the order in which
            they are registered: `nn.Sequential`, `ContextModule`, a VGG.

    Returns:
        One `Row` per layer. Table 1 of the paper is `receptive_field(ContextModule(C))`.

    Raises:
        ValueError: a kernel, stride or dilation that is not square, or no layer at all.

    Example:
        >>> rows = receptive_field([Layer("conv", 3), Layer("pool", 2, stride=2), Layer("conv", 3, dilation=2)])
        >>> rows[-1].field, rows[-1].jump, rows[-1].start
        (12, 2, 5.5)
    """
    layers = _collect_layers(module_or_layers) if isinstance(module_or_layers, nn.Module) else list(module_or_layers)
    if not layers:
        raise ValueError("receptive_field: found no convolution or pooling; expected a chain of at least one")
    rows = []
    field, jump, start, shrink = 1, 1, 0.0, 0
    for layer in layers:
        window_span = (layer.kernel - 1) * layer.dilation
        field += window_span * jump
        start += (window_span / 2 - layer.padding) * jump
        shrink += (window_span - 2 * layer.padding) * jump
        jump *= layer.stride
        rows.append(ReceptiveField(layer.name, layer.kernel, layer.dilation, layer.stride, field, jump, start, shrink))
    return rows


def output_size(size: int, module_or_layers: nn.Module | Sequence[Layer]) -> int:
    """The number of outputs along an axis of `median_size` inputs; layers round down unless they say `ceil`.

    Raises:
        ValueError: the input is too small for a layer; the message names it.

    Example:
        >>> output_size(66, [Layer(f"dilation {d}", 3, dilation=d) for d in (1, 1, 2, 4, 8, 16)])
        2
    """
    layers = _collect_layers(module_or_layers) if isinstance(module_or_layers, nn.Module) else module_or_layers
    for layer in layers:
        input_size = size
        last_start = size + 2 * layer.padding - (layer.kernel - 1) * layer.dilation - 1
        if layer.ceil_mode:
            last_start += layer.stride - 1
        if last_start < 0:
            raise ValueError(f"{layer.name}: {size} input steps are too few; expected at least {size - last_start}")
        size = last_start // layer.stride + 1
        if layer.ceil_mode and (size - 1) * layer.stride >= input_size + layer.padding:
            size -= 1  # a window must begin inside the input
    return size


def coverage(dilations: Iterable[int], kernel: int = 3) -> list[int]:
    """How many paths lead from each position of the receptive field to one output, along one axis.

    A zero is a position that the stack never sees: the gridding of dilations that grow too fast. The paper's 1, 1, 2,
    4, 8, 16 has none.

    Example:
        >>> coverage([2, 2])
        [1, 0, 2, 0, 3, 0, 2, 0, 1]
        >>> min(coverage([1, 1, 2, 4, 8, 16, 1]))
        1
    """
    paths = [1]
    for dilation in dilations:
        wider = [0] * (len(paths) + (kernel - 1) * dilation)
        for tap_index in range(kernel):
            for position, count in enumerate(paths):
                wider[position + tap_index * dilation] += count
        paths = wider
    return paths


def _collect_layers(module: nn.Module) -> list[Layer]:
    """The convolutions and poolings of a module, in order of registration, as `Layer`s."""
    layers = []
    pad_once = 0
    for name, submodule in module.named_modules():
        if isinstance(submodule, ContextModule):
            pad_once = submodule.pad  # a context module that pads its input once carries that padding itself
        if not isinstance(submodule, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            continue
        dilation = getattr(submodule, "dilation", 1)
        stride = submodule.stride if submodule.stride is not None else submodule.kernel_size
        if isinstance(submodule.padding, str):
            total = (_square_value(submodule.kernel_size, name) - 1) * _square_value(dilation, name)
            if submodule.padding == "same" and total % 2:
                raise ValueError(f"{name}: an even kernel pads one side more; expected the same number on both sides")
            padding = total // 2 if submodule.padding == "same" else 0
        else:
            padding = _square_value(submodule.padding, name)
        kernel, dilation, stride = (_square_value(value, name) for value in (submodule.kernel_size, dilation, stride))
        ceil_mode = bool(getattr(submodule, "ceil_mode", False))
        layers.append(Layer(name, kernel, dilation, stride, padding + pad_once, ceil_mode))
        pad_once = 0
    return layers


def _square_value(value: int | tuple[int, ...], name: str) -> int:
    """The single number of a square setting."""
    if isinstance(value, int):
        return value
    if len(set(value)) != 1:
        raise ValueError(f"{name}: found {tuple(value)}; expected the same number along both axes")
    return value[0]
