"""What tilers read: views of an image for test-time augmentation, blocks of it, and the maps of tiles until used.

A view is the image itself, flipped, larger or smaller, and is read window by window:

    view = TTAView(height=480, width=640, scale=0.75, flip=True)
    view.read(raster, 0, 0, 64, 64)                      # (1, 3, 64, 64): pixels of the view, RGB in 0..1
    view.column_grid(100, 200)                           # where columns 100 to 199 of the image lie in the view

Pixel p of the image has its center at p + 0.5, so at scale s it lies at (p + 0.5) s - 0.5. A window of a scaled view
is computed from the pixels that it needs and equals the same window of the whole view scaled at once.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated.data.raster.reader import Raster
from dilated.errors import InputError
from dilated.input_config import InputConfig
from dilated.models.sampling import Grid
from dilated.tensors import to_tensor

TileKey = tuple[int, int, int]
"""The index of a view, then row and column of a tile."""


def require_views(tile: int | None, scales: Sequence[float]) -> None:
    """Check the pixels of a tile and the sizes in which images are predicted.

    Raises:
        InputError: a tile or a scale that is not positive, or a scale above 8.
    """
    if tile is not None and (not isinstance(tile, int) or tile < 1):
        raise InputError(f"tile: {tile!r} is not a positive number of pixels", hint="give a number such as 1024")
    if not scales or not all(math.isfinite(scale) and 0 < scale <= 8 for scale in scales):
        raise InputError(
            f"scales: {list(scales)} must be numbers above 0 and at most 8", hint="give scales such as 0.75 1 1.25"
        )


@dataclass(frozen=True)
class Block:
    """A rectangle of the image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width


