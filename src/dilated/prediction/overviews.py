"""Writes a label raster of any size: a tiled, compressed TIFF with smaller copies of itself inside (overviews).

    with closing(LabelTiffWriter(path, height, width, np.dtype(np.uint8))) as tiff:
        for labels in tiff.write_labels(read_window):    # read_window(top, left, height, width) -> labels
        tiff.write_overviews()
        tiff.write_directories(image_tags, shared_tags)

About two tiles are in memory at a time, and the bytes depend on the labels alone. Tiles are 512 x 512, Deflate; the
file becomes a BigTIFF if a classic one might not hold it. An overview's pixel is the most frequent of the four that it
stands for, of equally frequent ones the first; overviews halve until one fits into a tile.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.raster import tags
from dilated.data.raster.tags import LONG, LONG8, SHORT, Tag
from dilated.prediction.views import Block, assemble_window

_ReadWindow = Callable[[int, int, int, int], NDArray[Any]]

TILE_SIZE = 512
_DEFLATE, _PALETTE_COLOR = 8, 3
_CLASSIC_TIFF_LIMIT = 2**32 - 2**24  # bytes of labels and overviews that a classic TIFF surely holds


@dataclass
class _Level:
    """The image or an overview: where its tiles are in the file, row by row."""

    height: int
    width: int
    offsets: list[int] = field(default_factory=list)
    byte_counts: list[int] = field(default_factory=list)

    @property
    def tiles_across(self) -> int:
        """How many tiles lie side by side."""
        return -(-self.width // TILE_SIZE)

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """The upper left pixel of each tile."""
        return [(top, left) for top in range(0, self.height, TILE_SIZE) for left in range(0, self.width, TILE_SIZE)]


class LabelTiffWriter:
    """A label raster that is being written.

    Args:
        dtype: uint8 or uint16.
        bigtiff: whether it is a BigTIFF; by default if its labels, without counting on compression, need one.
    """

    def __init__(self, path: Path, height: int, width: int, dtype: np.dtype[Any], bigtiff: bool | None = None) -> None:
        self.dtype = dtype.newbyteorder("<")
        max_bytes = -(-height // TILE_SIZE) * -(-width // TILE_SIZE) * TILE_SIZE * TILE_SIZE * dtype.itemsize * 3 // 2
        self.bigtiff = max_bytes > _CLASSIC_TIFF_LIMIT if bigtiff is None else bigtiff
        self.levels = [_Level(height, width)]
        self.file = path.open("w+b")
        # The offset of the directory is written last, so an unfinished file is not a TIFF.
        self.file.write(
            struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if self.bigtiff else struct.pack("<2sHI", b"II", 42, 0)
        )

    def write_labels(self, read_window: _ReadWindow) -> Iterator[NDArray[Any]]:
        """Write the labels tile by tile, and yield those of each."""
        level = self.levels[0]
        for top, left in level.tiles:
            labels = read_window(top, left, min(TILE_SIZE, level.height - top), min(TILE_SIZE, level.width - left))
            self._append_tile(level, labels)
            yield labels

    def write_overviews(self) -> None:
        """Write the overviews, each from the one before it."""
        while max(self.levels[-1].height, self.levels[-1].width) > TILE_SIZE:
            previous = self.levels[-1]
            level = _Level(-(-previous.height // 2), -(-previous.width // 2))
            for top, left in level.tiles:
                height = min(2 * TILE_SIZE, previous.height - 2 * top)
                width = min(2 * TILE_SIZE, previous.width - 2 * left)
                labels = self.read_window(previous, 2 * top, 2 * left, height, width)
                self._append_tile(level, _downscale_by_mode(labels))
            self.levels.append(level)

    def read_window(self, level: _Level, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Read labels of a level that have been written, (height, width)."""

        def load(i: int, j: int) -> NDArray[Any]:
            index = i * level.tiles_across + j
            self.file.seek(level.offsets[index])
            data = zlib.decompress(self.file.read(level.byte_counts[index]))
            return np.frombuffer(data, self.dtype).reshape(TILE_SIZE, TILE_SIZE)

        return assemble_window(Block(top, left, height, width), (TILE_SIZE, TILE_SIZE), load, self.dtype)

    def write_directories(self, image_tags: Sequence[Tag], shared_tags: Sequence[Tag]) -> None:
        """Write the directories, after which the file is a TIFF.

        Args:
            image_tags: tags of the image.
            shared_tags: tags of the image and of each overview: palette, nodata.
        """
        value_offsets: dict[bytes, int] = {}  # values of several directories are written once
        link_offset = 8 if self.bigtiff else 4  # where the offset of the first directory is
        for i, level in enumerate(self.levels):
            entries = [*self._layout_tags(level, i > 0), *shared_tags, *(image_tags if i == 0 else ())]
            link_offset = self._write_directory(sorted(entries, key=lambda tag: tag.code), link_offset, value_offsets)

    def close(self) -> None:
        self.file.close()

    def _append_tile(self, level: _Level, labels: NDArray[Any]) -> None:
        tile = np.zeros((TILE_SIZE, TILE_SIZE), self.dtype)
        tile[: labels.shape[0], : labels.shape[1]] = labels
        data = zlib.compress(tile.tobytes(), 6)
        level.offsets.append(self.file.seek(0, 2))
        level.byte_counts.append(len(data))
        self.file.write(data)

    def _layout_tags(self, level: _Level, overview: bool) -> list[Tag]:
        return [
            Tag.from_values(tags.SUBFILE, LONG, [int(overview)]),
            Tag.from_values(tags.WIDTH, LONG, [level.width]),
            Tag.from_values(tags.HEIGHT, LONG, [level.height]),
            Tag.from_values(tags.BITS_PER_SAMPLE, SHORT, [8 * self.dtype.itemsize]),
            Tag.from_values(tags.COMPRESSION, SHORT, [_DEFLATE]),
            Tag.from_values(tags.PHOTOMETRIC, SHORT, [_PALETTE_COLOR]),
            Tag.from_values(tags.SAMPLES_PER_PIXEL, SHORT, [1]),
            Tag.from_values(tags.PLANAR_CONFIGURATION, SHORT, [1]),
            Tag.from_values(tags.TILE_WIDTH, SHORT, [TILE_SIZE]),
            Tag.from_values(tags.TILE_HEIGHT, SHORT, [TILE_SIZE]),
            Tag.from_values(tags.TILE_OFFSETS, LONG8 if self.bigtiff else LONG, level.offsets),
            Tag.from_values(tags.TILE_COUNTS, LONG, level.byte_counts),
            Tag.from_values(tags.SAMPLE_FORMAT, SHORT, [1]),
        ]

    def _write_directory(self, directory: list[Tag], link_offset: int, value_offsets: dict[bytes, int]) -> int:
        """Write a directory and its offset at `link_offset`; return where the offset of the next one goes."""
        count, offset_format = ("<Q", "<Q") if self.bigtiff else ("<H", "<I")
        offset_size = struct.calcsize(offset_format)
        entries = struct.pack(count, len(directory))
        for tag in directory:
            data = tag.data
            if len(data) > offset_size:
                if data not in value_offsets:
                    value_offsets[data] = self._pad_to_8_bytes()
                    self.file.write(data)
                data = struct.pack(offset_format, value_offsets[data])
            entries += struct.pack(f"<HH{offset_format[1]}", tag.code, tag.field_type, tag.count) + data.ljust(
                offset_size, b"\0"
            )
        start = self._pad_to_8_bytes()
        self.file.write(entries + bytes(offset_size))
        self.file.seek(link_offset)
        self.file.write(struct.pack(offset_format, start))
        return start + len(entries)

    def _pad_to_8_bytes(self) -> int:
        """Pad the file to a multiple of 8 bytes and return its size."""
        end = self.file.seek(0, 2)
        self.file.write(bytes(-end % 8))
        return end + -end % 8


def _downscale_by_mode(labels: NDArray[Any]) -> NDArray[Any]:
    """(H, W) -> (ceil(H/2), ceil(W/2)): the most frequent of each four, of equally frequent ones the first.

    Example:
        >>> _downscale_by_mode(np.array([[1, 2, 3], [4, 2, 5]]))
        array([[2, 3]])
    """
    padded = np.pad(labels, ((0, labels.shape[0] % 2), (0, labels.shape[1] % 2)), mode="edge")
    a, b, c, d = padded[::2, ::2], padded[::2, 1::2], padded[1::2, ::2], padded[1::2, 1::2]
    other = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    # Two and two: the first wins, so the other pair counts only if `a` occurs once.
    return np.where((a == b) | (a == c) | (a == d), a, other)
