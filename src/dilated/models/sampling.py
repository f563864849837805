"""Where a logit sits in the image, and the up-sampling that puts it there.

Logit k along an axis is centered on pixel `start + stride * k`. Networks differ in `start`: symmetric padding gives 0,
TensorFlow's one-sided "same" padding gives stride - 1, patchify stems give (stride - 1) / 2, the only case for which
the usual `interpolate(align_corners=False)` is right. A wrong convention shifts every label by some pixels, and by a
different number once the stride changes. So `start` is measured on the network, and `upsample` honors it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from timm.layers.blur_pool import BlurPool2d
from torch import Tensor, nn

from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.fields.arithmetic import ConvAxis, conv_axes
from dilated.fields.probing import eval_mode, temporary_hooks
from dilated.kernels.labels import upsample_argmax
from dilated.kernels.upsample import is_upsampled_natively, upsample_channels_last


@dataclass(frozen=True)
class Grid:
    """Sample k sits at pixel `start + stride * k`, along either axis."""

    stride: float
    start: float

    def window(self, first_sample: int) -> Grid:
        """The grid of a window that begins with sample `first_sample`."""
        return Grid(self.stride, self.start + self.stride * first_sample)


AxisGrids = Grid | tuple[Grid, Grid]
"""One grid along both axes, or one for the rows and one for the columns, as windows have."""

PIXEL_GRID = Grid(1, 0.0)
_MOST_APART = 0.5
"""How many samples apart layers may be whose sum is read; ResNet-D's are half a sample apart."""


class AuxiliaryLevel(NamedTuple):
    """The feature map that an auxiliary classifier reads."""

    channels: int
    grid: Grid


def split_axes(grid: AxisGrids) -> tuple[Grid, Grid]:
    """The grids of rows and of columns."""
    return (grid, grid) if isinstance(grid, Grid) else grid


