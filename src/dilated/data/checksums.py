"""Whether a label file holds what was written: the sums and sizes in it that decoders do not look at.

    with open_image(path) as image:
        require_sound(image, path)                   # before its pixels are read

Of an image, a wrong pixel is a wrong pixel. Of a label it is another class, so files are refused whose own sums say
that they were damaged. PNG has a sum for each chunk, which pillow skips where pixels are, and deflate has one for each
strip of a TIFF, which pillow goes on from.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Any

from PIL import Image

from dilated.errors import InputError

_SUMMED_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_DEFLATE = (8, 32946)
_NO_COMPRESSION = 1
_ORIENTATION, _TRANSPOSED = 274, (5, 6, 7, 8)
_BILEVEL = (2, 3, 4)  # the CCITT codes, of 1 bit by themselves
_PADDING = 3  # bytes: some writers fill strips up to a multiple of four
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR = 256, 257, 258, 259, 277, 278, 284
_STRIP_OFFSETS, _STRIP_SIZES, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 273, 279, 322, 323, 324, 325
_BLOCK = 1 << 20


def require_sound(image: Image.Image, path: Path | str) -> None:
    """Raise for a PNG or TIFF whose sums or sizes say that it is not what was written.

    Args:
        image: opened, with its pixels not yet read.

    Raises:
        InputError: a wrong sum, strips and tiles that are too few or too short, a TIFF of no stated depth, or one
            whose rows are columns.
    """
    file: IO[bytes] | None = getattr(image, "fp", None)
    if file is None or image.format not in ("PNG", "TIFF"):
        return
    if image.format == "TIFF":
        orientation = _number(image.tag_v2.get(_ORIENTATION), 1)  # type: ignore[attr-defined]
        if orientation in _TRANSPOSED and image.width != image.height:  # pillow mixes up the rows of some of them
            raise InputError(
                f"{path}: found a label of orientation {orientation}, whose rows are columns; expected rows from the "
                "top (orientation 1)",
                hint="save it again, upright",
            )
    position = file.tell()
    try:
        reason = _check_png(file) if image.format == "PNG" else _check_tiff(image, file)
    finally:
        file.seek(position)
    if reason:
        raise InputError(f"{path}: the label is damaged ({reason})", hint="copy it again from its source")


def _check_png(file: IO[bytes]) -> str:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        if kind not in _SUMMED_CHUNKS:
            file.seek(length + 4, 1)
            continue
        body = file.read(length)
        if file.read(4) != struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))):
            return f"the checksum of {kind.decode()} is wrong"
    return ""


def _check_tiff(image: Image.Image, file: IO[bytes]) -> str:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    width, height, bits = (_number(tags.get(tag), 1) for tag in (_WIDTH, _HEIGHT, _BITS))
    samples, is_planar = _number(tags.get(_SAMPLES), 1), _number(tags.get(_PLANAR), 1) == 2
    compression = _number(tags.get(_COMPRESSION), _NO_COMPRESSION)
    has_bits = bool(_numbers(tags.get(_BITS)))  # without it, a file of any depth is read as one of 1 bit
    if not has_bits and compression not in (_NO_COMPRESSION, *_DEFLATE, *_BILEVEL):
        return "BitsPerSample is missing"
    is_tiled = _TILE_OFFSETS in tags
    columns = _number(tags.get(_TILE_WIDTH), width) if is_tiled else width
    rows = _number(tags.get(_TILE_HEIGHT if is_tiled else _ROWS), height)
    rows = rows if is_tiled else min(rows, height)
    if min(columns, rows) < 1:
        return f"parts of {columns}x{rows}"
    expected = -(-width // columns) * -(-height // rows) * (samples if is_planar else 1)
    offsets = _numbers(tags.get(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS))
    sizes = _numbers(tags.get(_TILE_SIZES if is_tiled else _STRIP_SIZES))
    if min(len(offsets), len(sizes)) < expected:
        return f"{min(len(offsets), len(sizes))} strips or tiles, and {expected} are expected"
    row_bytes = -(-columns * bits * (1 if is_planar else samples) // 8)
    for i, (offset, size) in enumerate(zip(offsets[:expected], sizes, strict=False)):
        if compression == _NO_COMPRESSION:
            present = rows if is_tiled else min(rows, height - i % -(-height // rows) * rows)
            if size < present * row_bytes:
                return f"{size} bytes in strip or tile {i}, and {present * row_bytes} are expected"
            if not has_bits and size > rows * row_bytes + _PADDING:
                return f"BitsPerSample is missing, and {size} bytes are more than 1 bit per pixel takes"
        elif compression in _DEFLATE:
            file.seek(offset)
            reason = _check_deflated(file.read(size), rows * row_bytes)
            if reason:
                return f"strip or tile {i}: {reason}"
    return ""


def _check_deflated(content: bytes, most: int) -> str:
    """What is wrong with a stream of at most so many bytes; it is unpacked in blocks, none of which is kept."""
    stream, size = zlib.decompressobj(), 0
    try:
        while content and not stream.eof:
            size += len(stream.decompress(content, _BLOCK))
            if size > most:
                return f"more than {most} bytes"
            content = stream.unconsumed_tail
    except zlib.error as error:
        return str(error)
    return "" if stream.eof else "it ends before its checksum"


def _number(value: Any, default: int) -> int:
    """The first of a tag's values; what is no whole number is left to the decoder to refuse."""
    values = _numbers(value)
    return values[0] if values else default


def _numbers(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, tuple | list) else (value,)
    return tuple(int(v) for v in values if isinstance(v, int))
