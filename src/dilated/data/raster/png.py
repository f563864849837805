"""PNGs of any size, unpacked row by row.

A PNG is one stream of rows, each stored as the difference from its neighbours. Pillow undoes these differences only for
whole images. So some rows at a time are inflated, put below the row before them as a small PNG of their own, and
given to pillow: memory stays bounded, and the loop over bytes stays in C.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.raster.base import CONVERT_COMMAND, to_rgb, validate_size
from dilated.data.raster.scratch import MAX_DECODED_PIXELS, ScratchRaster, decode_to_scratch
from dilated.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
STRIP_BYTES = 4 << 20  # bytes of rows that are unpacked at a time
_READ_BYTES = 1 << 20  # bytes of the file that are read at a time
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type: grey, RGB, palette, grey and alpha, RGBA
_BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


class PNGDecodeError(Exception):
    """What is wrong with the file, in words."""


@dataclass
class PNGHeader:
    """What a PNG says before its pixels."""

    width: int
    height: int
    depth: int
    color_type: int
    interlaced: bool
    chunks: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, without the one that says how it is stored."""
        return -(-self.width * _CHANNELS[self.color_type] * self.depth // 8)


def open_png(path: Path, folder: Path | None) -> ScratchRaster:
    """Unpack a PNG.

    Raises:
        InputError: a damaged or truncated file, a header that cannot be true, or an interlaced or turned image that
            is too large to be decoded whole.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file)
            validate_size(path, header.height, header.width)
            if not header.interlaced and not _is_rotated(header):
                return _unpack(path, file, header, folder)
    except PNGDecodeError as error:
        raise InputError(f"{path}: the PNG is damaged ({error}); expected a whole file. Copy it again.") from error
    if header.width * header.height > MAX_DECODED_PIXELS:
        raise InputError(
            f"{path}: found {header.width}x{header.height} pixels, interlaced or to be turned for viewing, which must be "
            f"decoded whole; expected at most {MAX_DECODED_PIXELS:,} pixels. Make it a tiled TIFF; with the extra 'geo': "
            f"{CONVERT_COMMAND.format(path=path.name)}"
        )
    return decode_to_scratch(path, folder)


def _unpack(path: Path, file: BinaryIO, header: PNGHeader, folder: Path | None) -> ScratchRaster:
    has_alpha = header.color_type in (4, 6) or b"tRNS" in header.chunks
    scratch = ScratchRaster(path, header.height, header.width, 4 if has_alpha else 3, folder)
    try:
        unfilter = RowUnfilter(header)
        for filtered_rows in _iter_filtered_rows(file, header):
            scratch.append(_to_pixels(unfilter(filtered_rows), header, has_alpha))
    except BaseException:
        scratch.close()
        raise
    return scratch


def _iter_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks from here on, but pixels in pieces; the checksum of each is verified."""
    while True:
        start = file.read(8)
        if len(start) < 8:
            raise PNGDecodeError("it ends early")
        length, chunk_type = struct.unpack(">I4s", start)
        checksum, remaining = zlib.crc32(chunk_type), length
        if chunk_type != b"IDAT" and length > _READ_BYTES:
            raise PNGDecodeError(f"its chunk {chunk_type!r} claims {length} bytes")
        while True:
            data = file.read(min(remaining, _READ_BYTES))
            checksum, remaining = zlib.crc32(data, checksum), remaining - len(data)
            if remaining and not data:
                raise PNGDecodeError("it ends early")
            if not remaining:
                break
            yield chunk_type, data
        if file.read(4) != struct.pack(">I", checksum):
            raise PNGDecodeError(f"the checksum of its chunk {chunk_type!r} is wrong")
        yield chunk_type, data


def _read_header(file: BinaryIO) -> PNGHeader:
    """The chunks before the first pixels, where the file is left."""
    file.seek(len(SIGNATURE))
    header, offset = None, file.tell()
    while file.read(8)[4:] != b"IDAT":
        file.seek(offset)
        chunk_type, data = next(_iter_chunks(file))
        if header is None:
            if chunk_type != b"IHDR" or len(data) != 13:
                raise PNGDecodeError("it does not begin with its header")
            width, height, depth, color_type, compression, filtered, interlaced = struct.unpack(">IIBBBBB", data)
            if depth not in _BIT_DEPTHS.get(color_type, ()) or compression or filtered or interlaced > 1:
                raise PNGDecodeError(f"its header says color type {color_type} of {depth} bits")
            header = PNGHeader(width, height, depth, color_type, bool(interlaced))
        elif chunk_type == b"IEND":
            raise PNGDecodeError("it has no pixels")
        header.chunks[chunk_type] = data
        offset = file.tell()
    if header is None or (header.color_type == 3 and b"PLTE" not in header.chunks):
        raise PNGDecodeError("its header or palette is missing")
    file.seek(offset)
    return header


def _is_rotated(header: PNGHeader) -> bool:
    if b"eXIf" not in header.chunks:
        return False
    exif = Image.Exif()
    exif.load(header.chunks[b"eXIf"])
    return bool(exif.get(0x0112, 1) != 1)


def _iter_filtered_rows(file: BinaryIO, header: PNGHeader) -> Iterator[NDArray[np.uint8]]:
    """The rows as they are stored, (N, 1 + row) uint8: how each is stored, then its bytes."""
    row_stride = header.row_bytes + 1
    rows_per_strip = max(1, STRIP_BYTES // row_stride)
    decompressor, buffer, rows_done = zlib.decompressobj(), bytearray(), 0
    for chunk_type, data in _iter_chunks(file):
        if chunk_type == b"IEND":
            break
        if chunk_type == b"eXIf":
            header.chunks[chunk_type] = data
            if _is_rotated(header):
                raise PNGDecodeError("the note that it is to be turned comes after the pixels; save it upright")
        while chunk_type == b"IDAT" and data and not decompressor.eof:
            try:
                buffer += decompressor.decompress(data, STRIP_BYTES)
            except zlib.error as error:
                raise PNGDecodeError(str(error)) from error
            data = decompressor.unconsumed_tail
            while len(buffer) >= row_stride and (
                len(buffer) >= rows_per_strip * row_stride or rows_done + len(buffer) // row_stride >= header.height
            ):
                number = min(rows_per_strip, len(buffer) // row_stride, header.height - rows_done)
                if not number:
                    raise PNGDecodeError("it has more rows than its header says")
                yield np.frombuffer(bytes(buffer[: number * row_stride]), np.uint8).reshape(number, row_stride)
                del buffer[: number * row_stride]
                rows_done += number
    if rows_done < header.height or not decompressor.eof:
        raise PNGDecodeError(
            f"it has {rows_done + len(buffer) // row_stride} whole rows of {header.height}, or no checksum of them"
        )


class RowUnfilter:
    """Undoes the differences in which rows are stored, from the first row to the last.

    A byte differs from that of the same place in the pixel before it or above it. So the bytes of one place, such as
    all high bytes of 16-bit channels, can be undone without the others, and any pixel is one of 1 to 4 bytes to pillow.
    """

    def __init__(self, header: PNGHeader) -> None:
        pixel = max(1, _CHANNELS[header.color_type] * header.depth // 8)
        self.byte_planes = [slice(None)]
        if pixel > 4:
            self.byte_planes, pixel = [slice(0, None, 2), slice(1, None, 2)], pixel // 2
        self.pixel = pixel
        self.previous: list[NDArray[np.uint8] | None] = [None] * len(self.byte_planes)

    def __call__(self, filtered_rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, 1 + row) as stored -> (N, row)."""
        rows = np.empty((len(filtered_rows), filtered_rows.shape[1] - 1), np.uint8)
        for i, plane in enumerate(self.byte_planes):
            rows[:, plane] = self._unfilter(filtered_rows[:, :1], filtered_rows[:, 1:][:, plane], i)
            self.previous[i] = rows[-1, plane].copy()
        return rows

    def _unfilter(
        self, filter_types: NDArray[np.uint8], filtered_rows: NDArray[np.uint8], plane: int
    ) -> NDArray[np.uint8]:
        if filter_types.max() > 4:
            raise PNGDecodeError(f"a row is stored in the unknown way {filter_types.max()}")
        lines = np.concatenate((filter_types, filtered_rows), axis=1)
        previous = self.previous[plane]
        if previous is not None:
            lines = np.concatenate((np.concatenate(([np.uint8(0)], previous))[None], lines))
        color_type = {1: 0, 2: 4, 3: 2, 4: 6}[self.pixel]
        header = struct.pack(">IIBBBBB", filtered_rows.shape[1] // self.pixel, len(lines), 8, color_type, 0, 0, 0)
        png_chunks = b"".join(
            struct.pack(">I4s", len(data), chunk_type) + data + struct.pack(">I", zlib.crc32(chunk_type + data))
            for chunk_type, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 0)), (b"IEND", b""))
        )
        with Image.open(io.BytesIO(SIGNATURE + png_chunks)) as image:
            values = np.asarray(image).reshape(len(lines), -1)
        return values[0 if previous is None else 1 :]


def _to_pixels(rows: NDArray[np.uint8], header: PNGHeader, has_alpha: bool) -> NDArray[np.uint8]:
    """Rows of bytes -> pixels as `read_image` has them, (N, W, 3), or (N, W, 4) with alpha where `clear`."""
    transparency = np.frombuffer(header.chunks.get(b"tRNS", b""), np.uint8)
    values: NDArray[Any]
    if header.depth == 16:
        values = rows.view(">u2").astype(np.uint16)
    elif header.depth == 8:
        values = rows
    else:
        bits = np.unpackbits(rows, axis=1).reshape(len(rows), -1, header.depth)
        values = (bits << np.arange(header.depth - 1, -1, -1, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
        values = values[:, : header.width]
    values = values.reshape(len(rows), header.width, _CHANNELS[header.color_type])
    if header.color_type == 3:
        palette = np.zeros((256, 4), np.uint8)
        palette[:, 3] = 255
        palette_bytes = np.frombuffer(header.chunks[b"PLTE"], np.uint8)
        if len(palette_bytes) % 3 or not 3 <= len(palette_bytes) <= 768 or len(transparency) > 256:
            raise PNGDecodeError(f"its palette has {len(palette_bytes)} bytes")
        palette[: len(palette_bytes) // 3, :3] = palette_bytes.reshape(-1, 3)
        palette[: len(transparency), 3] = transparency
        return palette[values[:, :, 0]][:, :, : 4 if has_alpha else 3]
    number = 1 if header.color_type in (0, 4) else 3
    color_values = values[:, :, :number]
    if header.depth < 8:
        pixels = to_rgb(color_values * np.uint8(255 // ((1 << header.depth) - 1)))
    elif header.color_type == 4 and header.depth == 16:
        pixels = to_rgb((color_values >> 8).astype(np.uint8))  # pillow's rule for grey with alpha
    else:
        pixels = to_rgb(color_values)
    if not has_alpha:
        return pixels
    if values.shape[2] > number:
        alpha = values[:, :, number:] > 0
    else:
        if len(transparency) != 2 * number:
            raise PNGDecodeError(f"its transparent color has {len(transparency)} bytes")
        alpha = (color_values != transparency.view(">u2")).any(axis=2, keepdims=True)
    return np.concatenate((pixels, alpha * np.uint8(255)), axis=2)