def assemble_window(
    window: Block, tile: tuple[int, int], load: Callable[[int, int], NDArray[Any]], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Put a window together from the tiles of a regular grid that it touches: (height, width).

    Args:
        tile: height and width of a tile.
        load: returns the tile of a row and a column of the grid; at the image's lower and right edge it may be smaller.

    Example:
        >>> assemble_window(Block(1, 1, 2, 3), (2, 2), lambda i, j: np.full((2, 2), 10 * i + j), np.dtype(np.uint8))
        array([[ 0,  1,  1],
               [10, 11, 11]], dtype=uint8)
    """
    values = np.empty((window.height, window.width), dtype)
    for i in range(window.top // tile[0], (window.bottom - 1) // tile[0] + 1):
        for j in range(window.left // tile[1], (window.right - 1) // tile[1] + 1):
            y, x = i * tile[0], j * tile[1]
            top, bottom = max(window.top, y), min(window.bottom, y + tile[0])
            left, right = max(window.left, x), min(window.right, x + tile[1])
            part = load(i, j)[top - y : bottom - y, left - x : right - x]
            values[top - window.top : bottom - window.top, left - window.left : right - window.left] = part
    return values


@dataclass(frozen=True)
class TTAView:
    """One view of an image of `height` x `width` pixels; the view has `scaled_height` x `scaled_width`."""

    height: int
    width: int
    scale: float = 1.0
    flip: bool = False

    @property
    def scaled_height(self) -> int:
        return _scale_size(self.height, self.scale)

    @property
    def scaled_width(self) -> int:
        return _scale_size(self.width, self.scale)

    @property
    def size(self) -> tuple[int, int]:
        return self.scaled_height, self.scaled_width

    def read(
        self, raster: Raster, top: int, left: int, height: int, width: int, config: InputConfig | None = None
    ) -> Tensor:
        """Read a window of the view: (1, n, height, width) float32, RGB in 0..1 or scaled as `config` says."""
        if self.flip:
            left = self.scaled_width - left - width
        if self.scale == 1:
            image = to_tensor(raster.read(top, left, height, width), None, config)
        else:
            vertical = _resample_weights(top, height, self.height, self.scaled_height)
            horizontal = _resample_weights(left, width, self.width, self.scaled_width)
            size = vertical.weights.shape[1], horizontal.weights.shape[1]
            window = raster.read(vertical.first_sample, horizontal.first_sample, *size)
            pixels = to_tensor(window, None, config)
            image = vertical.weights @ (pixels @ horizontal.weights.T)
        return image.flip(-1) if self.flip else image

    def row_grid(self, top: int) -> Grid:
        """Return where rows of the image from `top` on lie in the view."""
        return _view_grid(top, self.scaled_height / self.height)

    def column_grid(self, left: int, right: int) -> tuple[Grid, bool]:
        """Return where columns `left` to `right - 1` lie in the view, and whether they run from right to left there."""
        if self.flip:
            left = self.width - right
        return _view_grid(left, self.scaled_width / self.width), self.flip


def _scale_size(side: int, scale: float) -> int:
    """Return a side of a scaled image, in pixels."""
    return side if scale == 1 else max(1, round(side * scale))


def _view_grid(first_sample: int, scale: float) -> Grid:
    return Grid(1, float(first_sample)) if scale == 1 else Grid(scale, (first_sample + 0.5) * scale - 0.5)


@dataclass(frozen=True)
class _ResampleWeights:
    """A window of a resampled axis: `weights` (size, n) of the n samples from `first_sample` on."""

    first_sample: int
    weights: Tensor


def _resample_weights(start: int, size: int, source: int, target: int) -> _ResampleWeights:
    """Return the weights that interpolate `source` samples linearly to `target`, for `size` of them from `start` on.

    Where the result is coarser, each sample averages all that it stands for (a triangle as wide as two of them).

    Example:
        >>> _resample_weights(0, 2, 4, 2).weights
        tensor([[0.4286, 0.4286, 0.1429, 0.0000],
                [0.0000, 0.1429, 0.4286, 0.4286]])
    """
    ratio = source / target
    radius = max(ratio, 1.0)
    centers = (torch.arange(start, start + size, dtype=torch.float64) + 0.5) * ratio - 0.5
    first_sample = max(0, math.floor(float(centers[0]) - radius))
    last_sample = min(source - 1, math.ceil(float(centers[-1]) + radius))
    samples = torch.arange(first_sample, last_sample + 1, dtype=torch.float64)
    weights = (1 - (centers[:, None] - samples[None, :]).abs() / radius).clamp(min=0)
    return _ResampleWeights(first_sample, (weights / weights.sum(1, keepdim=True)).float())


class TileCache:
    """The maps of tiles, until everything that reads them is done: in memory, or in files.

    with TileCache(folder) as cache:                     # or TileCache(): in memory
        cache[(0, 0, 3)] = [features, fine]              # (F, h, w) each
        cache.read_window((0, 0, 3), 0, slice(2, 9), slice(0, 4))
        cache.retain(lambda key: key[1] > 0)             # forget the others

    Args:
        folder: where they are written, one file per map; it is emptied at the start and removed at the end. In memory
            if not given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._in_memory: dict[TileKey, list[Tensor]] = {}
        self._on_disk: dict[TileKey, list[Path]] = {}

    def __enter__(self) -> Self:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._in_memory.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __contains__(self, key: TileKey) -> bool:
        return key in self._in_memory or key in self._on_disk

    def __setitem__(self, key: TileKey, maps: Sequence[Tensor]) -> None:
        if self.folder is None:
            self._in_memory[key] = list(maps)
            return
        stem = "-".join(map(str, key))
        paths = [self.folder / f"{stem}.{i}.npy" for i in range(len(maps))]
        for path, feature_map in zip(paths, maps, strict=True):
            np.save(path, feature_map.numpy())
        self._on_disk[key] = paths

    def read_window(self, key: TileKey, index: int, rows: slice, columns: slice) -> Tensor:
        """Read a part of a map: (F, rows, columns)."""
        if self.folder is None:
            return self._in_memory[key][index][:, rows, columns]
        # Mapped for a moment, so that only the window is read; a copy, so that no page stays in memory.
        return torch.tensor(np.load(self._on_disk[key][index], mmap_mode="r")[:, rows, columns])

    def retain(self, is_needed: Callable[[TileKey], bool]) -> None:
        """Forget all tiles but those that are still needed."""
        for key in [key for key in self._in_memory if not is_needed(key)]:
            del self._in_memory[key]
        for key in [key for key in self._on_disk if not is_needed(key)]:
            for path in self._on_disk.pop(key):
                path.unlink()


@dataclass(frozen=True)
class TileSource:
    """One view of an image, and the cache that the maps of its tiles go to under the view's index."""

    raster: Raster
    view: TTAView
    index: int
    cache: TileCache
    config: InputConfig | None = None
    """How values are scaled; None for 8-bit RGB."""
