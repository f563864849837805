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

from dilated.nn.context import ContextModule


@dataclass(frozen=True)
class Layer:
    """One layer of a chain along one axis: a convolution or a pooling."""

    name: str
    kernel: int
    dilation: int = 1
    stride: int = 1
    padding: int = 0
    ceil: bool = False
    """Whether a last, incomplete window counts, as in Caffe's poolings."""


@dataclass(frozen=True)
class Row:
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


def receptive_field(network: nn.Module | Sequence[Layer]) -> list[Row]:
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
    layers = chain(network) if isinstance(network, nn.Module) else list(network)
    if not layers:
        raise ValueError("receptive_field: found no convolution or pooling; expected a chain of at least one")
    rows = []
    field, jump, start, shrink = 1, 1, 0.0, 0
    for layer in layers:
        reach = (layer.kernel - 1) * layer.dilation
        field += reach * jump
        start += (reach / 2 - layer.padding) * jump
        shrink += (reach - 2 * layer.padding) * jump
        jump *= layer.stride
        rows.append(Row(layer.name, layer.kernel, layer.dilation, layer.stride, field, jump, start, shrink))
    return rows


def output_size(size: int, network: nn.Module | Sequence[Layer]) -> int:
    """The number of outputs along an axis of `size` inputs; layers round down unless they say `ceil`.

    Raises:
        ValueError: the input is too small for a layer; the message names it.

    Example:
        >>> output_size(66, [Layer(f"dilation {d}", 3, dilation=d) for d in (1, 1, 2, 4, 8, 16)])
        2
    """
    layers = chain(network) if isinstance(network, nn.Module) else network
    for layer in layers:
        before = size
        room = size + 2 * layer.padding - (layer.kernel - 1) * layer.dilation - 1
        if layer.ceil:
            room += layer.stride - 1
        if room < 0:
            raise ValueError(f"{layer.name}: {size} input steps are too few; expected at least {size - room}")
        size = room // layer.stride + 1
        if layer.ceil and (size - 1) * layer.stride >= before + layer.padding:
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
        for tap in range(kernel):
            for position, count in enumerate(paths):
                wider[position + tap * dilation] += count
        paths = wider
    return paths


def chain(module: nn.Module) -> list[Layer]:
    """The convolutions and poolings of a module, in order of registration, as `Layer`s."""
    layers = []
    pad_once = 0
    for name, leaf in module.named_modules():
        if isinstance(leaf, ContextModule):
            pad_once = leaf.pad  # a context module that pads its input once carries that padding itself
        if not isinstance(leaf, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            continue
        dilation = getattr(leaf, "dilation", 1)
        stride = leaf.stride if leaf.stride is not None else leaf.kernel_size
        if isinstance(leaf.padding, str):
            total = (_one(leaf.kernel_size, name) - 1) * _one(dilation, name)
            if leaf.padding == "same" and total % 2:
                raise ValueError(f"{name}: an even kernel pads one side more; expected the same number on both sides")
            padding = total // 2 if leaf.padding == "same" else 0
        else:
            padding = _one(leaf.padding, name)
        kernel, dilation, stride = (_one(value, name) for value in (leaf.kernel_size, dilation, stride))
        ceil = bool(getattr(leaf, "ceil_mode", False))
        layers.append(Layer(name, kernel, dilation, stride, padding + pad_once, ceil))
        pad_once = 0
    return layers


def _one(value: int | tuple[int, ...], name: str) -> int:
    """The single number of a square setting."""
    if isinstance(value, int):
        return value
    if len(set(value)) != 1:
        raise ValueError(f"{name}: found {tuple(value)}; expected the same number along both axes")
    return value[0]
