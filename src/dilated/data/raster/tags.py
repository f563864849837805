"""The header of a TIFF, BigTIFF or GeoTIFF: its tags, read without decoding anything and without trusting anything.

    header = read_header(Path("city.tif"))
    header.number(256), header.number(257)               # width, height

Read before any library opens the file: so a truncated file is found before hours of work, not after them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError

# The codes of TIFF 6.0, and of GeoTIFF and GDAL.
SUBFILE, WIDTH, HEIGHT, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
DESCRIPTION, STRIP_OFFSETS, ORIENTATION, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_COUNTS = 270, 273, 274, 277, 278, 279
PLANAR_CONFIGURATION, SOFTWARE, COLORMAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = (
    284,
    305,
    320,
    322,
    323,
    324,
    325,
)
EXTRA_SAMPLES, SAMPLE_FORMAT, GDAL_METADATA, GDAL_NODATA = 338, 339, 42112, 42113
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)  # scale, tie points, transform, keys, RPCs

BYTE, ASCII, SHORT, LONG, RATIONAL, DOUBLE, LONG8 = 1, 2, 3, 4, 5, 12, 16
_FIELD_TYPES = {
    1: ("u1", 1),
    2: ("u1", 1),
    3: ("u2", 1),
    4: ("u4", 1),
    5: ("u4", 2),
    6: ("i1", 1),
    7: ("u1", 1),
    8: ("i2", 1),
    9: ("i4", 1),
    10: ("i4", 2),
    11: ("f4", 1),
    12: ("f8", 1),
    13: ("u4", 1),
    16: ("u8", 1),
    17: ("i8", 1),
    18: ("u8", 1),
}
"""A kind of value -> its numbers, and how many of them make one value."""


@dataclass(frozen=True)
class Tag:
    """One entry: its code, the kind of its values, and these as little-endian bytes.

    Example:
        >>> Tag.from_values(WIDTH, LONG, [640]).values.tolist(), Tag.text(SOFTWARE, "dilated").count
        ([640], 8)
    """

    code: int
    field_type: int
    data: bytes

    @classmethod
    def from_values(cls, code: int, field_type: int, values: Any) -> Tag:
        return cls(code, field_type, np.asarray(values).astype(f"<{_FIELD_TYPES[field_type][0]}").tobytes())

    @classmethod
    def text(cls, code: int, text: str) -> Tag:
        return cls(code, ASCII, text.encode() + b"\0")

    @property
    def values(self) -> NDArray[Any]:
        return np.frombuffer(self.data, f"<{_FIELD_TYPES[self.field_type][0]}")

    @property
    def count(self) -> int:
        number, numbers_per_value = _FIELD_TYPES[self.field_type]
        return len(self.data) // (int(number[1]) * numbers_per_value)


@dataclass(frozen=True)
class TiffHeader:
    """The tags of a TIFF's first image."""

    path: Path
    tags: dict[int, Tag]

    def values(self, code: int, default: tuple[int, ...] = ()) -> tuple[Any, ...]:
        return tuple(self.tags[code].values.tolist()) if code in self.tags else default

    def get_int(self, code: int, default: int | None = None) -> int:
        """A single number.

        Raises:
            InputError: it is missing and has no default.
        """
        values = self.values(code)
        if values:
            return int(values[0])
        if default is None:
            raise InputError(f"{self.path}: the TIFF lacks its tag {code}; expected a whole header. Copy it again.")
        return default

    @property
    def geo_tags(self) -> tuple[Tag, ...]:
        return tuple(self.tags[code] for code in _GEO_TAGS if code in self.tags)

    @property
    def is_tiled(self) -> bool:
        return TILE_OFFSETS in self.tags

    @property
    def segment_shape(self) -> tuple[int, int]:
        """(rows, columns) of one tile or strip."""
        if self.is_tiled:
            return self.get_int(TILE_HEIGHT), self.get_int(TILE_WIDTH)
        height = self.get_int(HEIGHT)
        return min(self.get_int(ROWS_PER_STRIP, height), height), self.get_int(WIDTH)


def is_tiff(start: bytes) -> bool:
    """Whether a file that starts so is a TIFF or BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff_header(path: Path) -> TiffHeader:
    """The first image's tags, checked against the length of the file.

    Raises:
        InputError: values, tiles or strips that lie beyond the end of the file, or too few of them.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        try:
            tags = _read_directory(file, length)
        except (struct.error, ValueError) as error:
            raise InputError(
                f"{path}: the TIFF's header is damaged ({error}); expected a whole file. Copy it again."
            ) from error
    header = TiffHeader(path, tags)
    _check_segments(header, length)
    return header


def _read_directory(file: BinaryIO, length: int) -> dict[int, Tag]:
    """The directory that the file's first bytes point at."""
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    (offset,) = struct.unpack_from(f"{order}Q", start, 8) if big else struct.unpack_from(f"{order}I", start, 4)
    file.seek(_check_offset(offset, 8, length))
    size = 8 if big else 2
    (number,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(size))
    width = 20 if big else 12
    table = file.read(_check_offset(offset + size, number * width, length) and number * width)
    tags = {}
    for i in range(number):
        entry = table[i * width : (i + 1) * width]
        code, field_type, count = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", entry)
        if field_type not in _FIELD_TYPES:
            continue  # the specification asks readers to pass over kinds that they do not know
        number_format, numbers_per_value = _FIELD_TYPES[field_type]
        size, inline = count * numbers_per_value * int(number_format[1]), entry[12:] if big else entry[8:]
        if size > len(inline):
            (offset,) = struct.unpack(f"{order}{'Q' if big else 'I'}", inline)
            file.seek(_check_offset(offset, size, length))
            inline = file.read(size)
        values = np.frombuffer(inline[:size], f"{order}{number_format}")
        tags[code] = Tag(code, field_type, values.astype(f"<{number_format}").tobytes())
    return tags


def _check_offset(offset: int, size: int, length: int) -> int:
    if offset < 8 or offset + size > length:
        raise ValueError(f"bytes {offset} to {offset + size} are missing, the file has {length}")
    return offset


def _check_segments(header: TiffHeader, length: int) -> None:
    """Whether every tile or strip is there and lies inside the file; places of 0 are tiles left out on purpose."""
    what = "tile" if header.is_tiled else "strip"
    offsets = np.array(header.values(TILE_OFFSETS if header.is_tiled else STRIP_OFFSETS), dtype=np.uint64)
    counts = np.array(header.values(TILE_COUNTS if header.is_tiled else STRIP_COUNTS), dtype=np.uint64)
    rows, columns = header.segment_shape
    if rows < 1 or columns < 1:
        raise InputError(f"{header.path}: its {what}s have {columns}x{rows} pixels; expected at least one. Export it.")
    planes = header.get_int(SAMPLES_PER_PIXEL, 1) if header.get_int(PLANAR_CONFIGURATION, 1) == 2 else 1
    expected = -(-header.get_int(HEIGHT) // rows) * -(-header.get_int(WIDTH) // columns) * planes
    if len(offsets) != expected or len(counts) != expected:
        raise InputError(
            f"{header.path}: its header lists {len(offsets)} {what}s; expected {expected} for its size. The file is "
            "damaged; copy or export it again."
        )
    beyond = np.flatnonzero((offsets > length) | (counts > length) | (offsets + counts > length))
    if len(beyond):
        first = beyond[0]
        raise InputError(
            f"{header.path}: the file is truncated: it has {length} bytes, but {len(beyond)} of {expected} {what}s lie "
            f"beyond them, the first at {offsets[first]}. Copy it again."
        )
