"""PNGs of any size, unpacked row by row.

A PNG is one stream of rows, each stored as the difference from its neighbours. Pillow undoes these differences only for
whole pictures. So some rows at a time are inflated, put below the row before them as a small PNG of their own, and
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

from dilated.data.rasters.base import CONVERT, credible, rgb
from dilated.data.rasters.scratch import WHOLE, Scratch, decode_whole
from dilated.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
STRIP = 4 << 20  # bytes of rows that are unpacked at a time
PIECE = 1 << 20  # bytes of the file that are read at a time
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: grey, RGB, palette, grey and alpha, RGBA
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


class Damaged(Exception):  # noqa: N818
    """What is wrong with the file, in words."""


@dataclass
class Head:
    """What a PNG says before its pixels."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    chunks: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def row(self) -> int:
        """Bytes of a row, without the one that says how it is stored."""
        return -(-self.width * CHANNELS[self.colour] * self.depth // 8)


def open_png(path: Path, folder: Path | None) -> Scratch:
    """Unpack a PNG.

    Raises:
        InputError: a damaged or truncated file, a header that cannot be true, or an interlaced or turned picture that
            is too large to be decoded whole.
    """
    try:
        with path.open("rb") as file:
            head = _head(file)
            credible(path, head.height, head.width)
            if not head.interlaced and not _turned(head):
                return _unpacked(path, file, head, folder)
    except Damaged as error:
        raise InputError(f"{path}: the PNG is damaged ({error}); expected a whole file. Copy it again.") from error
    if head.width * head.height > WHOLE:
        raise InputError(
            f"{path}: found {head.width}x{head.height} pixels, interlaced or to be turned for viewing, which must be "
            f"decoded whole; expected at most {WHOLE:,} pixels. Make it a tiled TIFF; with the extra 'geo': "
            f"{CONVERT.format(path=path.name)}"
        )
    return decode_whole(path, folder)


def _unpacked(path: Path, file: BinaryIO, head: Head, folder: Path | None) -> Scratch:
    clear = head.colour in (4, 6) or b"tRNS" in head.chunks
    scratch = Scratch(path, head.height, head.width, 4 if clear else 3, folder)
    try:
        undo = Undo(head)
        for stored in _rows(file, head):
            scratch.append(_shown(undo(stored), head, clear))
    except BaseException:
        scratch.close()
        raise
    return scratch


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks from here on, but pixels in pieces; the checksum of each is verified."""
    while True:
        start = file.read(8)
        if len(start) < 8:
            raise Damaged("it ends early")
        length, kind = struct.unpack(">I4s", start)
        sum_, left = zlib.crc32(kind), length
        if kind != b"IDAT" and length > PIECE:
            raise Damaged(f"its chunk {kind!r} claims {length} bytes")
        while True:
            data = file.read(min(left, PIECE))
            sum_, left = zlib.crc32(data, sum_), left - len(data)
            if left and not data:
                raise Damaged("it ends early")
            if not left:
                break
            yield kind, data
        if file.read(4) != struct.pack(">I", sum_):
            raise Damaged(f"the checksum of its chunk {kind!r} is wrong")
        yield kind, data


def _head(file: BinaryIO) -> Head:
    """The chunks before the first pixels, where the file is left."""
    file.seek(len(SIGNATURE))
    head, place = None, file.tell()
    while file.read(8)[4:] != b"IDAT":
        file.seek(place)
        kind, data = next(_chunks(file))
        if head is None:
            if kind != b"IHDR" or len(data) != 13:
                raise Damaged("it does not begin with its header")
            width, height, depth, colour, compression, filtered, interlaced = struct.unpack(">IIBBBBB", data)
            if depth not in DEPTHS.get(colour, ()) or compression or filtered or interlaced > 1:
                raise Damaged(f"its header says colour type {colour} of {depth} bits")
            head = Head(width, height, depth, colour, bool(interlaced))
        elif kind == b"IEND":
            raise Damaged("it has no pixels")
        head.chunks[kind] = data
        place = file.tell()
    if head is None or (head.colour == 3 and b"PLTE" not in head.chunks):
        raise Damaged("its header or palette is missing")
    file.seek(place)
    return head


def _turned(head: Head) -> bool:
    if b"eXIf" not in head.chunks:
        return False
    exif = Image.Exif()
    exif.load(head.chunks[b"eXIf"])
    return bool(exif.get(0x0112, 1) != 1)


def _rows(file: BinaryIO, head: Head) -> Iterator[NDArray[np.uint8]]:
    """The rows as they are stored, (N, 1 + row) uint8: how each is stored, then its bytes."""
    step = head.row + 1
    several = max(1, STRIP // step)
    inflate, rest, done = zlib.decompressobj(), bytearray(), 0
    for kind, data in _chunks(file):
        if kind == b"IEND":
            break
        if kind == b"eXIf":
            head.chunks[kind] = data
            if _turned(head):
                raise Damaged("the note that it is to be turned comes after the pixels; save it upright")
        while kind == b"IDAT" and data and not inflate.eof:
            try:
                rest += inflate.decompress(data, STRIP)
            except zlib.error as error:
                raise Damaged(str(error)) from error
            data = inflate.unconsumed_tail
            while len(rest) >= step and (len(rest) >= several * step or done + len(rest) // step >= head.height):
                number = min(several, len(rest) // step, head.height - done)
                if not number:
                    raise Damaged("it has more rows than its header says")
                yield np.frombuffer(bytes(rest[: number * step]), np.uint8).reshape(number, step)
                del rest[: number * step]
                done += number
    if done < head.height or not inflate.eof:
        raise Damaged(f"it has {done + len(rest) // step} whole rows of {head.height}, or no checksum of them")


class Undo:
    """Undoes the differences in which rows are stored, from the first row to the last.

    A byte differs from that of the same place in the pixel before it or above it. So the bytes of one place, such as
    all high bytes of 16-bit channels, can be undone without the others, and any pixel is one of 1 to 4 bytes to pillow.
    """

    def __init__(self, head: Head) -> None:
        pixel = max(1, CHANNELS[head.colour] * head.depth // 8)
        self.parts = [slice(None)]
        if pixel > 4:
            self.parts, pixel = [slice(0, None, 2), slice(1, None, 2)], pixel // 2
        self.pixel = pixel
        self.above: list[NDArray[np.uint8] | None] = [None] * len(self.parts)

    def __call__(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, 1 + row) as stored -> (N, row)."""
        rows = np.empty((len(stored), stored.shape[1] - 1), np.uint8)
        for i, part in enumerate(self.parts):
            rows[:, part] = self._undone(stored[:, :1], stored[:, 1:][:, part], i)
            self.above[i] = rows[-1, part].copy()
        return rows

    def _undone(self, ways: NDArray[np.uint8], stored: NDArray[np.uint8], part: int) -> NDArray[np.uint8]:
        if ways.max() > 4:
            raise Damaged(f"a row is stored in the unknown way {ways.max()}")
        lines = np.concatenate((ways, stored), axis=1)
        above = self.above[part]
        if above is not None:
            lines = np.concatenate((np.concatenate(([np.uint8(0)], above))[None], lines))
        colour = {1: 0, 2: 4, 3: 2, 4: 6}[self.pixel]
        header = struct.pack(">IIBBBBB", stored.shape[1] // self.pixel, len(lines), 8, colour, 0, 0, 0)
        small = b"".join(
            struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 0)), (b"IEND", b""))
        )
        with Image.open(io.BytesIO(SIGNATURE + small)) as picture:
            values = np.asarray(picture).reshape(len(lines), -1)
        return values[0 if above is None else 1 :]


