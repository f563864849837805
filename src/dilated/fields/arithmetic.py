"""Receptive-field arithmetic: what one output value depends on, layer by layer, in exact integers.

    >>> from dilated import ContextModule, receptive_field
    >>> [row.field for row in receptive_field(ContextModule(21, width="large"))]
    [3, 5, 9, 17, 33, 65, 67, 67]

Section 2 of the paper: a layer with kernel k and dilation d widens the field by (k - 1) * d input steps, so dilations
1, 2, 4, ... widen it exponentially while every layer keeps its resolution and its 9 weights per pair of channels.

`ConvAxis` is the window arithmetic of the whole package: `receptive_field`, `output_size`, `dilated.dilate` and the
sampling grids of backbones all use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from dilated.errors import InputError


@dataclass(frozen=True)
class ConvAxis:
    """The windows of a convolution or pooling along one axis.

    Example:
        >>> ConvAxis(kernel=3, stride=2, padding=None).padding_at(224)
        (0, 1)
        >>> ConvAxis(kernel=3, stride=2, ceil_mode=True).output_size(6), ConvAxis(kernel=3, stride=2).output_size(6)
        (3, 2)
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] | None = (0, 0)
    """At the start and at the end; None where the input's length decides, as in TensorFlow's "same" padding."""
    ceil_mode: bool = False
    """Whether a last, incomplete window counts."""

    @property
    def span(self) -> int:
        """Steps from the first to the last value that a window reads."""
        return self.dilation * (self.kernel - 1)

    def padding_at(self, length: int) -> tuple[int, int]:
        """Zeros added at the start and at the end of an input of that length."""
        if self.padding is not None:
            return self.padding
        total = max((-(-length // self.stride) - 1) * self.stride + self.span + 1 - length, 0)
        return total // 2, total - total // 2

    def min_length(self, length: int) -> int:
        """The shortest input that gives an output, with the padding that an input of `length` gets."""
        return self.span + 1 - sum(self.padding_at(length)) - (self.stride - 1 if self.ceil_mode else 0)

    def output_size(self, length: int) -> int:
        """The number of windows over an input of that length; 0 where it is too short for one."""
        missing = self.min_length(length) - length
        if missing > 0:
            return 0
        count = -missing // self.stride + 1
        if self.ceil_mode and (count - 1) * self.stride >= length + self.padding_at(length)[0]:
            count -= 1  # a window must begin inside the input
        return count

    def start_at(self, length: int) -> float:
        """The position, in input steps, on which the first window is centered."""
        return self.span / 2 - self.padding_at(length)[0]


@dataclass(frozen=True)
class Layer:
    """One layer of a chain along one axis: a convolution or a pooling."""

    name: str
    kernel: int
    dilation: int = 1
    stride: int = 1
    padding: int | tuple[int, int] | None = 0
    """On both sides; or at the start and at the end; or None for TensorFlow's "same", which depends on the length."""
    ceil_mode: bool = False
    """Whether a last, incomplete window counts, as in Caffe's poolings."""

    @property
    def axis(self) -> ConvAxis:
        """The layer's windows."""
        padding = (self.padding, self.padding) if isinstance(self.padding, int) else self.padding
        return ConvAxis(self.kernel, self.stride, self.dilation, padding, self.ceil_mode)


@dataclass(frozen=True)
class ReceptiveField:
    """What one output value of a layer depends on, along one axis of the chain's input."""

    name: str
    kernel: int
    dilation: int
    stride: int
    field: int
    """Width of the receptive field in input steps."""
    jump: int
    """Input steps between neighboring outputs."""
    start: float
    """The input position on which output 0 is centered; half-integer for even fields."""
    shrink: int
    """By how many input steps the output covers less than the input, over the chain so far; 0 with full padding."""


def receptive_field(module_or_layers: nn.Module | Sequence[Layer]) -> list[ReceptiveField]:
    """Compute the receptive field after each layer of a chain (paper, Section 2 and Table 1).

    TensorFlow's "same" padding is counted as for an input whose length the strides divide.

    Args:
        module_or_layers: a list of `Layer`, or a module whose convolutions and poolings form one chain in the order in
            which they are registered: `nn.Sequential`, `ContextModule`, a VGG.

    Returns:
        One `ReceptiveField` per layer. Table 1 of the paper is `receptive_field(ContextModule(C))`.

    Raises:
        InputError: a kernel, stride or dilation that is not square, or no layer at all.

    Example:
        >>> rows = receptive_field([Layer("conv", 3), Layer("pool", 2, stride=2), Layer("conv", 3, dilation=2)])
        >>> rows[-1].field, rows[-1].jump, rows[-1].start
        (12, 2, 5.5)
    """
    layers = _collect_layers(module_or_layers)
    if not layers:
        raise InputError(
            "receptive_field: the chain has no convolution or pooling", hint="give it at least one layer with a kernel"
        )
    rows = []
    field, jump, start, shrink = 1, 1, 0.0, 0
    for layer in layers:
        axis = layer.axis
        field += axis.span * jump
        start += axis.start_at(axis.stride) * jump
        shrink += (axis.span - sum(axis.padding_at(axis.stride))) * jump
        jump *= axis.stride
        rows.append(ReceptiveField(layer.name, layer.kernel, layer.dilation, layer.stride, field, jump, start, shrink))
    return rows


def output_size(size: int, module_or_layers: nn.Module | Sequence[Layer]) -> int:
    """Compute the number of outputs of a chain along an axis of `size` inputs.

    Raises:
        InputError: the input is too small for a layer, which the message names; or as `receptive_field`.

    Example:
        >>> output_size(66, [Layer(f"dilation {d}", 3, dilation=d) for d in (1, 1, 2, 4, 8, 16)])
        2
    """
    for layer in _collect_layers(module_or_layers):
        count = layer.axis.output_size(size)
        if count < 1:
            raise InputError(
                f"output_size: {layer.name}: {size} input steps are too few",
                hint=f"give at least {layer.axis.min_length(size)} to this layer",
            )
        size = count
    return size


def coverage(dilations: Iterable[int], kernel: int = 3) -> list[int]:
    """Count the paths that lead from each position of the receptive field to one output, along one axis.

    A zero is a position on which the output does not depend: the gridding of dilations that grow too fast. The paper's
    1, 1, 2, 4, 8, 16 has none.

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


def conv_axes(layer: Any) -> tuple[ConvAxis, ConvAxis]:
    """The windows of a convolution or pooling of torch or timm along rows and along columns.

    Example:
        >>> rows, columns = conv_axes(nn.Conv2d(3, 3, (1, 4), padding="same"))
        >>> rows.padding, columns.padding
        ((0, 0), (1, 2))
    """
    kernel, dilation = to_2tuple(layer.kernel_size), to_2tuple(getattr(layer, "dilation", 1))
    stride = kernel if layer.stride is None else to_2tuple(layer.stride)
    spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding: Sequence[tuple[int, int] | None]
    # timm's layers with TensorFlow's padding, known by name: fields do without timm.
    if any(cls.__name__.endswith("Same") for cls in type(layer).__mro__) and getattr(layer, "same_pad", True):
        padding = (None, None)
    elif layer.padding == "same":
        padding = [(span // 2, span - span // 2) for span in spans]
    else:
        padding = [(p, p) for p in to_2tuple(0 if layer.padding == "valid" else layer.padding)]
    ceil_mode = bool(getattr(layer, "ceil_mode", False))
    rows, columns = (ConvAxis(kernel[i], stride[i], dilation[i], padding[i], ceil_mode) for i in range(2))
    return rows, columns


def as_layer(name: str, module: nn.Module) -> Layer:
    """A convolution or pooling as one layer of a chain.

    Raises:
        InputError: a setting that differs between the axes.
    """
    axis, columns = conv_axes(module)
    for setting in ("kernel", "stride", "dilation", "padding"):
        pair = getattr(axis, setting), getattr(columns, setting)
        if pair[0] != pair[1]:
            raise InputError(f"receptive_field: {name}: the {setting} differs between the axes, {pair}")
    return Layer(name, axis.kernel, axis.dilation, axis.stride, axis.padding, axis.ceil_mode)


def to_2tuple(value: Any) -> tuple[int, int]:
    """A setting's numbers for rows and columns, from one number or a sequence of one or two."""
    if isinstance(value, int):
        return value, value
    values = tuple(value)
    return values[0], values[-1]


def _collect_layers(module_or_layers: nn.Module | Sequence[Layer], prefix: str = "") -> list[Layer]:
    """The convolutions and poolings of a module, in order of registration."""
    if not isinstance(module_or_layers, nn.Module):
        return list(module_or_layers)
    # A module that does more than its layers show, such as padding its input once, lists them itself.
    list_layers: Any = getattr(module_or_layers, "receptive_field_layers", None)
    if list_layers is not None:
        return [replace(layer, name=prefix + layer.name) for layer in list_layers()]
    if isinstance(module_or_layers, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return [as_layer(prefix.removesuffix("."), module_or_layers)]
    children = module_or_layers.named_children()
    return [layer for name, child in children for layer in _collect_layers(child, f"{prefix}{name}.")]
