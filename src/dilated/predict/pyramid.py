"""Writes a label raster of any size: a tiled, compressed TIFF with smaller copies of itself inside (overviews).

    with Pyramid(path, height, width, np.dtype(np.uint8)) as pyramid:
        pyramid.fill(window)                             # window(top, left, height, width) -> labels
        pyramid.reduce()
        pyramid.finish(tags)

Two tiles or so are in memory at a time, and the bytes depend on the labels alone. Tiles are 512 x 512, Deflate; the
file becomes a BigTIFF where a classic one might not hold it. An overview's pixel is the most frequent of the four that
it stands for, of equally frequent ones the first; overviews halve until one fits into a tile.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dilated.data.rasters.tags import (
    BITS,
    COMPRESSION,
    HEIGHT,
    LONG,
    LONG8,
    PHOTOMETRIC,
    PLANAR,
    SAMPLE_FORMAT,
    SAMPLES,
    SHORT,
    SUBFILE,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    WIDTH,
    Tag,
)

Window = Callable[[int, int, int, int], NDArray[Any]]

TILE = 512
DEFLATE, BY_PALETTE = 8, 3
CLASSIC = 2**32 - 2**24  # bytes of labels and overviews beyond which a classic TIFF might not hold them


@dataclass
class Level:
    """The picture, or an overview: where its tiles are in the file, row by row."""

    height: int
    width: int
    offsets: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return -(-self.width // TILE)

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """The upper left pixel of each tile."""
        return [(top, left) for top in range(0, self.height, TILE) for left in range(0, self.width, TILE)]


class Pyramid:
    """A label raster that is being written.

    Args:
        dtype: uint8 or uint16.
        big: whether it is a BigTIFF; by default where its labels, not counting on compression, need one.
    """

    def __init__(self, path: Path, height: int, width: int, dtype: np.dtype[Any], big: bool | None = None) -> None:
        self.dtype = dtype.newbyteorder("<")
        bound = -(-height // TILE) * -(-width // TILE) * TILE * TILE * dtype.itemsize * 3 // 2
        self.big = bound > CLASSIC if big is None else big
        self.levels = [Level(height, width)]
        self.file = path.open("w+b")
        # The place of the directory comes last, so a file that was not finished is no TIFF.
        self.file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if self.big else struct.pack("<2sHI", b"II", 42, 0))

    def fill(self, window: Window, tick: Callable[[NDArray[Any]], object] | None = None) -> None:
        """Write the labels.

        Args:
            tick: called with the labels of each tile.
        """
        level = self.levels[0]
        for top, left in level.tiles:
            labels = window(top, left, min(TILE, level.height - top), min(TILE, level.width - left))
            self._append(level, labels)
            if tick:
                tick(labels)

    def reduce(self) -> None:
        """Write the overviews, each from the one before it."""
        while max(self.levels[-1].height, self.levels[-1].width) > TILE:
            fine = self.levels[-1]
            level = Level(-(-fine.height // 2), -(-fine.width // 2))
            for top, left in level.tiles:
                height, width = min(2 * TILE, fine.height - 2 * top), min(2 * TILE, fine.width - 2 * left)
                self._append(level, halved(self.window(fine, 2 * top, 2 * left, height, width)))
            self.levels.append(level)

    def window(self, level: Level, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Labels of a level that have been written, (height, width)."""
        labels = np.empty((height, width), self.dtype)
        for y in range(top // TILE * TILE, top + height, TILE):
            for x in range(left // TILE * TILE, left + width, TILE):
                index = y // TILE * level.across + x // TILE
                self.file.seek(level.offsets[index])
                data = zlib.decompress(self.file.read(level.counts[index]))
                tile = np.frombuffer(data, self.dtype).reshape(TILE, TILE)
                rows, columns = (
                    slice(max(y, top), min(y + TILE, top + height)),
                    slice(max(x, left), min(x + TILE, left + width)),
                )
                part = tile[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
                labels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
        return labels

    def finish(self, own: Sequence[Tag], shared: Sequence[Tag]) -> None:
        """Write the directories, after which the file is a TIFF.

        Args:
            own: tags of the picture.
            shared: tags of the picture and of each overview: palette, nodata.
        """
        places: dict[bytes, int] = {}  # values that several directories have are written once
        link = 8 if self.big else 4  # where the place of the first directory stands
        for i, level in enumerate(self.levels):
            tags = [*self._layout(level, i > 0), *shared, *(own if i == 0 else ())]
            link = self._directory(sorted(tags, key=lambda tag: tag.code), link, places)

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _append(self, level: Level, labels: NDArray[Any]) -> None:
        tile = np.zeros((TILE, TILE), self.dtype)
        tile[: labels.shape[0], : labels.shape[1]] = labels
        data = zlib.compress(tile.tobytes(), 6)
        level.offsets.append(self.file.seek(0, 2))
        level.counts.append(len(data))
        self.file.write(data)

    def _layout(self, level: Level, overview: bool) -> list[Tag]:
        return [
            Tag.of(SUBFILE, LONG, [int(overview)]),
            Tag.of(WIDTH, LONG, [level.width]),
            Tag.of(HEIGHT, LONG, [level.height]),
            Tag.of(BITS, SHORT, [8 * self.dtype.itemsize]),
            Tag.of(COMPRESSION, SHORT, [DEFLATE]),
            Tag.of(PHOTOMETRIC, SHORT, [BY_PALETTE]),
            Tag.of(SAMPLES, SHORT, [1]),
            Tag.of(PLANAR, SHORT, [1]),
            Tag.of(TILE_WIDTH, SHORT, [TILE]),
            Tag.of(TILE_HEIGHT, SHORT, [TILE]),
            Tag.of(TILE_OFFSETS, LONG8 if self.big else LONG, level.offsets),
            Tag.of(TILE_COUNTS, LONG, level.counts),
            Tag.of(SAMPLE_FORMAT, SHORT, [1]),
        ]

    def _directory(self, tags: list[Tag], link: int, places: dict[bytes, int]) -> int:
        """Write a directory and let `link` point at it; returns where the place of the next one goes."""
        count, place = ("<Q", "<Q") if self.big else ("<H", "<I")
        room = struct.calcsize(place)
        entries = struct.pack(count, len(tags))
        for tag in tags:
            data = tag.data
            if len(data) > room:
                if data not in places:
                    places[data] = self._aligned()
                    self.file.write(data)
                data = struct.pack(place, places[data])
            entries += struct.pack(f"<HH{place[1]}", tag.code, tag.kind, tag.count) + data.ljust(room, b"\0")
        start = self._aligned()
        self.file.write(entries + bytes(room))
        self.file.seek(link)
        self.file.write(struct.pack(place, start))
        return start + len(entries)

    def _aligned(self) -> int:
        """The end of the file, moved to a multiple of 8 bytes."""
        end = self.file.seek(0, 2)
        self.file.write(bytes(-end % 8))
        return end + -end % 8


def halved(labels: NDArray[Any]) -> NDArray[Any]:
    """(H, W) -> (ceil(H/2), ceil(W/2)): the most frequent of each four, of equally frequent ones the first.

    Example:
        >>> halved(np.array([[1, 2, 3], [4, 2, 5]]))
        array([[2, 3]])
    """
    even = np.pad(labels, ((0, labels.shape[0] % 2), (0, labels.shape[1] % 2)), mode="edge")
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    other = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    # Two and two: the first wins, so the other pair only counts where `a` stands alone.
    return np.where((a == b) | (a == c) | (a == d), a, other)