def _shown(rows: NDArray[np.uint8], head: Head, clear: bool) -> NDArray[np.uint8]:
    """Rows of bytes -> pixels as `read_image` has them, (N, W, 3), or (N, W, 4) with alpha where `clear`."""
    key = np.frombuffer(head.chunks.get(b"tRNS", b""), np.uint8)
    values: NDArray[Any]
    if head.depth == 16:
        values = rows.view(">u2").astype(np.uint16)
    elif head.depth == 8:
        values = rows
    else:
        bits = np.unpackbits(rows, axis=1).reshape(len(rows), -1, head.depth)
        values = (bits << np.arange(head.depth - 1, -1, -1, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
        values = values[:, : head.width]
    values = values.reshape(len(rows), head.width, CHANNELS[head.colour])
    if head.colour == 3:
        palette = np.zeros((256, 4), np.uint8)
        palette[:, 3] = 255
        listed = np.frombuffer(head.chunks[b"PLTE"], np.uint8)
        if len(listed) % 3 or not 3 <= len(listed) <= 768 or len(key) > 256:
            raise Damaged(f"its palette has {len(listed)} bytes")
        palette[: len(listed) // 3, :3] = listed.reshape(-1, 3)
        palette[: len(key), 3] = key
        return palette[values[:, :, 0]][:, :, : 4 if clear else 3]
    number = 1 if head.colour in (0, 4) else 3
    colours = values[:, :, :number]
    if head.depth < 8:
        shown = rgb(colours * np.uint8(255 // ((1 << head.depth) - 1)))
    elif head.colour == 4 and head.depth == 16:
        shown = rgb((colours >> 8).astype(np.uint8))  # pillow's rule for grey with alpha
    else:
        shown = rgb(colours)
    if not clear:
        return shown
    if values.shape[2] > number:
        alpha = values[:, :, number:] > 0
    else:
        if len(key) != 2 * number:
            raise Damaged(f"its transparent colour has {len(key)} bytes")
        alpha = (colours != key.view(">u2")).any(axis=2, keepdims=True)
    return np.concatenate((shown, alpha * np.uint8(255)), axis=2)