def upsample(feature_maps: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
    """Interpolate bilinearly from one grid to another; beyond the outermost samples, repeat the nearest one.

    Exact for any stride, start and size, and local: a value depends on four samples at most.

    Args:
        feature_maps: (N, C, h, w) on `source`.
        source: where the given samples sit.
        target: where the wanted samples sit.
        size: (H, W), the number of wanted samples.

    Returns:
        (N, C, H, W).

    Example:
        >>> x = torch.tensor([0.0, 8.0]).view(1, 1, 1, 2)
        >>> upsample(x, Grid(4, 0.0), PIXEL_GRID, (1, 6)).flatten().tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 8.0]
    """
    (source_rows, source_columns), (target_rows, target_columns) = split_axes(source), split_axes(target)
    if not torch.jit.is_tracing() and not torch.compiler.is_exporting() and is_upsampled_natively(feature_maps):  # type: ignore[attr-defined]
        cpu, (height, width) = torch.device("cpu"), feature_maps.shape[-2:]
        rows = _source_positions(height, source_rows, target_rows, size[0], cpu)
        return upsample_channels_last(
            feature_maps, rows, _source_positions(width, source_columns, target_columns, size[1], cpu)
        )
    return _resample_axis(
        _resample_axis(feature_maps, -1, source_columns, target_columns, size[1]), -2, source_rows, target_rows, size[0]
    )


def upsample_labels(logits: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
    """The greatest class at each place of a finer grid: (N, C, h, w) -> (N, *size).

    The interpolated logits are never held. Arguments as for `upsample`; uint8 for up to 255 classes, otherwise int32.

    Example:
        >>> logits = torch.rand(1, 5, 4, 4)
        >>> labels = upsample_labels(logits, Grid(8, 3.5), PIXEL_GRID, (32, 32))
        >>> torch.equal(labels, upsample(logits, Grid(8, 3.5), PIXEL_GRID, (32, 32)).argmax(1).byte())
        True
    """
    rows, columns = (
        _source_positions(samples, a, b, length, torch.device("cpu"))
        for samples, a, b, length in zip(logits.shape[2:], split_axes(source), split_axes(target), size, strict=True)
    )
    return upsample_argmax(logits, rows, columns)


def _resample_axis(feature_maps: Tensor, axis: int, source: Grid, target: Grid, size: int) -> Tensor:
    """Interpolation along one of the last two axes."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():  # type: ignore[attr-defined]
        return _resample_any_size(feature_maps, axis, source, target, size)
    samples = feature_maps.shape[axis]
    shift = (target.start - source.start) / source.stride
    if source.stride == target.stride and shift == int(shift) and 0 <= shift <= samples - size:
        return feature_maps.narrow(axis, int(shift), size)  # each wanted sample is one of the source
    position = _source_positions(samples, source, target, size, feature_maps.device)
    if feature_maps.requires_grad and torch.is_grad_enabled():  # the gradient of a product is deterministic everywhere
        grid = torch.arange(samples, device=position.device, dtype=torch.float64)
        matrix = (1 - (position[:, None] - grid[None, :]).abs()).clamp(min=0).to(feature_maps)  # (size, samples)
        return feature_maps @ matrix.T if axis == -1 else matrix @ feature_maps
    lower = position.floor()
    weight = (position - lower).to(feature_maps)
    first_sample = lower.long().to(feature_maps.device)
    second_sample = (first_sample + 1).clamp(max=samples - 1)
    weight = weight if axis == -1 else weight[:, None]
    return torch.lerp(
        feature_maps.index_select(axis, first_sample), feature_maps.index_select(axis, second_sample), weight
    )


def _resample_any_size(feature_maps: Tensor, axis: int, source: Grid, target: Grid, size: int) -> Tensor:
    """The same by operations on tensors alone, so that a graph traced from them holds for any size.

    Positions are float32, in which those of strides that are powers of two are exact.
    """
    if source == target:
        return feature_maps.narrow(axis, 0, size)
    last = torch.arange(feature_maps.shape[axis], dtype=torch.float32)[-1:]
    position = positions_any_size(feature_maps.shape[axis], source, target, size)
    lower = position.floor()
    weight = (position - lower).to(feature_maps)
    first, second = lower.long(), torch.minimum(lower + 1, last).long()
    weight = weight if axis == -1 else weight[:, None]
    return torch.lerp(feature_maps.index_select(axis, first), feature_maps.index_select(axis, second), weight)


def positions_any_size(samples: int, source: Grid, target: Grid, size: int) -> Tensor:
    """Where each target lies between the samples, by operations on tensors alone: (size,) float32, in samples."""
    pixels = target.start + target.stride * torch.arange(size, dtype=torch.float32)
    last = torch.arange(samples, dtype=torch.float32)[-1:]
    return torch.minimum(((pixels - source.start) / source.stride).clamp(min=0), last)


def _source_positions(samples: int, source: Grid, target: Grid, size: int, device: torch.device) -> Tensor:
    """Where each target lies between the samples: (size,) float64, in samples."""
    device = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    pixels = target.start + target.stride * torch.arange(size, device=device, dtype=torch.float64)
    return ((pixels - source.start) / source.stride).clamp(0, samples - 1)


def source_window(source: Grid, target: Grid, size: int, samples: int, halo: int = 1) -> slice:
    """Find the samples of a source around `size` samples of a target, along one axis.

    Args:
        samples: how many the source has.
        halo: how many more on either side.

    Example:
        >>> source_window(Grid(8, 0.0), Grid(1, 20.0), 10, samples=100)
        slice(1, 6, None)
    """
    first_sample = math.floor((target.start - source.start) / source.stride) - halo
    last_sample = math.ceil((target.start + target.stride * (size - 1) - source.start) / source.stride) + halo
    first_sample = min(max(first_sample, 0), samples - 1)
    return slice(first_sample, min(max(last_sample, first_sample), samples - 1) + 1)


def measure_grids(backbone: nn.Module, levels: int, channels: int = 3) -> list[Grid]:
    """Measure the grid of each level of a backbone that returns a list of feature maps, by running it once.

    Each layer that strides moves sample 0 by its kernel's center less its left padding. Layers that run side by side
    (a shortcut and its branch) agree, or are half a sample apart, as in ResNet-D, whose shortcuts average 2x2: then the
    sum is taken to sit midway, and a warning says so.

    Raises:
        InputError: layers side by side are farther apart, or the resolution falls at something that is no convolution
            or pooling; the message names the layer.
    """
    side = 256
    downsamplings: dict[int, _Downsampling] = {}  # by the rows before it

    def make_hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            length = inputs[0].shape[-2]
            axis = _blur_axis(layer) if isinstance(layer, BlurPool2d) else conv_axes(layer)[0]
            stride, shift = axis.stride, axis.start_at(length)
            if stride == 1:
                if shift:
                    raise InputError(
                        f"backbone: {name}: a layer of stride 1 moves the samples by {shift} rows",
                        hint="set network.dilation = 'exact', or choose a greater output stride or another backbone",
                    )
                return
            previous = downsamplings.get(length, _Downsampling(stride, shift, shift, name))
            downsamplings[length] = previous.join(stride, shift, name)

        return hook

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, BlurPool2d)
    layers = [(name, layer) for name, layer in backbone.named_modules() if isinstance(layer, kinds)]
    handles = (layer.register_forward_hook(make_hook(name)) for name, layer in layers)
    try:
        with torch.no_grad(), eval_mode(backbone), temporary_hooks(handles):
            feature_maps = backbone(torch.zeros(1, channels, side, side))
    except (AssertionError, RuntimeError) as error:
        require_memory(error, f"backbone: an image of {side}x{side}")
        raise InputError(
            f"backbone: it does not take an image of {side}x{side} ({error})", hint="choose one that takes any size"
        ) from error
    apart = [downsampling.name for downsampling in downsamplings.values() if downsampling.low < downsampling.high]
    if apart:
        warnings.warn(
            f"backbone: {', '.join(apart)}: a shortcut samples half a sample beside its branch, as in ResNet-D; "
            "features are taken to sit midway",
            stacklevel=3,
        )
    return [_level_grid(level, feature_maps[level], side, downsamplings) for level in range(levels)]


@dataclass(frozen=True)
class _Downsampling:
    """Layers that stride side by side."""

    stride: int
    low: float
    """The least shift of sample 0, in samples before it."""
    high: float
    """The greatest."""
    name: str
    """The first of them."""

    def join(self, stride: int, shift: float, name: str) -> _Downsampling:
        """Add a layer beside them."""
        low, high = min(self.low, shift), max(self.high, shift)
        if stride != self.stride or high - low > _MOST_APART:
            raise InputError(
                f"backbone: {name} and {self.name} run side by side but sample at different positions: strides "
                f"{stride} and {self.stride}, centers {shift} and {self.low if shift > self.low else self.high}",
                hint="choose another backbone",
            )
        return replace(self, low=low, high=high)


def _blur_axis(layer: BlurPool2d) -> ConvAxis:
    """The windows of a blur, which pads by reflection and then convolves."""
    return ConvAxis(layer.filt_size, layer.stride, 1, (layer.padding[0], layer.padding[1]), False)


def _level_grid(level: int, maps: Tensor, side: int, downsamplings: Mapping[int, _Downsampling]) -> Grid:
    """Where the values of a level sit, from the layers that stride on the way to it."""
    if maps.shape[-2] != maps.shape[-1]:  # of a square image
        raise InputError(
            f"backbone: level {level}: a map of {tuple(maps.shape)} is not (N, C, h, w)",
            hint="choose a convolutional backbone; those that keep channels last, such as Swin, do not fit",
        )
    rows, stride, start = side, 1, 0.0
    while rows > maps.shape[-2]:
        if rows not in downsamplings:
            raise InputError(
                f"backbone: level {level}: {rows} rows become fewer in something that is no convolution or pooling",
                hint="choose a convolutional backbone",
            )
        layer = downsamplings[rows]
        start += (layer.low + layer.high) / 2 * stride
        stride *= layer.stride
        rows = -(-rows // layer.stride)
    return Grid(stride, start)
