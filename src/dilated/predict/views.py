"""What a network is shown of a picture: itself, mirrored, larger or smaller; read window by window.

    view = View(height=480, width=640, scale=0.75, flip=True)
    view.read(raster, 0, 0, 64, 64)                      # (1, 3, 64, 64): pixels of the view, RGB in 0..1
    view.columns(100, 200)                               # where columns 100 to 199 of the picture lie in the view

Pixel p of the picture has its centre at p + 0.5, so at scale s it lies at (p + 0.5) s - 0.5. A window of a scaled view
is computed from the pixels that it needs and equals the same window of the whole view scaled at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dilated.data.images import Pixels
from dilated.nn.sampling import Grid

if TYPE_CHECKING:
    from dilated.data.raster import Raster


class Held:
    """A picture in memory, (H, W, 3) uint8, read like a raster."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        return self.pixels[top : top + height, left : left + width]


@dataclass(frozen=True)
class View:
    """One way of showing a picture of `height` x `width` pixels; those of the view itself are `rows` x `across`."""

    height: int
    width: int
    scale: float = 1.0
    flip: bool = False

    @property
    def rows(self) -> int:
        return scaled(self.height, self.scale)

    @property
    def across(self) -> int:
        return scaled(self.width, self.scale)

    def read(self, raster: Raster, top: int, left: int, height: int, width: int) -> Tensor:
        """A window of the view: (1, 3, height, width) float32, RGB in 0..1."""
        if self.flip:
            left = self.across - left - width
        if self.scale == 1:
            window = tensor(raster, top, left, height, width)
        else:
            down = taps(top, height, self.height, self.rows)
            along = taps(left, width, self.width, self.across)
            pixels = tensor(raster, down.first, along.first, down.weights.shape[1], along.weights.shape[1])
            window = down.weights @ (pixels @ along.weights.T)
        return window.flip(-1) if self.flip else window

    def grid_of_rows(self, top: int) -> Grid:
        """Where rows of the picture from `top` on lie in the view."""
        return _grid(top, self.rows / self.height)

    def columns(self, left: int, right: int) -> tuple[Grid, bool]:
        """Where columns `left` to `right - 1` lie in the view, and whether they come out from right to left."""
        if self.flip:
            left = self.width - right
        return _grid(left, self.across / self.width), self.flip


def scaled(side: int, scale: float) -> int:
    """A side of a scaled picture."""
    return side if scale == 1 else max(1, round(side * scale))


def _grid(first: int, scale: float) -> Grid:
    return Grid(1, float(first)) if scale == 1 else Grid(scale, (first + 0.5) * scale - 0.5)


def tensor(raster: Raster, top: int, left: int, height: int, width: int) -> Tensor:
    """A window of a picture as networks take it: (1, 3, height, width) float32, RGB in 0..1."""
    return torch.tensor(raster.read(top, left, height, width)).permute(2, 0, 1)[None].float() / 255


@dataclass(frozen=True)
class Taps:
    """A window of a resampled axis: `weights` (size, n) on the n samples from `first` on."""

    first: int
    weights: Tensor


def taps(start: int, size: int, source: int, target: int) -> Taps:
    """Linear interpolation of `source` samples to `target`, for `size` of the latter from `start` on.

    Where the result is coarser each sample averages all that it stands for (a triangle as wide as two of them).

    Example:
        >>> taps(0, 2, 4, 2).weights
        tensor([[0.4286, 0.4286, 0.1429, 0.0000],
                [0.0000, 0.1429, 0.4286, 0.4286]])
    """
    ratio = source / target
    radius = max(ratio, 1.0)
    centres = (torch.arange(start, start + size, dtype=torch.float64) + 0.5) * ratio - 0.5
    first = max(0, math.floor(float(centres[0]) - radius))
    last = min(source - 1, math.ceil(float(centres[-1]) + radius))
    samples = torch.arange(first, last + 1, dtype=torch.float64)
    weights = (1 - (centres[:, None] - samples[None, :]).abs() / radius).clamp(min=0)
    return Taps(first, (weights / weights.sum(1, keepdim=True)).float())
