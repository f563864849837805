"""Images of any size, tile by tile, with exactly the labels of the whole image.

    tilers = [ExactTiler(network, TileSource(raster, view, 0, cache), tile=512, margin=96)]
    for block, strips in iter_logits(tilers, blocks, cache):
        for row, logits in strips:                       # (C, rows, block.width)
            ...

The front end reads each tile with as many real pixels around it as it can see (measured by `dilated.fields.measured`),
so its maps of the tile are those of the whole image; at the image's own border it sees that border. The maps are put
side by side, and the context module reads them across all seams: block by block, each with as many values around it as
the module can see. So memory is bounded by the tile, and no label depends on it.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from dilated.data.raster.reader import Raster
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import AxisGrids, source_window, split_axes
from dilated.prediction.tta import TTAView

_STRIP_ROWS = 64
"""Rows of pixels for which logits of all classes are held at once."""

TileKey = tuple[int, int, int]
"""The index of a view, then row and column of a tile."""


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


@dataclass(frozen=True)
class TilePlan:
    """What exact tiles of a network need.

    Args:
        margin: how many pixels beyond a tile the front end reads.
        values_per_pixel: values per pixel of the largest of the front end's maps and of the logits.
    """

    margin: int
    values_per_pixel: float


class NetworkRunner(Protocol):
    """A network on a device, and the precision that it runs in: a `Predictor`, as tilers see it."""

    segmenter: BaseSegmenter
    device: torch.device

    def autocast(self) -> torch.autocast: ...


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


class Tiler(Protocol):
    """Predicts one view of an image, block by block."""

    view: TTAView

    def keys(self, block: Block) -> list[TileKey]:
        """Return the tiles that the labels of a block depend on."""

    def predict(self, block: Block) -> tuple[Tensor, AxisGrids]:
        """Return the values that the pixels of a block are interpolated from, (1, C, h, w), and where they lie."""

    def upsample(self, values: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """Interpolate such values to logits, (1, C, *size)."""


_Strips = Iterator[tuple[int, Tensor]]


@torch.inference_mode()
def iter_logits(tilers: Sequence[Tiler], blocks: Sequence[Block], cache: TileCache) -> Iterator[tuple[Block, _Strips]]:
    """Yield the logits of each block, as strips of rows: (first row, (C, rows, block.width)).

    Several views are averaged as probabilities, of which the logarithms are given; those of one view stay as they are.

    Args:
        tilers: one for each view.
        cache: which the tilers fill; tiles that no later block reads are dropped.
    """
    last_use: dict[TileKey, int] = {}  # each tile -> the last block that reads it
    for i, block in enumerate(blocks):
        last_use.update((key, i) for tiler in tilers for key in tiler.keys(block))
    for i, block in enumerate(blocks):
        yield block, _iter_strips(tilers, block)
        cache.retain(lambda key, done=i: last_use[key] > done)  # type: ignore[misc]


@torch.inference_mode()
def _iter_strips(tilers: Sequence[Tiler], block: Block) -> _Strips:
    located_logits = [(tiler, tiler.predict(block)) for tiler in tilers]
    for row in range(0, block.height, _STRIP_ROWS):
        rows = min(_STRIP_ROWS, block.height - row)
        view_logits = [_upsample_strip(tiler, values, block, row, rows) for tiler, values in located_logits]
        if len(view_logits) == 1:
            yield row, view_logits[0]
        else:
            yield row, torch.stack([logits.softmax(0) for logits in view_logits]).mean(0).log()


def _upsample_strip(
    tiler: Tiler, located_values: tuple[Tensor, AxisGrids], block: Block, row: int, rows: int
) -> Tensor:
    """Interpolate rows of a block from the values around it: (C, rows, block.width)."""
    values, positions = located_values
    row_grid, column_grid = split_axes(positions)
    target_rows = tiler.view.row_grid(block.top + row)
    target_columns, flipped = tiler.view.column_grid(block.left, block.right)
    needed = source_window(row_grid, target_rows, rows, values.shape[-2])
    source = row_grid.window(needed.start), column_grid
    upsampled = tiler.upsample(values[..., needed, :], source, (target_rows, target_columns), (rows, block.width))
    logits = upsampled[0].float()
    return logits.flip(-1) if flipped else logits


class ExactTiler:
    """Logits of one view that equal those of the whole image; the front end's maps are computed when first needed.

    Args:
        tile: pixels along a side of a tile, a multiple of the alignment.
        margin: pixels around a tile that are read with it.
    """

    def __init__(self, network: NetworkRunner, source: TileSource, tile: int, margin: int) -> None:
        self.network, self.source, self.tile, self.margin = network, source, tile, margin
        self.view, self.cache, self.segmenter = source.view, source.cache, network.segmenter
        self.grids = self.segmenter.feature_grids

    def keys(self, block: Block) -> list[TileKey]:
        """Return the tiles that the labels of a block depend on."""
        keys: set[TileKey] = set()
        for i in range(len(self.grids)):
            rows, columns = self._input_window(block, i)
            tile_size = self.tile // int(self.grids[i].stride)  # values along a side of a tile
            tile_rows = range(rows.start // tile_size, (rows.stop - 1) // tile_size + 1)
            tile_columns = range(columns.start // tile_size, (columns.stop - 1) // tile_size + 1)
            keys.update((self.source.index, row, column) for row, column in itertools.product(tile_rows, tile_columns))
        return sorted(keys)

    def predict(self, block: Block) -> tuple[Tensor, AxisGrids]:
        """Return the finest logits that the pixels of a block are interpolated from, and where they lie in the view."""
        for key in self.keys(block):
            if key not in self.cache:
                self.cache[key] = self._compute_tile(key[1], key[2])
        windows, positions = [], []
        for i, grid in enumerate(self.grids):
            rows, columns = self._input_window(block, i)
            windows.append(self._gather(i, rows, columns)[None].to(self.network.device))
            positions.append((grid.window(rows.start), grid.window(columns.start)))
        with self.network.autocast():
            return self.segmenter.decode(windows, positions)

    def upsample(self, values: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """Interpolate logits as the network does."""
        return self.segmenter.upsample(values, source, target, size)

    def _input_window(self, block: Block, index: int) -> tuple[slice, slice]:
        """Return the values of a map that `decode` reads for a block."""
        grid, coarse = self.grids[index], self.grids[0]
        halo = self.segmenter.halo if index == 0 else 3 * int(coarse.stride / grid.stride)
        height, width = (self._map_size(side, index) for side in (self.view.scaled_height, self.view.scaled_width))
        column_grid, _ = self.view.column_grid(block.left, block.right)
        return (
            source_window(grid, self.view.row_grid(block.top), block.height, height, halo),
            source_window(grid, column_grid, block.width, width, halo),
        )

    def _map_size(self, side: int, index: int) -> int:
        """Return how many values a map has along a side of so many pixels."""
        coarse = int(self.grids[0].stride)
        return -(-side // coarse) * (coarse // int(self.grids[index].stride))

    def _compute_tile(self, i: int, j: int) -> list[Tensor]:
        """Compute the maps of a tile, without its margin: (F, h, w) each."""
        top, bottom, top_margin = self._read_span(i, self.view.scaled_height)
        left, right, left_margin = self._read_span(j, self.view.scaled_width)
        image = self.view.read(self.source.raster, top, left, bottom - top, right - left).to(self.network.device)
        with self.network.autocast():
            maps = self.segmenter.extract_features(image)
        cropped = []
        for feature_map, grid in zip(maps, self.grids, strict=True):
            stride = int(grid.stride)
            row, column, tile_size = top_margin // stride, left_margin // stride, self.tile // stride
            window = feature_map[0, :, row : row + tile_size, column : column + tile_size]
            cropped.append(window.float().cpu().contiguous())
        return cropped

    def _read_span(self, index: int, side: int) -> tuple[int, int, int]:
        """Return what a tile reads along an axis: from, to, and how many of these pixels are the margin before it."""
        tile_start, alignment = index * self.tile, self.segmenter.alignment
        # A last tile thinner than the alignment is padded, by zeros or by reflection, which reaches back farther.
        extension = alignment if tile_start + alignment > side else 0
        start = max(0, tile_start - self.margin - extension)
        return start, min(side, tile_start + self.tile + self.margin), tile_start - start

    def _gather(self, index: int, rows: slice, columns: slice) -> Tensor:
        """Put a window of a map together from all tiles that it touches: (F, rows, columns)."""
        tile_size = self.tile // int(self.grids[index].stride)
        tile_rows = []
        for i in range(rows.start // tile_size, (rows.stop - 1) // tile_size + 1):
            row_tiles = []
            for j in range(columns.start // tile_size, (columns.stop - 1) // tile_size + 1):
                window = (
                    _window_in_tile(rows, i * tile_size, tile_size),
                    _window_in_tile(columns, j * tile_size, tile_size),
                )
                row_tiles.append(self.cache.read_window((self.source.index, i, j), index, *window))
            tile_rows.append(torch.cat(row_tiles, -1))
        return torch.cat(tile_rows, -2)


def _window_in_tile(window: slice, tile_start: int, size: int) -> slice:
    """Return the part of a window that lies in a tile, counted from the tile's first value."""
    return slice(max(window.start - tile_start, 0), min(window.stop - tile_start, size))
