"""Where a logit sits in the image, and the up-sampling that puts it there.

Logit k along an axis is centred on pixel `start + stride * k`. Networks differ in `start`: symmetric padding gives 0,
TensorFlow's one-sided "same" padding gives stride - 1, patchify stems give (stride - 1) / 2, the only case for which
the usual `interpolate(align_corners=False)` is right. A wrong convention shifts every label by some pixels, and by a
different number once the stride changes. So `start` is measured on the network, and `upsample` honours it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Grid:
    """Sample k sits at pixel `start + stride * k`, along either axis."""

    stride: float
    start: float

    def window(self, first_sample: int) -> Grid:
        """The grid of a window that begins with sample `first`."""
        return Grid(self.stride, self.start + self.stride * first_sample)


AxisGrids = Grid | tuple[Grid, Grid]
"""One grid along both axes, or one for the rows and one for the columns, as windows have."""

PIXEL_GRID = Grid(1, 0.0)


def split_axes(grid: AxisGrids) -> tuple[Grid, Grid]:
    """The grids of rows and of columns."""
    return (grid, grid) if isinstance(grid, Grid) else grid


def upsample(feature_maps: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation from one grid to another; beyond the outermost samples, the nearest one.

    Exact for any stride, start and size, and local: a value depends on four samples at most.

    Args:
        maps: (N, C, h, w) on `input_layout`.
        size: (H, W), samples of `label_path`.

    Returns:
        (N, C, H, W).

    Example:
        >>> x = torch.tensor([0.0, 8.0]).view(1, 1, 1, 2)
        >>> upsample(x, Grid(4, 0.0), PIXEL_GRID, (1, 6)).flatten().tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 8.0]
    """
    (source_rows, source_columns), (target_rows, target_columns) = split_axes(source), split_axes(target)
    return _resample_axis(
        _resample_axis(feature_maps, -1, source_columns, target_columns, size[1]), -2, source_rows, target_rows, size[0]
    )


def _resample_axis(feature_maps: Tensor, axis: int, source: Grid, target: Grid, size: int) -> Tensor:
    """Interpolation along one of the last two axes."""
    samples = feature_maps.shape[axis]
    shift = _integer_shift(samples, source, target, size)
    if shift is not None:
        return feature_maps.narrow(axis, shift, size)
    position = _source_positions(samples, source, target, size, feature_maps.device)
    if (
        feature_maps.requires_grad and torch.is_grad_enabled()
    ):  # the gradient of a product is deterministic on every device
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


def _source_positions(samples: int, source: Grid, target: Grid, size: int, device: torch.device) -> Tensor:
    """Where each target lies between the samples: (size,) float64, in samples."""
    device = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    pixels = target.start + target.stride * torch.arange(size, device=device, dtype=torch.float64)
    return ((pixels - source.start) / source.stride).clamp(0, samples - 1)


def _integer_shift(samples: int, source: Grid, target: Grid, size: int) -> int | None:
    """With which sample `median_size` targets begin where each is a sample of the source; None where one is not."""
    shift = (target.start - source.start) / source.stride
    is_aligned = source.stride == target.stride and shift == int(shift) and 0 <= shift <= samples - size
    return int(shift) if is_aligned else None


def source_window(source: Grid, target: Grid, size: int, samples: int, halo: int = 1) -> slice:
    """The samples of a source, of which there are so many, around `median_size` places of a target along one axis.

    Example:
        >>> source_window(Grid(8, 0.0), Grid(1, 20.0), 10, samples=100)
        slice(1, 6, None)
    """
    first_sample = math.floor((target.start - source.start) / source.stride) - halo
    last_sample = math.ceil((target.start + target.stride * (size - 1) - source.start) / source.stride) + halo
    first_sample = min(max(first_sample, 0), samples - 1)
    return slice(first_sample, min(max(last_sample, first_sample), samples - 1) + 1)


def measure_grids(backbone: nn.Module, levels: int) -> list[Grid]:
    """The grid of each level of a backbone that returns a list of feature maps, found by running it once.

    Each layer that strides moves sample 0 by its kernel's centre less its left padding; layers that run side by side
    (a shortcut and its branch) must agree.

    Raises:
        ValueError: layers side by side disagree, or the resolution falls at something that is no convolution or
            pooling; the message names the layer.
    """
    downsamplings: dict[int, tuple[int, float, str]] = {}  # rows before the layer -> its stride, its move, its name
    handles = []
    side = 256

    def record(name: str):  # type: ignore[no-untyped-def]
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            stride, shift = _stride_and_shift(layer, inputs[0].shape[-2])
            if stride == 1 and shift:
                raise ValueError(
                    f"{name}: found a layer of stride 1 that moves the samples by {shift}; expected layers that move "
                    "them only where they stride. Choose a greater output stride or another backbone."
                )
            if stride == 1:
                return
            rows = inputs[0].shape[-2]
            previous = downsamplings.setdefault(rows, (stride, shift, name))
            if previous[:2] != (stride, shift):
                raise ValueError(
                    f"{name} and {previous[2]} run side by side but sample differently: strides {stride} and {previous[0]}, "
                    f"centres {shift} and {previous[1]}; expected the same. Choose another backbone."
                )

        return hook

    for name, layer in backbone.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            handles.append(layer.register_forward_hook(record(name)))
    mode = backbone.training
    try:
        with torch.no_grad():
            feature_maps = backbone.eval()(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"the backbone does not take an image of {side}x{side} ({error}); expected one that takes any size"
        ) from error
    finally:
        backbone.train(mode)
        for handle in handles:
            handle.remove()

    grids = []
    for level in range(levels):
        if feature_maps[level].shape[-2] != feature_maps[level].shape[-1]:  # of a square image
            raise ValueError(
                f"level {level}: found a map of {tuple(feature_maps[level].shape)}; expected (N, C, h, w). Backbones that keep "
                "channels last, such as Swin, do not fit; choose a convolutional one."
            )
        rows, stride, start = side, 1, 0.0
        while rows > feature_maps[level].shape[-2]:
            if rows not in downsamplings:
                raise ValueError(
                    f"level {level}: {rows} rows become fewer in something that is no convolution or pooling; "
                    "expected a convolutional backbone"
                )
            step, shift, _ = downsamplings[rows]
            start += shift * stride
            stride *= step
            rows = -(-rows // step)
        grids.append(Grid(stride, start))
    return grids


def _stride_and_shift(layer: nn.Module, rows: int) -> tuple[int, float]:
    kernel, stride, padding, dilation = (
        _first_axis(getattr(layer, key, 1)) for key in ("kernel_size", "stride", "padding", "dilation")
    )
    reach = (kernel - 1) * dilation
    if type(layer).__name__.endswith("Same"):  # timm's TensorFlow padding: what is needed, the smaller half first
        padding = max((-(-rows // stride) - 1) * stride + reach + 1 - rows, 0) // 2
    return stride, reach / 2 - padding


def _first_axis(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
