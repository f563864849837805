"""The header of a TIFF, BigTIFF or GeoTIFF: its tags, read without decoding any pixel, and what they say of the bands.

    header = read_tiff_header(path, file)
    header.get_int(WIDTH), header.get_int(HEIGHT)
    read_layout(header).dtype                            # uint8 or uint16

It is read before any library opens the file, so that a truncated file is found before hours of work, not after them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError

MOST_SAMPLES = 65535
"""Bands of a TIFF, whose number has 16 bits."""

# The codes of TIFF 6.0, and of GeoTIFF and GDAL.
SUBFILE, WIDTH, HEIGHT, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
DESCRIPTION, STRIP_OFFSETS, ORIENTATION, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_COUNTS = 270, 273, 274, 277, 278, 279
PLANAR_CONFIGURATION, SOFTWARE, COLORMAP = 284, 305, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, GDAL_METADATA, GDAL_NODATA = 338, 339, 42112, 42113
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_JPEG = 7
_ANY_DTYPES = {(2, 16): np.int16, (3, 16): np.float16, (3, 32): np.float32, (3, 64): np.float64}
"""By sample format and bits: numbers whose range is not fixed."""
_SCALE_HINT = "scale them first, for example with gdal_translate -ot Byte -scale"

_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)  # scale, tie points, transform, keys, RPCs

ASCII, SHORT, LONG, LONG8 = 2, 3, 4, 16
_CLASSIC_NUMBERS = ("u1", "u1", "u2", "u4", "u4", "i1", "u1", "i2", "i4", "i4", "f4", "f8", "u4")
_NUMBERS = dict(enumerate(_CLASSIC_NUMBERS, 1)) | {16: "u8", 17: "i8", 18: "u8"}
"""By field type: the numpy type of its numbers."""
_RATIONALS = (5, 10)
"""Field types of which two numbers make one value."""


@dataclass(frozen=True)
class Tag:
    """One entry of a TIFF directory: its code, its field type, and its values as little-endian bytes.

    Example:
        >>> Tag.from_values(WIDTH, LONG, [640]).values.tolist(), Tag.from_text(SOFTWARE, "dilated").count
        ([640], 8)
    """

    code: int
    field_type: int
    data: bytes

    @classmethod
    def from_values(cls, code: int, field_type: int, values: Any) -> Tag:
        return cls(code, field_type, np.asarray(values).astype(f"<{_NUMBERS[field_type]}").tobytes())

    @classmethod
    def from_text(cls, code: int, text: str) -> Tag:
        return cls(code, ASCII, text.encode() + b"\0")

    @property
    def values(self) -> NDArray[Any]:
        return np.frombuffer(self.data, f"<{_NUMBERS[self.field_type]}")

    @property
    def count(self) -> int:
        return len(self.data) // _value_bytes(self.field_type)


@dataclass(frozen=True)
class TiffHeader:
    """The tags of a TIFF's first image."""

    path: Path
    tags: dict[int, Tag]

    def get_values(self, code: int, default: tuple[int, ...] = ()) -> tuple[Any, ...]:
        return tuple(self.tags[code].values.tolist()) if code in self.tags else default

    def get_int(self, code: int, default: int | None = None) -> int:
        """Return the single number of a tag.

        Raises:
            InputError: the tag is missing and there is no default.
        """
        values = self.get_values(code)
        if values:
            return int(values[0])
        if default is None:
            raise InputError(f"{self.path}: the TIFF lacks its tag {code}", hint="copy the file again")
        return default

    @property
    def geo_tags(self) -> tuple[Tag, ...]:
        return tuple(self.tags[code] for code in _GEO_TAGS if code in self.tags)

    @property
    def is_tiled(self) -> bool:
        return TILE_OFFSETS in self.tags

    @property
    def has_planes(self) -> bool:
        """Whether each band is stored on its own."""
        return self.get_int(PLANAR_CONFIGURATION, 1) == 2

    @property
    def is_uncompressed(self) -> bool:
        return self.get_int(COMPRESSION, 1) == 1

    @property
    def segment_offsets(self) -> tuple[int, ...]:
        """Where each tile or strip begins in the file; 0 for one left out on purpose."""
        return self.get_values(TILE_OFFSETS if self.is_tiled else STRIP_OFFSETS)

    @property
    def segment_shape(self) -> tuple[int, int]:
        """(rows, columns) of one tile or strip."""
        if self.is_tiled:
            return self.get_int(TILE_HEIGHT), self.get_int(TILE_WIDTH)
        height = self.get_int(HEIGHT)
        return min(self.get_int(ROWS_PER_STRIP, height), height), self.get_int(WIDTH)


