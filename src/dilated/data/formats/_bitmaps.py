"""Masks as annotation tools encode them in text: PNGs in base64, and Label Studio's packed runs."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._shapes import paste_mask
from dilated.data.images import get_pixel_limit, open_image
from dilated.data.masks import Mask
from dilated.errors import InputError

_RLE_HEADER = 32 + 5 + 4 * 4  # bits


@dataclass(frozen=True, eq=False)
class EncodedPNG:
    """A mask of a part of the image as a PNG in base64, which zlib may have compressed once more.

    Args:
        text: the base64.
        origin: left and top of the part; None for a mask of the whole image.
    """

    text: str
    origin: tuple[int, int] | None

    def __call__(self, size: tuple[int, int]) -> Mask:
        """The mask (H, W): what is opaque where there is transparency, otherwise what is not black.

        Raises:
            InputError: text that is no base64, or holds no image, or not one of the whole image's size.
        """
        try:
            content = base64.b64decode(self.text, validate=True)
            if not content.startswith(b"\x89PNG"):
                content = _decompress(content)
        except (binascii.Error, ValueError, zlib.error) as error:
            raise InputError(f"its bitmap is not base64 of a PNG ({error})", hint="export it again") from error
        try:
            with open_image(io.BytesIO(content)) as image:
                if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                    pixels = np.asarray(image.convert("RGBA"))
                    is_opaque = bool((pixels[:, :, 3] == 255).all())
                    on = (pixels[:, :, :3] > 0).any(axis=2) if is_opaque else pixels[:, :, 3] > 0
                else:
                    pixels = np.asarray(image)
                    on = (pixels > 0).reshape(*pixels.shape[:2], -1).any(axis=2)
        except InputError as error:
            raise InputError(f"its bitmap: {error.message}", error.hint) from error
        mask: Mask = np.asarray(on, dtype=np.bool_)
        if self.origin is None and mask.shape != size:
            raise InputError(f"its bitmap is of {mask.shape[1]}x{mask.shape[0]}, and its image of {size[1]}x{size[0]}")
        return paste_mask(mask, *(self.origin or (0, 0)), size)


@dataclass(frozen=True, eq=False)
class PackedRuns:
    """A mask of the whole image as Label Studio's brush stores it: packed runs of RGBA bytes, of which alpha is read.

    32 bits give the number of values, 5 their width less 1, 4 times 4 the widths of run lengths less 1. Then come
    blocks: one bit for a run or single values, two for the width of the length, the length less 1, and the values.
    """

    content: bytes

    def __call__(self, size: tuple[int, int]) -> Mask:
        """The mask (H, W).

        Raises:
            InputError: runs of an image of another size, or that end too early.
        """
        count = 4 * size[0] * size[1]
        bits = "".join(f"{byte:08b}" for byte in self.content)
        declared = int(bits[:32] or "0", 2)
        if len(bits) < _RLE_HEADER or declared != count:
            raise InputError(f"its brush mask has {declared} values, and its image {size[1]}x{size[0]} has {count}")
        values = np.zeros(count, dtype=np.uint32)
        try:
            _unpack_runs(bits, values)
        except ValueError as error:  # an empty text, at the end
            raise InputError("its brush mask ends too early", hint="export it again") from error
        mask: Mask = values[3::4].reshape(size) > 0
        return mask


def _unpack_runs(bits: str, values: NDArray[np.uint32]) -> None:
    """Fill the values from packed runs.

    Raises:
        ValueError: the bits end too early.
    """
    width = int(bits[32:37], 2) + 1
    length_widths = [int(bits[at : at + 4], 2) + 1 for at in range(37, _RLE_HEADER, 4)]
    position, start = _RLE_HEADER, 0
    while start < len(values):
        is_run = bits[position : position + 1] == "1"
        length_width = length_widths[int(bits[position + 1 : position + 3], 2)]
        position += 3
        end = start + 1 + int(bits[position : position + length_width], 2)
        position += length_width
        number = 1 if is_run else end - start
        if position + number * width > len(bits):
            raise ValueError
        read = [int(bits[at : at + width], 2) for at in range(position, position + number * width, width)]
        values[start:end] = read[0] if is_run else read[: len(values) - start]
        position += number * width
        start = end


def _decompress(content: bytes) -> bytes:
    """What zlib compressed; of at most one byte per pixel that an image may have.

    Raises:
        zlib.error: damaged, or more.
    """
    stream = zlib.decompressobj()
    result = stream.decompress(content, get_pixel_limit())
    if stream.unconsumed_tail or not stream.eof:
        raise zlib.error("cut off, or too large")
    return result
