"""Overlapping tiles blended: for networks that see the whole picture, where no tile can say what the whole would.

Every pixel is seen by several tiles, each of which counts more the nearer the pixel is to its middle. There is no seam,
but labels depend on the tile, so this is only ever done when asked for. Where it can be exact, `tiles.Mosaic` is.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dilated.nn.sampling import PIXELS, Axes, needed_for, upsample
from dilated.predict.store import Key, Store
from dilated.predict.views import View

if TYPE_CHECKING:
    from dilated.data.raster import Raster
    from dilated.predict.predictor import Predictor
    from dilated.predict.tiles import Block


class Blend:
    """The probabilities of one view of a picture, from tiles that overlap by half.

    Args:
        tile: pixels along a side of a tile, a multiple of the network's alignment.
        name: what the keys of its tiles in the store begin with.
    """

    def __init__(self, predictor: Predictor, raster: Raster, view: View, tile: int, name: Key, store: Store) -> None:
        self.predictor, self.raster, self.view, self.tile = predictor, raster, view, tile
        self.name, self.store = name, store
        self.rows, self.columns = (starts(side, tile) for side in (view.rows, view.across))

    def keys(self, block: Block) -> list[Key]:
        """The tiles that a block's labels depend on."""
        touched = (
            [i for i, start in enumerate(begin) if start < span.stop and start + self.tile > span.start]
            for begin, span in zip((self.rows, self.columns), self._spans(block), strict=True)
        )
        return [(*self.name, *place) for place in itertools.product(*touched)]

    def scores(self, block: Block) -> tuple[Tensor, Axes]:
        """Probabilities at the view's pixels around a block, (1, C, h, w), and where they sit."""
        rows, columns = self._spans(block)
        total = torch.zeros(len(self.predictor.segmenter.classes), rows.stop - rows.start, columns.stop - columns.start)
        weights = torch.zeros(total.shape[1:])
        for key in self.keys(block):
            top, left = self.rows[key[-2]], self.columns[key[-1]]
            if key not in self.store:
                self.store[key] = [self._probabilities(top, left)]
            (from_rows, to_rows), (from_columns, to_columns) = self._shared(top, rows), self._shared(left, columns)
            weight = torch.outer(self._ramp(from_rows), self._ramp(from_columns))
            part = self.store.window(key, 0, from_rows, from_columns)
            total[:, to_rows, to_columns] += part * weight
            weights[to_rows, to_columns] += weight
        places = PIXELS.window(rows.start), PIXELS.window(columns.start)
        return (total / weights)[None].to(self.predictor.device), places

    def zoom(self, scores: Tensor, source: Axes, target: Axes, size: tuple[int, int]) -> Tensor:
        """Probabilities at other places, as logarithms."""
        return upsample(scores, source, target, size).clamp(min=torch.finfo(scores.dtype).tiny).log()

    def _probabilities(self, top: int, left: int) -> Tensor:
        """What the network says of a tile by itself: (C, h, w)."""
        height, width = min(self.tile, self.view.rows - top), min(self.tile, self.view.across - left)
        image = self.view.read(self.raster, top, left, height, width).to(self.predictor.device)
        with self.predictor.autocast():
            scores = self.predictor.segmenter(image)
        return scores[0].float().softmax(0).cpu()

    def _spans(self, block: Block) -> tuple[slice, slice]:
        """The view's rows and columns from which a block's pixels are interpolated."""
        across, _ = self.view.columns(block.left, block.right)
        return (
            needed_for(PIXELS, self.view.grid_of_rows(block.top), block.height, self.view.rows),
            needed_for(PIXELS, across, block.width, self.view.across),
        )

    def _shared(self, start: int, span: slice) -> tuple[slice, slice]:
        """What a tile and a span share along an axis: counted in the tile, and counted in the span."""
        first, last = max(start, span.start), min(start + self.tile, span.stop)
        return slice(first - start, last - start), slice(first - span.start, last - span.start)

    def _ramp(self, places: slice) -> Tensor:
        """How much places of a tile count: less towards its ends, but always more than nothing."""
        place = torch.arange(places.start, places.stop) + 0.5
        return torch.minimum(place, self.tile - place)


def starts(side: int, tile: int) -> list[int]:
    """Where tiles begin that cover a side and overlap by half at least.

    Example:
        >>> starts(100, 40), starts(30, 40)
        ([0, 20, 40, 60], [0])
    """
    return [*range(0, side - tile, max(tile // 2, 1)), max(side - tile, 0)]
