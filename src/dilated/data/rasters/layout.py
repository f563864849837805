"""What the numbers in a TIFF mean, from its header alone, and which of them are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.rasters.tags import (
    BITS,
    COLORMAP,
    COMPRESSION,
    EXTRA_SAMPLES,
    ORIENTATION,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SAMPLES,
    Header,
)
from dilated.errors import InputError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
JPEG = 7


@dataclass(frozen=True)
class Layout:
    """The bands of a TIFF.

    Args:
        bands: how many there are.
        dtype: uint8 or uint16.
        colour: those that are not alpha, counted from 1.
        alpha: the one that is, or None.
        table: (values, 3) uint8, what each value looks like, where it is not simply a brightness.
    """

    bands: int
    dtype: np.dtype[Any]
    colour: tuple[int, ...]
    alpha: int | None
    table: NDArray[np.uint8] | None

    def looked_up(self, values: NDArray[Any]) -> NDArray[Any]:
        """(H, W, B) as in the file -> brightnesses: (H, W, B) as it is, or (H, W, 3) from the table."""
        return values if self.table is None else self.table[values[:, :, 0]]


def layout(header: Header) -> Layout:
    """The meaning of a TIFF's bands.

    Raises:
        InputError: numbers without an agreed range (floats, signed or long integers), another colour space than grey,
            palette and RGB, or a picture that is to be turned.
    """
    path = header.path
    bands = header.number(SAMPLES, 1)
    bits, forms = set(header.values(BITS, (1,))), set(header.values(SAMPLE_FORMAT, (1,)))
    photometric, turned = header.number(PHOTOMETRIC), header.number(ORIENTATION, 1)
    if forms - {1, 4}:
        kind = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}.get(
            max(forms), "unknown"
        )
        raise InputError(
            f"{path}: found numbers of the kind: {kind}, whose range is not fixed; expected unsigned integers of 8 or "
            "16 bits. Scale them first, for example with gdal_translate -ot Byte -scale."
        )
    grey = bands == 1 and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    if bits not in ({8}, {16}) and not (bits in ({1}, {2}, {4}) and bands == 1):
        raise InputError(
            f"{path}: found bands of {sorted(bits)} bits; expected 8 or 16, alike in all bands. Convert them first, "
            "for example with gdal_translate -ot Byte -scale."
        )
    known = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE)
    if photometric not in known and not (photometric == YCBCR and header.number(COMPRESSION, 1) == JPEG):
        name = {CMYK: "CMYK", YCBCR: "YCbCr without JPEG", 8: "CIELab"}.get(photometric, f"number {photometric}")
        raise InputError(
            f"{path}: found the colour space {name}; expected grey, palette or RGB. Convert it to RGB first."
        )
    if turned != 1:
        raise InputError(
            f"{path}: found a TIFF that is to be turned for viewing (orientation {turned}), which is not done in "
            "windows; expected orientation 1. Save it upright."
        )
    (depth,) = bits
    table = None
    if photometric == PALETTE:
        table = _palette(header, 1 << depth)
    elif grey and (photometric == WHITE_IS_ZERO or depth < 8):
        table = _greys(depth, photometric == WHITE_IS_ZERO, path)
    extra = header.values(EXTRA_SAMPLES)
    alphas = [bands - len(extra) + i + 1 for i, kind in enumerate(extra) if kind in (1, 2)]
    colour = tuple(band for band in range(1, bands + 1) if band not in alphas)
    return Layout(bands, np.dtype(np.uint16 if depth == 16 else np.uint8), colour, alphas[0] if alphas else None, table)


def _palette(header: Header, size: int) -> NDArray[np.uint8]:
    values = np.array(header.values(COLORMAP), dtype=np.uint16)
    if len(values) != 3 * size:
        raise InputError(
            f"{header.path}: found a palette of {len(values)} numbers; expected {3 * size}. Export the picture as RGB."
        )
    return (values.reshape(3, size).T >> 8).astype(np.uint8)


def _greys(depth: int, inverted: bool, path: Any) -> NDArray[np.uint8]:
    if depth == 16:
        raise InputError(f"{path}: found 16-bit grey in which 0 is white; expected 0 to be black. Invert it first.")
    values = np.linspace(0, 255, 1 << depth).round().astype(np.uint8)
    return np.repeat((255 - values if inverted else values)[:, None], 3, axis=1)
