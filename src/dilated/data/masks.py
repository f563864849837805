"""Masks as polygons and as run lengths, COCO's two forms, and as Label Studio's packed runs.

    >>> mask = rasterize_polygon(np.array([[0, 0], [3, 0], [0, 3]], dtype=float), (2, 3))
    >>> runs = encode_rle(mask)
    >>> runs, compress_rle(runs)
    ([0, 3, 3], '033')

A pixel belongs to a polygon if its center does (even-odd; a center on the left edge does, on the right one does not).
pycocotools rounds corners to fifths of a pixel first, so single pixels at the outline may differ from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.label_ids import LabelArray

Mask = NDArray[np.bool_]

_LENGTH_WIDTHS = (3, 4, 8, 16)  # bits
_LONGEST_RUN = 1 << _LENGTH_WIDTHS[-1]  # values
_PACKED_HEADER = 32 + 5 + 4 * len(_LENGTH_WIDTHS)  # bits


def rasterize_polygon(polygon: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """The pixels whose center is in a polygon, even-odd.

    Args:
        polygon: (n, 2), x and y of each corner; pixel (0, 0) covers 0 to 1 along both.
        size: (H, W) of the mask.

    Returns:
        (H, W) bool.

    Example:
        >>> rasterize_polygon(np.array([[0, 0], [3, 0], [0, 3]], dtype=float), (2, 3)).astype(int).tolist()
        [[1, 1, 0], [1, 0, 0]]
    """
    height, width = size
    ends = np.stack([polygon, np.roll(polygon, -1, axis=0)])
    upwards = ends[0, :, 1] > ends[1, :, 1]
    ends[:, upwards] = ends[::-1, upwards]  # so that an edge that two polygons share is rounded alike in both
    start, end = ends
    first = np.ceil(np.clip(start[:, 1] - 0.5, 0, height)).astype(np.int64)
    count = (
        np.ceil(np.clip(end[:, 1] - 0.5, 0, height)).astype(np.int64) - first
    )  # rows that an edge crosses, maybe none
    top, bottom = int(first.min()), int((first + count).max())
    edge = np.repeat(np.arange(len(polygon)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    step = (end - start)[edge]
    crossing = start[edge, 0] + (row + 0.5 - start[edge, 1]) * step[:, 0] / step[:, 1]
    column = np.ceil(np.clip(crossing - 0.5, 0, width)).astype(np.int64)
    place = (row - top) * (width + 1) + column
    crossings = np.bincount(place, minlength=(bottom - top) * (width + 1)).reshape(-1, width + 1)
    mask = np.zeros(size, dtype=np.bool_)
    mask[top:bottom] = np.logical_xor.accumulate(crossings[:, :width] % 2 == 1, axis=1)
    return mask


def rasterize_line(points: NDArray[np.float64], width: float, size: tuple[int, int]) -> Mask:
    """The pixels whose center is at most half a width from a line, with round ends and corners.

    Args:
        points: (n, 2), x and y of its corners in pixels; a single point is a disc.
        width: in pixels.
        size: (H, W) of the mask.

    Returns:
        (H, W) bool.

    Example:
        >>> rasterize_line(np.array([[0, 1], [3, 1]], dtype=float), 2, (3, 4)).astype(int).tolist()
        [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    """
    mask = np.zeros(size, dtype=np.bool_)
    radius = width / 2
    starts, ends = (points, points) if len(points) == 1 else (points[:-1], points[1:])
    for start, end in zip(starts, ends, strict=True):
        low = np.clip(np.floor(np.minimum(start, end) - radius), 0, size[::-1]).astype(int)
        high = np.clip(np.ceil(np.maximum(start, end) + radius), 0, size[::-1]).astype(int)
        y, x = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
        along = end - start
        length = float(along @ along)
        fraction = (
            0.0 if length == 0 else np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1)
        )
        distance = (x - start[0] - fraction * along[0]) ** 2 + (y - start[1] - fraction * along[1]) ** 2
        mask[low[1] : high[1], low[0] : high[0]] |= distance <= radius**2
    return mask


def merge_masks(
    masks: Iterable[tuple[int, Mask]], size: tuple[int, int], background: int = 0, smaller_on_top: bool = True
) -> LabelArray:
    """Draw masks over each other as a label map: the smaller on top, of equals the later.

    Args:
        masks: the value of each, and the mask (H, W); taken one by one and kept cropped, for there may be thousands.
        size: (H, W).
        background: the value where there is no mask.
        smaller_on_top: whether masks are sorted by size first; otherwise the later is on top.

    Returns:
        (H, W) uint8, or uint16 where a value is above 255.

    Example:
        >>> small, large = np.array([[True, False, False]]), np.array([[True, True, False]])
        >>> merge_masks([(5, small), (7, large)], (1, 3)).tolist()
        [[5, 7, 0]]
    """
    cropped: list[tuple[int, int, tuple[slice, slice], Mask]] = []
    for value, mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            place = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
            cropped.append((int(mask.sum()), value, place, mask[place].copy()))
    greatest = max([background, *(value for _, value, _, _ in cropped)])
    label: LabelArray = np.full(size, background, dtype=np.uint8 if greatest <= 255 else np.uint16)
    if smaller_on_top:
        cropped.sort(key=lambda entry: entry[0], reverse=True)
    for _, value, place, mask in cropped:
        label[place][mask] = value
    return label


def encode_rle(mask: Mask) -> list[int]:
    """A mask's runs, column by column: how many pixels are off, then on, then off, ...

    Example:
        >>> encode_rle(np.array([[True, False], [True, False]]))
        [0, 2, 2]
    """
    flat = mask.ravel(order="F")
    ends = [*(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), flat.size]
    runs = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [0, *runs] if flat.size and flat[0] else runs


def decode_rle(runs: Sequence[int] | NDArray[np.integer], size: tuple[int, int]) -> Mask:
    """The mask (H, W) of runs, which `encode` undoes.

    Raises:
        InputError: runs that are no numbers, are negative, or do not fill the mask.
    """
    height, width = size
    counts = np.asarray(runs)
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any() or (counts > height * width).any():
        raise InputError(f"its runs are not all whole numbers from 0 to {height * width}")
    if counts.sum() != height * width:
        raise InputError(f"its runs have {counts.sum()} pixels, and the mask of {width}x{height} has {height * width}")
    on = np.arange(len(counts)) % 2 == 1
    return np.repeat(on, counts).reshape(width, height).T


def compress_rle(runs: Sequence[int]) -> str:
    """Runs as COCO's compressed text: from the fourth on as differences to the last but one, five bits a character.

    Example:
        >>> compress_rle([6, 1, 40, 4, 5, 4])
        '61X13mN0'
    """
    text = []
    for i, run in enumerate(runs):
        rest = run - runs[i - 2] if i > 2 else run
        while not -16 <= rest < 16:
            text.append(chr(48 + (rest & 31 | 32)))
            rest >>= 5
        text.append(chr(48 + (rest & 31)))
    return "".join(text)


def decompress_rle(text: str) -> list[int]:
    """The runs of COCO's compressed text, which `compress_rle` undoes.

    Raises:
        InputError: a character that is none of its 64, or a text that ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise InputError(f"its compressed mask has the character {character!r}, which is none of '0' to 'o'")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16) << shift - 4  # the number's sign is its highest bit
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise InputError("its compressed mask ends within a number")
    return runs


