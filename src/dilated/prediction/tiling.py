"""Images of any size, tile by tile, with exactly the labels of the whole image.

    for block, labels in label_blocks(predictor, raster):
        canvas[block.top : block.bottom, block.left : block.right] = labels

The front end reads each tile with as many real pixels around it as it can see (measured, see `dilated.fields.measured`), so
what it says of the tile is what it says of the whole image; at the image's own border it sees that border. Its maps
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

from dilated.models.sampling import AxisGrids, source_window, split_axes
from dilated.prediction.prediction import LabelMap, label_dtype
from dilated.prediction.tile_cache import TileCache, TileKey
from dilated.prediction.tta import TTAView

if TYPE_CHECKING:
    from dilated.data.raster.reader import Raster
    from dilated.prediction.predictor import Predictor

_STRIP_ROWS = 64
"""Rows of pixels for which logits of all classes are held at once."""
MAX_BLOCK_BYTES = 128 * 2**20
"""Bytes that the maps of one block may take, unless it is a single tile."""


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
    """What tiles of a network must be like, and what their results weigh.

    `margin`: how many pixels beyond a tile the front end looks. `values_per_pixel`: values that the heaviest of the front end's
    maps and of the logits holds for each pixel.
    """

    margin: int
    values_per_pixel: float


def split_into_blocks(predictor: Predictor, height: int, width: int) -> list[Block]:
    """The rectangles in which an image is labelled, row by row; they cover it, and none overlap."""
    side = predictor.block_size(height, width)
    return [
        Block(top, left, min(side, height - top), min(side, width - left))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def skip_none(block: Block) -> bool:
    return False


def label_blocks(
    predictor: Predictor, raster: Raster, skip: Callable[[Block], bool] = skip_none, cache_folder: Path | None = None
) -> Iterator[tuple[Block, LabelMap]]:
    """Label an image block by block.

    Args:
        skip: blocks for which it is true are left out; the others' labels do not depend on that.
        spool: a folder for the maps that wait for their neighbours; in memory where there is none.

    Yields:
        Each block and its labels, (height, width), in the order of `split_into_blocks`.
    """
    dtype = label_dtype(len(predictor.segmenter.classes))
    for block, strips in logit_blocks(predictor, raster, skip, cache_folder):
        labels = np.empty((block.height, block.width), dtype=dtype)
        for row, logits in strips:
            labels[row : row + logits.shape[1]] = logits.argmax(0).cpu().numpy()
        yield block, labels


_Strips = Iterator[tuple[int, Tensor]]


@torch.inference_mode()
def logit_blocks(
    predictor: Predictor, raster: Raster, skip: Callable[[Block], bool] = skip_none, cache_folder: Path | None = None
) -> Iterator[tuple[Block, _Strips]]:
    """The logits of each block, as strips of rows: (first row, (C, rows, width)). See `label_blocks`."""
    remaining = [block for block in split_into_blocks(predictor, raster.height, raster.width) if not skip(block)]
    with TileCache(cache_folder) as cache:
        views = predictor.tta_views(raster.height, raster.width)
        tilers = [predictor.make_tiler(raster, view, (i,), cache) for i, view in enumerate(views)]
        last_use: dict[TileKey, int] = {}  # each tile -> the last block that reads it
        for i, block in enumerate(remaining):
            last_use.update((key, i) for tiler in tilers for key in tiler.keys(block))
        for i, block in enumerate(remaining):
            yield block, _iter_strips(tilers, block)
            cache.retain(lambda key, done=i: last_use[key] > done)  # type: ignore[misc]


@torch.inference_mode()
def _iter_strips(tilers: list[Any], block: Block) -> _Strips:
    """Views are averaged as probabilities, of which the logarithm is given; a single one is left as it is."""
    found = [(tiler, tiler.logits(block)) for tiler in tilers]
    for row in range(0, block.height, _STRIP_ROWS):
        rows = min(_STRIP_ROWS, block.height - row)
        view_logits = [_upsample_strip(tiler, logits, block, row, rows) for tiler, logits in found]
        if len(view_logits) == 1:
            yield row, view_logits[0]
        else:
            yield row, torch.stack([logits.softmax(0) for logits in view_logits]).mean(0).log()


def _upsample_strip(tiler: Any, block_logits: tuple[Tensor, AxisGrids], block: Block, row: int, rows: int) -> Tensor:
    """Rows of a block from the logits around it: (C, rows, block.width)."""
    logits, positions = block_logits
    above, beside = split_axes(positions)
    down = tiler.view.row_grid(block.top + row)
    across, flipped = tiler.view.columns(block.left, block.right)
    needed = source_window(above, down, rows, logits.shape[-2])
    strip = logits[..., needed, :]
    upsampled = tiler.upsample(strip, (above.window(needed.start), beside), (down, across), (rows, block.width))[
        0
    ].float()
    return upsampled.flip(-1) if flipped else upsampled


class Tiler:
    """The front end's maps of one view of an image, computed tile by tile when first asked for.

    Args:
        tile: pixels along a side that a tile answers for, a multiple of the alignment.
        margin: pixels that it reads around them.
        name: what the keys of its tiles in the store begin with.
    """

    def __init__(
        self,
        predictor: Predictor,
        raster: Raster,
        view: TTAView,
        tile: int,
        margin: int,
        key_prefix: TileKey,
        cache: TileCache,
    ) -> None:
        self.predictor, self.raster, self.view, self.tile, self.margin = predictor, raster, view, tile, margin
        self.key_prefix, self.cache = key_prefix, cache
        self.segmenter = predictor.segmenter
        self.grids = self.segmenter.feature_grids
        self.upsample = self.segmenter.upsample

    def keys(self, block: Block) -> list[TileKey]:
        """The tiles that a block's labels depend on."""
        found: set[TileKey] = set()
        for i in range(len(self.grids)):
            rows, columns = self._input_window(block, i)
            tile_size = self.tile // int(self.grids[i].stride)  # values along a side of a tile
            down = range(rows.start // tile_size, (rows.stop - 1) // tile_size + 1)
            across = range(columns.start // tile_size, (columns.stop - 1) // tile_size + 1)
            found.update((*self.key_prefix, *tile_index) for tile_index in itertools.product(down, across))
        return sorted(found)

    def logits(self, block: Block) -> tuple[Tensor, AxisGrids]:
        """The finest logits that a block's pixels are interpolated from, and where they sit in the view."""
        for key in self.keys(block):
            if key not in self.cache:
                self.cache[key] = self._compute_tile(key[-2], key[-1])
        windows, positions = [], []
        for i, grid in enumerate(self.grids):
            rows, columns = self._input_window(block, i)
            windows.append(self._gather(i, rows, columns)[None].to(self.predictor.device))
            positions.append((grid.window(rows.start), grid.window(columns.start)))
        with self.predictor.autocast():
            return self.segmenter.decode(windows, positions)

    def _input_window(self, block: Block, index: int) -> tuple[slice, slice]:
        """The values of a map that `finish` reads for a block."""
        grid, coarse = self.grids[index], self.grids[0]
        halo = self.segmenter.halo if index == 0 else 3 * int(coarse.stride / grid.stride)
        across, _ = self.view.columns(block.left, block.right)
        return (
            source_window(
                grid, self.view.row_grid(block.top), block.height, self._map_size(self.view.rows, index), halo
            ),
            source_window(grid, across, block.width, self._map_size(self.view.across, index), halo),
        )

    def _map_size(self, side: int, index: int) -> int:
        """How many values a map has along a side of so many pixels."""
        coarse = int(self.grids[0].stride)
        return -(-side // coarse) * (coarse // int(self.grids[index].stride))

    def _compute_tile(self, i: int, j: int) -> list[Tensor]:
        """The maps of a tile, without its margin: (F, h, w) each."""
        (top, bottom, above), (left, right, beside) = (
            self._read_span(index, side) for index, side in ((i, self.view.rows), (j, self.view.across))
        )
        image = self.view.read(self.raster, top, left, bottom - top, right - left).to(self.predictor.device)
        with self.predictor.autocast():
            maps = self.segmenter.extract_features(image)
        cropped = []
        for feature_map, grid in zip(maps, self.grids, strict=True):
            stride = int(grid.stride)
            row, column, tile_size = above // stride, beside // stride, self.tile // stride
            cropped.append(
                feature_map[0, :, row : row + tile_size, column : column + tile_size].float().cpu().contiguous()
            )
        return cropped

    def _read_span(self, index: int, side: int) -> tuple[int, int, int]:
        """What a tile reads along an axis: from, to, and how many of these pixels are its margin before it."""
        tile_start, alignment = index * self.tile, self.segmenter.alignment
        # A last tile thinner than the alignment is extended, by zeros or by its mirror image, which looks back farther.
        extension = alignment if tile_start + alignment > side else 0
        start = max(0, tile_start - self.margin - extension)
        return start, min(side, tile_start + self.tile + self.margin), tile_start - start

    def _gather(self, index: int, rows: slice, columns: slice) -> Tensor:
        """A window of a map, from all tiles that it touches: (F, rows, columns)."""
        tile_size = self.tile // int(self.grids[index].stride)
        tile_rows = []
        for i in range(rows.start // tile_size, (rows.stop - 1) // tile_size + 1):
            row_tiles = []
            for j in range(columns.start // tile_size, (columns.stop - 1) // tile_size + 1):
                window = (
                    _window_in_tile(rows, i * tile_size, tile_size),
                    _window_in_tile(columns, j * tile_size, tile_size),
                )
                row_tiles.append(self.cache.window((*self.key_prefix, i, j), index, *window))
            tile_rows.append(torch.cat(row_tiles, -1))
        return torch.cat(tile_rows, -2)


def _window_in_tile(window: slice, tile_start: int, size: int) -> slice:
    """The part of a window that lies in a tile, counted from the tile's first value."""
    return slice(max(window.start - tile_start, 0), min(window.stop - tile_start, size))
