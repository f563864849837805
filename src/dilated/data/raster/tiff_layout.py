"""What the numbers in a TIFF mean, from its header alone, and which of them are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.raster.tags import (
    BITS_PER_SAMPLE,
    COLORMAP,
    COMPRESSION,
    EXTRA_SAMPLES,
    ORIENTATION,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SAMPLES_PER_PIXEL,
    TiffHeader,
)
from dilated.errors import InputError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
JPEG = 7


@dataclass(frozen=True)
class TiffLayout:
    """The bands of a TIFF.

    Args:
        bands: how many there are.
        dtype: uint8 or uint16.
        color: those that are not alpha, counted from 1.
        alpha: the one that is, or None.
        table: (values, 3) uint8, what each value looks like, where it is not simply a brightness.
    """

    bands: int
    dtype: np.dtype[Any]
    color_bands: tuple[int, ...]
    alpha: int | None
    color_table: NDArray[np.uint8] | None

    def apply_color_table(self, values: NDArray[Any]) -> NDArray[Any]:
        """(H, W, B) as in the file -> brightnesses: (H, W, B) as it is, or (H, W, 3) from the table."""
        return values if self.color_table is None else self.color_table[values[:, :, 0]]


def read_layout(header: TiffHeader) -> TiffLayout:
    """The meaning of a TIFF's bands.

    Raises:
        InputError: numbers without an agreed range (floats, signed or long integers), another color space than grey,
            palette and RGB, or an image that is to be turned.
    """
    path = header.path
    bands = header.get_int(SAMPLES_PER_PIXEL, 1)
    bits, sample_formats = set(header.values(BITS_PER_SAMPLE, (1,))), set(header.values(SAMPLE_FORMAT, (1,)))
    photometric, orientation = header.get_int(PHOTOMETRIC), header.get_int(ORIENTATION, 1)
    if sample_formats - {1, 4}:
        kind = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}.get(
            max(sample_formats), "unknown"
        )
        raise InputError(
            f"{path}: found numbers of the kind: {kind}, whose range is not fixed; expected unsigned integers of 8 or "
            "16 bits. Scale them first, for example with gdal_translate -ot Byte -scale."
        )
    gray = bands == 1 and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    if bits not in ({8}, {16}) and not (bits in ({1}, {2}, {4}) and bands == 1):
        raise InputError(
            f"{path}: found bands of {sorted(bits)} bits; expected 8 or 16, alike in all bands. Convert them first, "
            "for example with gdal_translate -ot Byte -scale."
        )
    known = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE)
    if photometric not in known and not (photometric == YCBCR and header.get_int(COMPRESSION, 1) == JPEG):
        name = {CMYK: "CMYK", YCBCR: "YCbCr without JPEG", 8: "CIELab"}.get(photometric, f"number {photometric}")
        raise InputError(
            f"{path}: found the color space {name}; expected grey, palette or RGB. Convert it to RGB first."
        )
    if orientation != 1:
        raise InputError(
            f"{path}: found a TIFF that is to be turned for viewing (orientation {orientation}), which is not done in "
            "windows; expected orientation 1. Save it upright."
        )
    (depth,) = bits
    color_table = None
    if photometric == PALETTE:
        color_table = _palette_table(header, 1 << depth)
    elif gray and (photometric == WHITE_IS_ZERO or depth < 8):
        color_table = _gray_table(depth, photometric == WHITE_IS_ZERO, path)
    extra = header.values(EXTRA_SAMPLES)
    alphas = [bands - len(extra) + i + 1 for i, kind in enumerate(extra) if kind in (1, 2)]
    color_bands = tuple(band for band in range(1, bands + 1) if band not in alphas)
    return TiffLayout(
        bands, np.dtype(np.uint16 if depth == 16 else np.uint8), color_bands, alphas[0] if alphas else None, color_table
    )


def _palette_table(header: TiffHeader, size: int) -> NDArray[np.uint8]:
    values = np.array(header.values(COLORMAP), dtype=np.uint16)
    if len(values) != 3 * size:
        raise InputError(
            f"{header.path}: found a palette of {len(values)} numbers; expected {3 * size}. Export the image as RGB."
        )
    return (values.reshape(3, size).T >> 8).astype(np.uint8)


def _gray_table(depth: int, inverted: bool, path: Any) -> NDArray[np.uint8]:
    if depth == 16:
        raise InputError(f"{path}: found 16-bit grey in which 0 is white; expected 0 to be black. Invert it first.")
    values = np.linspace(0, 255, 1 << depth).round().astype(np.uint8)
    return np.repeat((255 - values if inverted else values)[:, None], 3, axis=1)
