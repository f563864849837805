"""Overlapping tiles blended: for networks that see the whole image, where no tile can say what the whole would.

Every pixel is seen by several tiles, each of which counts more the nearer the pixel is to its middle. There is no seam,
but labels depend on the tile, so this is only ever done when asked for. Where it can be exact, `tiles.Mosaic` is.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dilated.models.sampling import PIXEL_GRID, AxisGrids, source_window, upsample
from dilated.prediction.tile_cache import TileCache, TileKey
from dilated.prediction.tta import TTAView

if TYPE_CHECKING:
    from dilated.data.raster.reader import Raster
    from dilated.prediction.predictor import Predictor
    from dilated.prediction.tiling import Block


class BlendedTiler:
    """The probabilities of one view of an image, from tiles that overlap by half.

    Args:
        tile: pixels along a side of a tile, a multiple of the network's alignment.
        name: what the keys of its tiles in the store begin with.
    """

    def __init__(
        self, predictor: Predictor, raster: Raster, view: TTAView, tile: int, key_prefix: TileKey, cache: TileCache
    ) -> None:
        self.predictor, self.raster, self.view, self.tile = predictor, raster, view, tile
        self.key_prefix, self.cache = key_prefix, cache
        self.rows, self.columns = (tile_starts(side, tile) for side in (view.rows, view.across))

    def keys(self, block: Block) -> list[TileKey]:
        """The tiles that a block's labels depend on."""
        tiles_per_axis = (
            [i for i, start in enumerate(axis_starts) if start < span.stop and start + self.tile > span.start]
            for axis_starts, span in zip((self.rows, self.columns), self._source_spans(block), strict=True)
        )
        return [(*self.key_prefix, *position) for position in itertools.product(*tiles_per_axis)]

    def logits(self, block: Block) -> tuple[Tensor, AxisGrids]:
        """Probabilities at the view's pixels around a block, (1, C, h, w), and where they sit."""
        rows, columns = self._source_spans(block)
        total = torch.zeros(len(self.predictor.segmenter.classes), rows.stop - rows.start, columns.stop - columns.start)
        weights = torch.zeros(total.shape[1:])
        for key in self.keys(block):
            top, left = self.rows[key[-2]], self.columns[key[-1]]
            if key not in self.cache:
                self.cache[key] = [self._tile_probabilities(top, left)]
            (from_rows, to_rows), (from_columns, to_columns) = self._overlap(top, rows), self._overlap(left, columns)
            weight = torch.outer(self._blend_weights(from_rows), self._blend_weights(from_columns))
            part = self.cache.window(key, 0, from_rows, from_columns)
            total[:, to_rows, to_columns] += part * weight
            weights[to_rows, to_columns] += weight
        positions = PIXEL_GRID.window(rows.start), PIXEL_GRID.window(columns.start)
        return (total / weights)[None].to(self.predictor.device), positions

    def upsample(self, logits: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """Probabilities at other places, as logarithms."""
        return upsample(logits, source, target, size).clamp(min=torch.finfo(logits.dtype).tiny).log()

    def _tile_probabilities(self, top: int, left: int) -> Tensor:
        """What the network says of a tile by itself: (C, h, w)."""
        height, width = min(self.tile, self.view.rows - top), min(self.tile, self.view.across - left)
        image = self.view.read(self.raster, top, left, height, width).to(self.predictor.device)
        with self.predictor.autocast():
            logits = self.predictor.segmenter(image)
        return logits[0].float().softmax(0).cpu()

    def _source_spans(self, block: Block) -> tuple[slice, slice]:
        """The view's rows and columns from which a block's pixels are interpolated."""
        across, _ = self.view.columns(block.left, block.right)
        return (
            source_window(PIXEL_GRID, self.view.row_grid(block.top), block.height, self.view.rows),
            source_window(PIXEL_GRID, across, block.width, self.view.across),
        )

    def _overlap(self, start: int, span: slice) -> tuple[slice, slice]:
        """What a tile and a span share along an axis: counted in the tile, and counted in the span."""
        first, last = max(start, span.start), min(start + self.tile, span.stop)
        return slice(first - start, last - start), slice(first - span.start, last - span.start)

    def _blend_weights(self, positions: slice) -> Tensor:
        """How much places of a tile count: less towards its ends, but always more than nothing."""
        position = torch.arange(positions.start, positions.stop) + 0.5
        return torch.minimum(position, self.tile - position)


def tile_starts(side: int, tile: int) -> list[int]:
    """Where tiles begin that cover a side and overlap by half at least.

    Example:
        >>> tile_starts(100, 40), tile_starts(30, 40)
        ([0, 20, 40, 60], [0])
    """
    return [*range(0, side - tile, max(tile // 2, 1)), max(side - tile, 0)]