def is_tiff(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a TIFF or BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff_header(path: Path, file: BinaryIO) -> TiffHeader:
    """Read the first image's tags and check them against the length of the file.

    Args:
        path: the name for error messages.
        file: the content, open for reading.

    Raises:
        InputError: values, tiles or strips that lie beyond the end of the file, or too few of them.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        tags = _read_directory(file, length)
    except (struct.error, ValueError) as error:
        raise InputError(f"{path}: the TIFF's header is damaged ({error})", hint="copy the file again") from error
    header = TiffHeader(path, tags)
    _check_segments(header, length)
    return header


def _read_directory(file: BinaryIO, length: int) -> dict[int, Tag]:
    """Read the directory that the file's first bytes point at."""
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
        if field_type not in _NUMBERS:
            continue  # the specification asks readers to skip field types that they do not know
        size, inline = count * _value_bytes(field_type), entry[12:] if big else entry[8:]
        if size > len(inline):
            (offset,) = struct.unpack(f"{order}{'Q' if big else 'I'}", inline)
            file.seek(_check_offset(offset, size, length))
            inline = file.read(size)
        values = np.frombuffer(inline[:size], f"{order}{_NUMBERS[field_type]}")
        tags[code] = Tag.from_values(code, field_type, values)
    return tags


def _value_bytes(field_type: int) -> int:
    return int(_NUMBERS[field_type][1]) * (2 if field_type in _RATIONALS else 1)


def _check_offset(offset: int, size: int, length: int) -> int:
    if offset < 8 or offset + size > length:
        raise ValueError(f"bytes {offset} to {offset + size} are missing, the file has {length}")
    return offset


def _check_segments(header: TiffHeader, length: int) -> None:
    """Check that every tile or strip lies inside the file; an offset of 0 is a tile left out on purpose."""
    what = "tile" if header.is_tiled else "strip"
    offsets = np.array(header.segment_offsets, dtype=np.uint64)
    counts = np.array(header.get_values(TILE_COUNTS if header.is_tiled else STRIP_COUNTS), dtype=np.uint64)
    rows, columns = header.segment_shape
    if rows < 1 or columns < 1:
        raise InputError(f"{header.path}: its {what}s have {columns}x{rows} pixels", hint="export the image again")
    planes = header.get_int(SAMPLES_PER_PIXEL, 1) if header.has_planes else 1
    expected = -(-header.get_int(HEIGHT) // rows) * -(-header.get_int(WIDTH) // columns) * planes
    if len(offsets) != expected or len(counts) != expected:
        raise InputError(
            f"{header.path}: its header lists {len(offsets)} {what}s and the bytes of {len(counts)}; expected "
            f"{expected} for its size",
            hint="copy the file again, or write it anew, for example with gdal_translate",
        )
    beyond = np.flatnonzero((offsets > length) | (counts > length) | (offsets + counts > length))
    if len(beyond):
        first = beyond[0]
        raise InputError(
            f"{header.path}: the file is truncated: it has {length} bytes, but {len(beyond)} of {expected} {what}s lie "
            f"beyond its end, the first at {offsets[first]}",
            hint="copy the file again",
        )


@dataclass(frozen=True)
class TiffLayout:
    """The bands of a TIFF."""

    bands: int
    """How many bands the file has."""
    dtype: np.dtype[Any]
    """uint8 or uint16; int16, float16, float32 or float64 where any range is read."""
    color_bands: tuple[int, ...]
    """The bands that are not alpha, counted from 1."""
    alpha: int | None
    """The alpha band, counted from 1."""
    color_table: NDArray[np.uint8] | None
    """(values, 3) RGB by value, where a value is not simply a brightness."""

    def apply_color_table(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn (H, W, B) values of the file into brightness: (H, W, B) as they are, or (H, W, 3) from the table."""
        return values if self.color_table is None else self.color_table[values[:, :, 0]]


def read_layout(header: TiffHeader, any_range: bool = False) -> TiffLayout:
    """Read from the tags what a TIFF's bands mean.

    Args:
        any_range: whether floats and signed integers are read too, whose range is not fixed.

    Raises:
        InputError: numbers without an agreed range (floats, signed or long integers), a color space other than grey,
            palette and RGB, or an image that its orientation rotates.
    """
    path = header.path
    bands = header.get_int(SAMPLES_PER_PIXEL, 1)
    bits, sample_formats = set(header.get_values(BITS_PER_SAMPLE, (1,))), set(header.get_values(SAMPLE_FORMAT, (1,)))
    photometric, orientation = header.get_int(PHOTOMETRIC), header.get_int(ORIENTATION, 1)
    if any_range and (sample_formats - {1, 4} or max(bits) > 16):
        dtype = _ANY_DTYPES.get((max(sample_formats), max(bits)))
        if dtype is not None and len(sample_formats) == len(bits) == 1:
            return _describe_bands(header, bands, np.dtype(dtype))
    if sample_formats - {1, 4}:
        kind = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}.get(
            max(sample_formats), "unknown numbers"
        )
        raise InputError(
            f"{path}: found {kind}, whose range is not fixed; expected unsigned integers of 8 or 16 bits",
            hint=_SCALE_HINT,
        )
    gray = bands == 1 and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    if bits not in ({8}, {16}) and not (bits in ({1}, {2}, {4}) and bands == 1):
        raise InputError(
            f"{path}: found bands of {str(sorted(bits))[:100]} bits; expected 8 or 16, the same in all bands",
            hint=_SCALE_HINT,
        )
    supported = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)
    if photometric not in supported and not (photometric == YCBCR and header.get_int(COMPRESSION, 1) == _JPEG):
        name = {_CMYK: "CMYK", YCBCR: "YCbCr without JPEG", 8: "CIELab"}.get(photometric, f"number {photometric}")
        raise InputError(
            f"{path}: found the color space {name}; expected grey, palette or RGB", hint="convert it to RGB first"
        )
    if orientation != 1:
        raise InputError(
            f"{path}: found a TIFF of orientation {orientation}, which is not rotated when read in windows; expected "
            "orientation 1",
            hint="save it upright",
        )
    (depth,) = bits
    color_table = None
    if photometric == _PALETTE:
        color_table = _read_palette(header, 1 << depth)
    elif gray and photometric == _WHITE_IS_ZERO:
        if depth == 16:
            raise InputError(f"{path}: found 16-bit grey in which 0 is white; expected black", hint="invert it first")
        color_table = make_gray_table(depth)[::-1]
    elif gray and depth < 8:
        color_table = make_gray_table(depth)
    return _describe_bands(header, bands, np.dtype(np.uint16 if depth == 16 else np.uint8), color_table)


def _describe_bands(
    header: TiffHeader, bands: int, dtype: np.dtype[Any], color_table: NDArray[np.uint8] | None = None
) -> TiffLayout:
    extra = header.get_values(EXTRA_SAMPLES)
    alphas = [bands - len(extra) + i + 1 for i, kind in enumerate(extra) if kind in (1, 2)]
    if not 1 <= bands <= MOST_SAMPLES:
        raise InputError(f"{header.path}: found a TIFF of {bands} bands", hint=f"give 1 to {MOST_SAMPLES:,}")
    color_bands = tuple(band for band in range(1, bands + 1) if band not in alphas)
    return TiffLayout(bands, dtype, color_bands, alphas[0] if alphas else None, color_table)


def make_gray_table(bits: int) -> NDArray[np.uint8]:
    """Spread the values of `bits` bits over 0 to 255: (values, 3) RGB, black first.

    Example:
        >>> make_gray_table(2)[:, 0].tolist()
        [0, 85, 170, 255]
    """
    values = np.linspace(0, 255, 1 << bits).round().astype(np.uint8)
    return np.repeat(values[:, None], 3, axis=1)


def _read_palette(header: TiffHeader, size: int) -> NDArray[np.uint8]:
    values = np.array(header.get_values(COLORMAP), dtype=np.uint16)
    if len(values) != 3 * size:
        raise InputError(
            f"{header.path}: found a palette of {len(values)} numbers; expected {3 * size}",
            hint="export the image as RGB",
        )
    return (values.reshape(3, size).T >> 8).astype(np.uint8)
