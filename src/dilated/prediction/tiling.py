"""Images of any size, tile by tile, with exactly the labels of the whole image.

    tilers = [ExactTiler(network, TileSource(raster, view, 0, cache), tile=512, margin=96)]
    for block, strips in iter_logits(tilers, blocks, cache):
        for row, logits in strips:                       # (C, rows, block.width)
            ...

The front end reads each tile with as many real pixels around it as it can see (measured by `dilated.fields.measured`),
so its maps of the tile are those of the whole image; at the image's own border it sees that border. The maps are put
side by side, and the context module reads them across all seams: block by block, each with as many values around it as
the module can see. So memory is bounded by the tile, and labels are equal except
where the two greatest logits differ by less than 1e-5: torch sums a convolution in another order for another shape.

A network with layers that see the whole image has no such tiles. `BlendedTiler`, which is used on request only, blends
the probabilities of tiles that overlap: every pixel is in several tiles, each of which counts more the nearer the pixel
is to its middle. There is no seam, but labels depend on the tile.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dilated.fields.measured import measure_margin, windows_match_whole_image
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, AxisGrids, Grid, source_window, split_axes, upsample
from dilated.prediction.views import Block, TileCache, TileKey, TileSource

_STRIP_ROWS = 64
"""Rows of a strip; of more than 255 classes so many fewer as there are more classes."""
"""Rows of pixels for which logits of all classes are held at once."""


@dataclass(frozen=True)
class TilePlan:
    """What exact tiles of a network need.

    Args:
        margin: how many pixels beyond a tile the front end reads.
        values_per_pixel: values per pixel of the largest of the front end's maps and of the logits.
    """

    margin: int
    values_per_pixel: float


def measure_tile_plan(segmenter: BaseSegmenter, device: torch.device) -> TilePlan | None:
    """Measure on a network what exact tiles of it need; None if it cannot be tiled exactly."""
    stride, alignment = int(max(grid.stride for grid in segmenter.feature_grids)), segmenter.alignment

    def extract_features(images: Tensor) -> list[Tensor]:
        return segmenter.extract_features(segmenter.to_bands(images))

    if segmenter.runs_in_torch:
        margin = measure_margin(extract_features, stride, alignment, device)
        if margin is None or not windows_match_whole_image(extract_features, margin, alignment, device):
            return None
    elif (margin := segmenter.tile_margin) is None:
        return None
    with torch.inference_mode():
        maps = segmenter.extract_features(torch.zeros(1, segmenter.num_bands, alignment, alignment, device=device))
        logits, _ = segmenter.decode(maps, segmenter.feature_grids)
    return TilePlan(margin, max(output[0].numel() for output in [*maps, logits]) / alignment**2)


class NetworkRunner(Protocol):
    """A network on a device, and the precision that it runs in: a `Predictor`, as tilers see it."""

    device: torch.device

    @property
    def network(self) -> BaseSegmenter: ...

    def autocast(self) -> torch.autocast: ...


class Tiler(ABC):
    """Predicts one view of an image, block by block.

    Args:
        tile: pixels along a side of a tile, a multiple of the network's alignment.
    """

    def __init__(self, network: NetworkRunner, source: TileSource, tile: int) -> None:
        self.network, self.source, self.tile = network, source, tile
        self.view, self.cache, self.segmenter = source.view, source.cache, network.network

    @abstractmethod
    def keys(self, block: Block) -> list[TileKey]:
        """Return the tiles that the labels of a block depend on."""

    @abstractmethod
    def predict(self, block: Block) -> tuple[Tensor, AxisGrids]:
        """Return the values that the pixels of a block are interpolated from, (1, C, h, w), and where they lie."""

    @abstractmethod
    def upsample(self, values: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """Interpolate such values to logits, (1, C, *size)."""

    def _read(self, top: int, left: int, bottom: int, right: int) -> Tensor:
        size = bottom - top, right - left
        image = self.view.read(self.source.raster, top, left, *size, self.source.config)
        return image.to(self.network.device)

    def _windows(self, grid: Grid, block: Block, sizes: tuple[int, int], halo: int = 0) -> tuple[slice, slice]:
        """Return the rows and columns of a map of these sizes from which the pixels of a block are interpolated."""
        column_grid, _ = self.view.column_grid(block.left, block.right)
        return (
            source_window(grid, self.view.row_grid(block.top), block.height, sizes[0], halo),
            source_window(grid, column_grid, block.width, sizes[1], halo),
        )


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
    strip_rows = max(1, _STRIP_ROWS * 255 // max(255, len(tilers[0].segmenter.classes)))
    for row in range(0, block.height, strip_rows):
        rows = min(strip_rows, block.height - row)
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


class ExactTiler(Tiler):
    """Logits of one view that equal those of the whole image; the front end's maps are computed when first needed.

    Args:
        margin: pixels around a tile that are read with it.
    """

    def __init__(self, network: NetworkRunner, source: TileSource, tile: int, margin: int) -> None:
        super().__init__(network, source, tile)
        self.margin, self.grids = margin, self.segmenter.feature_grids

    def keys(self, block: Block) -> list[TileKey]:
        """Return the tiles that the labels of a block depend on."""
        keys: set[TileKey] = set()
        for i in range(len(self.grids)):
            rows, columns = self._input_window(block, i)
            tiles = itertools.product(*self._touched_tiles(i, rows, columns))
            keys.update((self.source.index, row, column) for row, column in tiles)
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
        # A map has a whole number of values for each of the coarsest.
        height, width = (-(-side // int(coarse.stride)) * int(coarse.stride / grid.stride) for side in self.view.size)
        return self._windows(grid, block, (height, width), halo)

    def _compute_tile(self, i: int, j: int) -> list[Tensor]:
        """Compute the maps of a tile, without its margin: (F, h, w) each."""
        top, bottom, top_margin = self._read_span(i, self.view.scaled_height)
        left, right, left_margin = self._read_span(j, self.view.scaled_width)
        with self.network.autocast():
            maps = self.segmenter.extract_features(self._read(top, left, bottom, right))
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
        size = self.tile // int(self.grids[index].stride)
        touched_rows, touched_columns = self._touched_tiles(index, rows, columns)

        def read(i: int, j: int) -> Tensor:
            window = _window_in_tile(rows, i * size, size), _window_in_tile(columns, j * size, size)
            return self.cache.read_window((self.source.index, i, j), index, *window)

        return torch.cat([torch.cat([read(i, j) for j in touched_columns], -1) for i in touched_rows], -2)

    def _touched_tiles(self, index: int, rows: slice, columns: slice) -> tuple[range, range]:
        """Return the rows and columns of tiles that a window of a map touches."""
        size = self.tile // int(self.grids[index].stride)  # values along a side of a tile
        return (
            range(rows.start // size, (rows.stop - 1) // size + 1),
            range(columns.start // size, (columns.stop - 1) // size + 1),
        )


def _window_in_tile(window: slice, tile_start: int, size: int) -> slice:
    """Return the part of a window that lies in a tile, counted from the tile's first value."""
    return slice(max(window.start - tile_start, 0), min(window.stop - tile_start, size))


