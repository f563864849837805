"""Pictures of any size, tile by tile, with exactly the labels of the whole picture.

    for block, labels in label_blocks(predictor, raster):
        canvas[block.top : block.bottom, block.left : block.right] = labels

The front end reads each tile with as many real pixels around it as it can see (measured, see `dilated.nn.reach`), so
what it says of the tile is what it says of the whole picture; at the picture's own border it sees that border. Its maps
are laid side by side, and the context module reads them across all seams: block by block, each with as many values
around it as the module can see. So memory is bounded by the tile, and no label depends on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dilated.nn.sampling import Axes, axes, needed_for
from dilated.predict.prediction import Labels, label_dtype
from dilated.predict.store import Key, Store
from dilated.predict.views import View

if TYPE_CHECKING:
    from dilated.data.raster import Raster
    from dilated.predict.predictor import Predictor

STRIP = 64
"""Rows of pixels for which scores of all classes are held at once."""
ROOM = 128 * 2**20
"""Bytes that the maps of one block may take, unless it is a single tile."""


@dataclass(frozen=True)
class Block:
    """A rectangle of the picture, in pixels."""

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
class Geometry:
    """What tiles of a network must be like, and what their results weigh.

    `margin`: how many pixels beyond a tile the front end looks. `area`: values that the heaviest of the front end's
    maps and of the scores holds for each pixel.
    """

    margin: int
    area: float


def blocks(predictor: Predictor, height: int, width: int) -> list[Block]:
    """The rectangles in which a picture is labelled, row by row; they cover it, and none overlap."""
    side = predictor.block_side(height, width)
    return [
        Block(top, left, min(side, height - top), min(side, width - left))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def never(block: Block) -> bool:
    return False


def label_blocks(
    predictor: Predictor, raster: Raster, skip: Callable[[Block], bool] = never, spool: Path | None = None
) -> Iterator[tuple[Block, Labels]]:
    """Label a picture block by block.

    Args:
        skip: blocks for which it is true are left out; the others' labels do not depend on that.
        spool: a folder for the maps that wait for their neighbours; in memory where there is none.

    Yields:
        Each block and its labels, (height, width), in the order of `blocks`.
    """
    kind = label_dtype(len(predictor.segmenter.classes))
    for block, strips in score_blocks(predictor, raster, skip, spool):
        labels = np.empty((block.height, block.width), dtype=kind)
        for row, scores in strips:
            labels[row : row + scores.shape[1]] = scores.argmax(0).cpu().numpy()
        yield block, labels


Strips = Iterator[tuple[int, Tensor]]


@torch.inference_mode()
def score_blocks(
    predictor: Predictor, raster: Raster, skip: Callable[[Block], bool] = never, spool: Path | None = None
) -> Iterator[tuple[Block, Strips]]:
    """The scores of each block, as strips of rows: (first row, (C, rows, width)). See `label_blocks`."""
    todo = [block for block in blocks(predictor, raster.height, raster.width) if not skip(block)]
    with Store(spool) as store:
        views = predictor.views(raster.height, raster.width)
        mosaics = [predictor.mosaic(raster, view, (i,), store) for i, view in enumerate(views)]
        last: dict[Key, int] = {}  # each tile -> the last block that reads it
        for i, block in enumerate(todo):
            last.update((key, i) for mosaic in mosaics for key in mosaic.keys(block))
        for i, block in enumerate(todo):
            yield block, _strips(mosaics, block)
            store.keep(lambda key, done=i: last[key] > done)  # type: ignore[misc]


@torch.inference_mode()
def _strips(mosaics: list[Any], block: Block) -> Strips:
    """Views are averaged as probabilities, of which the logarithm is given; a single one is left as it is."""
    found = [(mosaic, mosaic.scores(block)) for mosaic in mosaics]
    for row in range(0, block.height, STRIP):
        rows = min(STRIP, block.height - row)
        several = [_strip(mosaic, scores, block, row, rows) for mosaic, scores in found]
        if len(several) == 1:
            yield row, several[0]
        else:
            yield row, torch.stack([scores.softmax(0) for scores in several]).mean(0).log()


def _strip(mosaic: Any, around: tuple[Tensor, Axes], block: Block, row: int, rows: int) -> Tensor:
    """Rows of a block from the scores around it: (C, rows, block.width)."""
    scores, places = around
    above, beside = axes(places)
    down = mosaic.view.grid_of_rows(block.top + row)
    across, flipped = mosaic.view.columns(block.left, block.right)
    needed = needed_for(above, down, rows, scores.shape[-2])
    strip = scores[..., needed, :]
    zoomed = mosaic.zoom(strip, (above.window(needed.start), beside), (down, across), (rows, block.width))[0].float()
    return zoomed.flip(-1) if flipped else zoomed


class Mosaic:
    """The front end's maps of one view of a picture, computed tile by tile when first asked for.

    Args:
        tile: pixels along a side that a tile answers for, a multiple of the alignment.
        margin: pixels that it reads around them.
        name: what the keys of its tiles in the store begin with.
    """

    def __init__(
        self, predictor: Predictor, raster: Raster, view: View, tile: int, margin: int, name: Key, store: Store
    ) -> None:
        self.predictor, self.raster, self.view, self.tile, self.margin = predictor, raster, view, tile, margin
        self.name, self.store = name, store
        self.segmenter = predictor.segmenter
        self.grids = self.segmenter.map_grids
        self.zoom = self.segmenter.zoom

    def keys(self, block: Block) -> list[Key]:
        """The tiles that a block's labels depend on."""
        found: set[Key] = set()
        for i in range(len(self.grids)):
            rows, columns = self._window(block, i)
            each = self.tile // int(self.grids[i].stride)  # values along a side of a tile
            down = range(rows.start // each, (rows.stop - 1) // each + 1)
            across = range(columns.start // each, (columns.stop - 1) // each + 1)
            found.update((*self.name, *place) for place in itertools.product(down, across))
        return sorted(found)

    def scores(self, block: Block) -> tuple[Tensor, Axes]:
        """The finest scores that a block's pixels are interpolated from, and where they sit in the view."""
        for key in self.keys(block):
            if key not in self.store:
                self.store[key] = self._maps(key[-2], key[-1])
        windows, places = [], []
        for i, grid in enumerate(self.grids):
            rows, columns = self._window(block, i)
            windows.append(self._gathered(i, rows, columns)[None].to(self.predictor.device))
            places.append((grid.window(rows.start), grid.window(columns.start)))
        with self.predictor.autocast():
            return self.segmenter.finish(windows, places)

    def _window(self, block: Block, index: int) -> tuple[slice, slice]:
        """The values of a map that `finish` reads for a block."""
        grid, coarse = self.grids[index], self.grids[0]
        halo = self.segmenter.halo if index == 0 else 3 * int(coarse.stride / grid.stride)
        across, _ = self.view.columns(block.left, block.right)
        return (
            needed_for(grid, self.view.grid_of_rows(block.top), block.height, self._count(self.view.rows, index), halo),
            needed_for(grid, across, block.width, self._count(self.view.across, index), halo),
        )

    def _count(self, side: int, index: int) -> int:
        """How many values a map has along a side of so many pixels."""
        coarse = int(self.grids[0].stride)
        return -(-side // coarse) * (coarse // int(self.grids[index].stride))

    def _maps(self, i: int, j: int) -> list[Tensor]:
        """The maps of a tile, without its margin: (F, h, w) each."""
        (top, bottom, above), (left, right, beside) = (
            self._span(index, side) for index, side in ((i, self.view.rows), (j, self.view.across))
        )
        image = self.view.read(self.raster, top, left, bottom - top, right - left).to(self.predictor.device)
        with self.predictor.autocast():
            maps = self.segmenter.maps(image)
        own = []
        for one, grid in zip(maps, self.grids, strict=True):
            stride = int(grid.stride)
            row, column, each = above // stride, beside // stride, self.tile // stride
            own.append(one[0, :, row : row + each, column : column + each].float().cpu().contiguous())
        return own

    def _span(self, index: int, side: int) -> tuple[int, int, int]:
        """What a tile reads along an axis: from, to, and how many of these pixels are its margin before it."""
        first, alignment = index * self.tile, self.segmenter.alignment
        # A last tile thinner than the alignment is extended, by zeros or by its mirror image, which looks back farther.
        thin = alignment if first + alignment > side else 0
        start = max(0, first - self.margin - thin)
        return start, min(side, first + self.tile + self.margin), first - start

    def _gathered(self, index: int, rows: slice, columns: slice) -> Tensor:
        """A window of a map, from all tiles that it touches: (F, rows, columns)."""
        each = self.tile // int(self.grids[index].stride)
        lines = []
        for i in range(rows.start // each, (rows.stop - 1) // each + 1):
            line = []
            for j in range(columns.start // each, (columns.stop - 1) // each + 1):
                inner = (_inside(rows, i * each, each), _inside(columns, j * each, each))
                line.append(self.store.window((*self.name, i, j), index, *inner))
            lines.append(torch.cat(line, -1))
        return torch.cat(lines, -2)


def _inside(window: slice, first: int, size: int) -> slice:
    """The part of a window that lies in a tile, counted from the tile's first value."""
    return slice(max(window.start - first, 0), min(window.stop - first, size))
