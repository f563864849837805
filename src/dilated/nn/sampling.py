"""Where a score sits in the picture, and the up-sampling that puts it there.

Score k along an axis is centred on pixel `start + stride * k`. Networks differ in `start`: symmetric padding gives 0,
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

    def window(self, first: int) -> Grid:
        """The grid of a window that begins with sample `first`."""
        return Grid(self.stride, self.start + self.stride * first)


Axes = Grid | tuple[Grid, Grid]
"""One grid along both axes, or one for the rows and one for the columns, as windows have."""

PIXELS = Grid(1, 0.0)


def axes(grid: Axes) -> tuple[Grid, Grid]:
    """The grids of rows and of columns."""
    return (grid, grid) if isinstance(grid, Grid) else grid


def upsample(maps: Tensor, source: Axes, target: Axes, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation from one grid to another; beyond the outermost samples, the nearest one.

    Exact for any stride, start and size, and local: a value depends on four samples at most.

    Args:
        maps: (N, C, h, w) on `source`.
        size: (H, W), samples of `target`.

    Returns:
        (N, C, H, W).

    Example:
        >>> x = torch.tensor([0.0, 8.0]).view(1, 1, 1, 2)
        >>> upsample(x, Grid(4, 0.0), PIXELS, (1, 6)).flatten().tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 8.0]
    """
    (above, beside), (down, across) = axes(source), axes(target)
    return _along(_along(maps, -1, beside, across, size[1]), -2, above, down, size[0])


def _along(maps: Tensor, axis: int, source: Grid, target: Grid, size: int) -> Tensor:
    """Interpolation along one of the last two axes."""
    samples = maps.shape[axis]
    shift = shifted(samples, source, target, size)
    if shift is not None:
        return maps.narrow(axis, shift, size)
    position = _positions(samples, source, target, size, maps.device)
    if maps.requires_grad and torch.is_grad_enabled():  # the gradient of a product is deterministic on every device
        grid = torch.arange(samples, device=maps.device, dtype=torch.float64)
        matrix = (1 - (position[:, None] - grid[None, :]).abs()).clamp(min=0).to(maps.dtype)  # (size, samples)
        return maps @ matrix.T if axis == -1 else matrix @ maps
    before = position.floor()
    share = (position - before).to(maps.dtype)
    first = before.long()
    second = (first + 1).clamp(max=samples - 1)
    share = share if axis == -1 else share[:, None]
    return torch.lerp(maps.index_select(axis, first), maps.index_select(axis, second), share)


def _positions(samples: int, source: Grid, target: Grid, size: int, device: torch.device) -> Tensor:
    """Where each target lies between the samples: (size,) float64, in samples."""
    places = target.start + target.stride * torch.arange(size, device=device, dtype=torch.float64)
    return ((places - source.start) / source.stride).clamp(0, samples - 1)


def shifted(samples: int, source: Grid, target: Grid, size: int) -> int | None:
    """With which sample `size` targets begin where each is a sample of the source; None where one is not."""
    shift = (target.start - source.start) / source.stride
    here = source.stride == target.stride and shift == int(shift) and 0 <= shift <= samples - size
    return int(shift) if here else None


def needed_for(source: Grid, target: Grid, size: int, samples: int, halo: int = 1) -> slice:
    """The samples of a source, of which there are so many, around `size` places of a target along one axis.

    Example:
        >>> needed_for(Grid(8, 0.0), Grid(1, 20.0), 10, samples=100)
        slice(1, 6, None)
    """
    first = math.floor((target.start - source.start) / source.stride) - halo
    last = math.ceil((target.start + target.stride * (size - 1) - source.start) / source.stride) + halo
    first = min(max(first, 0), samples - 1)
    return slice(first, min(max(last, first), samples - 1) + 1)


def measure(trunk: nn.Module, levels: int) -> list[Grid]:
    """The grid of each level of a trunk that returns a list of feature maps, found by running it once.

    Each layer that strides moves sample 0 by its kernel's centre less its left padding; layers that run side by side
    (a shortcut and its branch) must agree.

    Raises:
        ValueError: layers side by side disagree, or the resolution falls at something that is no convolution or
            pooling; the message names the layer.
    """
    moves: dict[int, tuple[int, float, str]] = {}  # rows before the layer -> its stride, its move, its name
    handles = []
    side = 256

    def record(name: str):  # type: ignore[no-untyped-def]
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            stride, move = _stride_and_move(layer, inputs[0].shape[-2])
            if stride == 1 and move:
                raise ValueError(
                    f"{name}: found a layer of stride 1 that moves the samples by {move}; expected layers that move "
                    "them only where they stride. Choose a greater output stride or another backbone."
                )
            if stride == 1:
                return
            rows = inputs[0].shape[-2]
            known = moves.setdefault(rows, (stride, move, name))
            if known[:2] != (stride, move):
                raise ValueError(
                    f"{name} and {known[2]} run side by side but sample differently: strides {stride} and {known[0]}, "
                    f"centres {move} and {known[1]}; expected the same. Choose another backbone."
                )

        return hook

    for name, layer in trunk.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            handles.append(layer.register_forward_hook(record(name)))
    mode = trunk.training
    try:
        with torch.no_grad():
            maps = trunk.eval()(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"the backbone does not take a picture of {side}x{side} ({error}); expected one that takes any size"
        ) from error
    finally:
        trunk.train(mode)
        for handle in handles:
            handle.remove()

    grids = []
    for level in range(levels):
        if maps[level].shape[-2] != maps[level].shape[-1]:  # of a square picture
            raise ValueError(
                f"level {level}: found a map of {tuple(maps[level].shape)}; expected (N, C, h, w). Backbones that keep "
                "channels last, such as Swin, do not fit; choose a convolutional one."
            )
        rows, stride, start = side, 1, 0.0
        while rows > maps[level].shape[-2]:
            if rows not in moves:
                raise ValueError(
                    f"level {level}: {rows} rows become fewer in something that is no convolution or pooling; "
                    "expected a convolutional backbone"
                )
            step, move, _ = moves[rows]
            start += move * stride
            stride *= step
            rows = -(-rows // step)
        grids.append(Grid(stride, start))
    return grids


def _stride_and_move(layer: nn.Module, rows: int) -> tuple[int, float]:
    kernel, stride, padding, dilation = (
        _first(getattr(layer, key, 1)) for key in ("kernel_size", "stride", "padding", "dilation")
    )
    reach = (kernel - 1) * dilation
    if type(layer).__name__.endswith("Same"):  # timm's TensorFlow padding: what is needed, the smaller half first
        padding = max((-(-rows // stride) - 1) * stride + reach + 1 - rows, 0) // 2
    return stride, reach / 2 - padding


def _first(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