class BlendedTiler(Tiler):
    """Probabilities of one view of an image, from tiles that overlap by half."""

    def __init__(self, network: NetworkRunner, source: TileSource, tile: int) -> None:
        super().__init__(network, source, tile)
        self.row_starts = _tile_starts(self.view.scaled_height, tile)
        self.column_starts = _tile_starts(self.view.scaled_width, tile)

    def keys(self, block: Block) -> list[TileKey]:
        """Return the tiles that the labels of a block depend on."""
        tiles_per_axis = (
            [i for i, start in enumerate(axis_starts) if start < span.stop and start + self.tile > span.start]
            for axis_starts, span in zip(
                (self.row_starts, self.column_starts), self._windows(PIXEL_GRID, block, self.view.size), strict=True
            )
        )
        return [(self.source.index, row, column) for row, column in itertools.product(*tiles_per_axis)]

    def predict(self, block: Block) -> tuple[Tensor, AxisGrids]:
        """Return probabilities at the view's pixels around a block, (1, C, h, w), and where they lie."""
        rows, columns = self._windows(PIXEL_GRID, block, self.view.size)
        total = torch.zeros(len(self.segmenter.classes), rows.stop - rows.start, columns.stop - columns.start)
        weights = torch.zeros(total.shape[1:])
        for key in self.keys(block):
            top, left = self.row_starts[key[1]], self.column_starts[key[2]]
            if key not in self.cache:
                self.cache[key] = [self._tile_probabilities(top, left)]
            (from_rows, to_rows), (from_columns, to_columns) = self._overlap(top, rows), self._overlap(left, columns)
            weight = torch.outer(self._blend_weights(from_rows), self._blend_weights(from_columns))
            part = self.cache.read_window(key, 0, from_rows, from_columns)
            total[:, to_rows, to_columns] += part * weight
            weights[to_rows, to_columns] += weight
        positions = PIXEL_GRID.window(rows.start), PIXEL_GRID.window(columns.start)
        return (total / weights)[None].to(self.network.device), positions

    def upsample(self, values: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """Interpolate probabilities and return their logarithms."""
        return upsample(values, source, target, size).clamp(min=torch.finfo(values.dtype).tiny).log()

    def _tile_probabilities(self, top: int, left: int) -> Tensor:
        """Return the probabilities of a tile by itself: (C, h, w)."""
        bottom, right = (min(start + self.tile, end) for start, end in zip((top, left), self.view.size, strict=True))
        with self.network.autocast():
            logits = self.segmenter(self._read(top, left, bottom, right))
        return logits[0].float().softmax(0).cpu()

    def _overlap(self, start: int, span: slice) -> tuple[slice, slice]:
        """Return what a tile and a span share along an axis: counted in the tile, and counted in the span."""
        begin, end = max(start, span.start), min(start + self.tile, span.stop)
        return slice(begin - start, end - start), slice(begin - span.start, end - span.start)

    def _blend_weights(self, positions: slice) -> Tensor:
        """Return how much positions of a tile count: less towards its ends, but always more than nothing."""
        position = torch.arange(positions.start, positions.stop) + 0.5
        return torch.minimum(position, self.tile - position)


def _tile_starts(side: int, tile: int) -> list[int]:
    """Return where tiles begin that cover a side and overlap by half at least.

    Example:
        >>> _tile_starts(100, 40), _tile_starts(30, 40)
        ([0, 20, 40, 60], [0])
    """
    return [*range(0, side - tile, max(tile // 2, 1)), max(side - tile, 0)]