def encode_packed_runs(mask: Mask) -> bytes:
    """A mask as Label Studio's brush stores it: packed runs of RGBA bytes, all four 0 or 255, row by row.

    32 bits give the number of values, 5 their width less 1, 4 times 4 the widths of run lengths less 1. Then come runs:
    a bit that is 1, two for the width of the length, the length less 1, and the value.

    Args:
        mask: (H, W) bool of fewer than 2**30 pixels.

    Example:
        >>> list(encode_packed_runs(np.array([[True, True]])))
        [0, 0, 0, 8, 57, 27, 252, 255, 224]
    """
    flat = mask.ravel()
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, flat.size), np.bool_), flat[1:] != flat[:-1]]))
    lengths = 4 * np.diff(np.append(starts, flat.size))
    parts = -(-lengths // _LONGEST_RUN)  # a longer run is written as several
    values = np.repeat(flat[starts], parts)
    rest = lengths - (parts - 1) * _LONGEST_RUN
    lengths = np.full(len(values), _LONGEST_RUN)
    lengths[np.cumsum(parts) - 1] = rest
    kinds = np.searchsorted([1 << width for width in _LENGTH_WIDTHS], lengths)
    sizes = 3 + np.array(_LENGTH_WIDTHS)[kinds] + 8
    offsets = _PACKED_HEADER + np.cumsum(sizes) - sizes
    bits = np.zeros(_PACKED_HEADER + int(sizes.sum()), np.uint8)
    header = f"{4 * flat.size:032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in _LENGTH_WIDTHS)
    bits[:_PACKED_HEADER] = [int(bit) for bit in header]
    for kind, width in enumerate(_LENGTH_WIDTHS):
        chosen = kinds == kind
        codes = (4 + kind << width + 8) + (lengths[chosen] - 1 << 8) + 255 * values[chosen]
        places = np.arange(width + 11)
        bits[offsets[chosen, None] + places] = codes[:, None] >> places[::-1] & 1
    return np.packbits(bits).tobytes()
