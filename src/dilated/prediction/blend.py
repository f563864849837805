"""Overlapping tiles whose probabilities are blended, for networks with layers that see the whole image.

No tile of such a network can be exact. Every pixel is in several tiles, each of which counts more the nearer the pixel
is to its middle: there is no seam, but labels depend on the tile, so this is done only on request. Networks that can be
tiled exactly use `dilated.prediction.tiling.ExactTiler`.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from dilated.models.sampling import PIXEL_GRID, AxisGrids, source_window, upsample
from dilated.prediction.tiling import Block, NetworkRunner, TileKey, TileSource


class BlendedTiler:
    """Probabilities of one view of an image, from tiles that overlap by half.

    Args:
        tile: pixels along a side of a tile, a multiple of the network's alignment.
    """

    def __init__(self, network: NetworkRunner, source: TileSource, tile: int) -> None:
        self.network, self.source, self.tile = network, source, tile
        self.view, self.cache = source.view, source.cache
        self.row_starts = _tile_starts(self.view.scaled_height, tile)
        self.column_starts = _tile_starts(self.view.scaled_width, tile)

    def keys(self, block: Block) -> list[TileKey]:
        """Return the tiles that the labels of a block depend on."""
        tiles_per_axis = (
            [i for i, start in enumerate(axis_starts) if start < span.stop and start + self.tile > span.start]
            for axis_starts, span in zip((self.row_starts, self.column_starts), self._source_spans(block), strict=True)
        )
        return [(self.source.index, row, column) for row, column in itertools.product(*tiles_per_axis)]

    def predict(self, block: Block) -> tuple[Tensor, AxisGrids]:
        """Return probabilities at the view's pixels around a block, (1, C, h, w), and where they lie."""
        rows, columns = self._source_spans(block)
        total = torch.zeros(len(self.network.segmenter.classes), rows.stop - rows.start, columns.stop - columns.start)
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
        height, width = min(self.tile, self.view.scaled_height - top), min(self.tile, self.view.scaled_width - left)
        image = self.view.read(self.source.raster, top, left, height, width).to(self.network.device)
        with self.network.autocast():
            logits = self.network.segmenter(image)
        return logits[0].float().softmax(0).cpu()

    def _source_spans(self, block: Block) -> tuple[slice, slice]:
        """Return the view's rows and columns from which the pixels of a block are interpolated."""
        column_grid, _ = self.view.column_grid(block.left, block.right)
        return (
            source_window(PIXEL_GRID, self.view.row_grid(block.top), block.height, self.view.scaled_height),
            source_window(PIXEL_GRID, column_grid, block.width, self.view.scaled_width),
        )

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
