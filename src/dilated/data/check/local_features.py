"""Points of an image that are found again in a crop, a mirror image, a rescaled or a compressed copy of it.

    features = extract_features(gray)
    features.codes                                       # one number per point; equal where the surroundings look alike

Points are extrema of differences of Gaussians in scale space (Lowe, "Distinctive image features from scale-invariant
keypoints", 2004). A point's code holds the signs of the low frequencies of a window around it (as pHash does of an
image), after the window has been turned and mirrored into a standard position, which the signs of its two lowest
frequencies define: so mirror images and quarter turns have the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.input_config import BandArray, to_display

FEATURE_SIDE = 256
"""Longest side, in pixels, of the reduction in which points are searched; smaller images stay as they are."""
CODE_BITS = 33
_POINTS_BY_OCTAVE = (48, 36, 20, 8)
_BASE_SIGMA = 1.2
_LEVELS = 5  # Gaussians per octave, at half octaves; extrema are searched in the middle two of four differences
_BLUR_BLOCK = 16  # rows; products of so few are never divided among threads, which changes their last bits
_WINDOW_SIGMAS = 6.0  # half the side of a point's window
_WINDOW_SAMPLES = 16
_FREQUENCIES = 6
_MIN_CONTRAST = 0.02  # of an extremum, in standard deviations of the image


@dataclass(frozen=True)
class LocalFeatures:
    """The points of an image, K of them.

    Args:
        codes: (K,) uint64, of `CODE_BITS` bits.
        points: (K, 3) float32: x, y and scale, in pixels of the reduction.
        poses: (K, 2, 2) int8: what turns and mirrors the window into its standard position.
        size: (H, W) of the reduction.
    """

    codes: NDArray[np.uint64]
    points: NDArray[np.float32]
    poses: NDArray[np.int8]
    size: tuple[int, int]


def reduce_to_gray(pixels: BandArray) -> NDArray[np.float32]:
    """Reduce an image to the gray values in which points are searched.

    Args:
        pixels: (H, W, 3) uint8, or (H, W, n) of any bands.

    Returns:
        (h, w) of mean 0 and standard deviation 1, or all 0; the longer side is `FEATURE_SIDE` at most.

    Example:
        >>> reduce_to_gray(np.zeros((512, 128, 3), np.uint8)).shape
        (256, 64)
    """
    height, width = pixels.shape[:2]
    ratio = min(1.0, FEATURE_SIDE / max(height, width))
    image = Image.fromarray(to_display(pixels)).convert("RGB")
    if ratio < 1:
        image = image.resize((max(1, round(width * ratio)), max(1, round(height * ratio))), Image.Resampling.BOX)
    red, green, blue = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)
    gray = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    gray -= gray.mean()
    deviation = float(gray.std())
    return gray / deviation if deviation > 0.25 else gray * 0


def extract_features(gray: NDArray[np.float32], density: float = 1.0) -> LocalFeatures:
    """Find the points of a reduction that `reduce_to_gray` gave; none where it is flat.

    Args:
        density: the fraction of points to keep, where there are very many images.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features = extract_features(reduce_to_gray(rng.integers(0, 256, (64, 64, 3), np.uint8)))
        >>> features.points.shape == (len(features.codes), 3), features.size
        (True, (64, 64))
    """
    codes, points, poses = [], [], []
    image, scale = gray, 1.0
    for octave, limit in enumerate(_POINTS_BY_OCTAVE):
        if min(image.shape) < 24:
            break
        levels = _blur_levels(image, first=octave == 0)
        extrema = _find_extrema(levels, max(1, round(limit * density)))
        if len(extrema):
            octave_codes, octave_poses = _describe_windows(levels, extrema)
            codes.append(octave_codes)
            poses.append(octave_poses)
            points.append(extrema[:, :3] * scale)
        image, scale = levels[2][::2, ::2], scale * 2
    if not codes:
        empty = np.zeros((0, 3), np.float32)
        return LocalFeatures(np.zeros(0, np.uint64), empty, np.zeros((0, 2, 2), np.int8), gray.shape)
    every = np.concatenate(points).astype(np.float32)
    return LocalFeatures(np.concatenate(codes), every, np.concatenate(poses), gray.shape)


def _blur_levels(image: NDArray[np.float32], first: bool) -> NDArray[np.float32]:
    """(_LEVELS, h, w): the image with blurs of `_BASE_SIGMA` times 1, sqrt(2), 2, ..."""
    sigmas = [_BASE_SIGMA * 2 ** (i / 2) for i in range(_LEVELS)]
    levels = np.empty((_LEVELS, *image.shape), np.float32)
    levels[0] = blur(image, (sigmas[0] ** 2 - 0.25) ** 0.5) if first else image
    for i in range(1, _LEVELS):
        levels[i] = blur(levels[i - 1], (sigmas[i] ** 2 - sigmas[i - 1] ** 2) ** 0.5)
    return levels


def blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur an image (H, W), its border's values repeated beyond it, by blocks of a banded matrix.

    Example:
        >>> (100 * blur(np.eye(3, dtype=np.float32), 1.0)).round().tolist()[1]
        [32.0, 34.0, 32.0]
    """
    band = _make_band(sigma)
    radius = (band.shape[1] - _BLUR_BLOCK) // 2
    height, width = image.shape
    down, across = -(-height // _BLUR_BLOCK), -(-width // _BLUR_BLOCK)  # blocks; the last one may reach beyond
    padded = np.empty((down * _BLUR_BLOCK + 2 * radius, width), np.float32)
    padded[:radius], padded[radius : radius + height], padded[radius + height :] = image[0], image, image[-1]
    down_stride, across_stride = padded.strides
    strides = (_BLUR_BLOCK * down_stride, down_stride, across_stride)  # blocks overlap; a view of NumPy's takes longer
    blocks = np.ndarray((down, band.shape[1], width), np.float32, padded, 0, strides)
    image = np.matmul(band, blocks).reshape(-1, width)[:height]
    padded = np.empty((height, across * _BLUR_BLOCK + 2 * radius), np.float32)
    padded[:, :radius], padded[:, radius + width :] = image[:, :1], image[:, -1:]
    padded[:, radius : radius + width] = image
    down_stride, across_stride = padded.strides
    strides = (_BLUR_BLOCK * across_stride, down_stride, across_stride)
    blocks = np.ndarray((across, height, band.shape[1]), np.float32, padded, 0, strides)
    blurred = np.empty((height, across, _BLUR_BLOCK), np.float32)
    np.matmul(blocks, band.T, out=blurred.transpose(1, 0, 2))
    return blurred.reshape(height, -1)[:, :width]


@cache
def _make_band(sigma: float) -> NDArray[np.float32]:
    """(`_BLUR_BLOCK`, `_BLUR_BLOCK` + 2 R): which blurs a block of rows with its surroundings."""
    half = _gaussian(sigma)
    kernel = np.concatenate([half[:0:-1], half])
    band = np.zeros((_BLUR_BLOCK, _BLUR_BLOCK + len(kernel) - 1), np.float32)
    for row in range(_BLUR_BLOCK):
        band[row, row : row + len(kernel)] = kernel
    return band


@cache
def _gaussian(sigma: float) -> NDArray[np.float32]:
    """The right half of a normalized Gaussian, its middle first."""
    taps = np.exp(-0.5 * (np.arange(int(2.5 * sigma + 1) + 1) / sigma) ** 2)
    return (taps / (2 * taps.sum() - taps[0])).astype(np.float32)


def _find_extrema(levels: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    """(K, 4): x, y, sigma and level of the strongest extrema of the differences, all of this octave."""
    strength = np.abs(levels[1:] - levels[:-1])
    highest = strength
    for axis in range(3):
        before, middle, after = (_shorten(highest, axis, first) for first in range(3))
        highest = np.maximum(before, middle)
        np.maximum(highest, after, out=highest)
    inner = strength[1:-1, 1:-1, 1:-1]
    peaks = np.flatnonzero((inner == highest) & (inner > _MIN_CONTRAST))
    z, y, x = np.unravel_index(peaks, inner.shape)
    order = np.argsort(-inner[z, y, x], kind="stable")[:limit]
    z, y, x = z[order] + 1, y[order] + 1, x[order] + 1
    dz, dy, dx = (
        _peak_offset(strength[z - a, y - b, x - c], strength[z, y, x], strength[z + a, y + b, x + c])
        for a, b, c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    sigma = _BASE_SIGMA * 2 ** ((z + dz) / 2)
    return np.stack([x + dx, y + dy, sigma, z], axis=1).astype(np.float32)


def _shorten(values: NDArray[np.float32], axis: int, first: int) -> NDArray[np.float32]:
    """All but two along an axis, from `first` on."""
    return values[(slice(None),) * axis + (slice(first, values.shape[axis] - 2 + first),)]


def _peak_offset(
    before: NDArray[np.float32], middle: NDArray[np.float32], after: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Where the parabola through three values has its peak, in -0.5 to 0.5."""
    curvature = 2 * middle - before - after
    return np.clip(0.5 * (after - before) / np.maximum(curvature, 1e-6), -0.5, 0.5)


def _describe_windows(
    levels: NDArray[np.float32], extrema: NDArray[np.float32]
) -> tuple[NDArray[np.uint64], NDArray[np.int8]]:
    """The codes of windows around points, and what turns each into its standard position."""
    grid = (np.arange(_WINDOW_SAMPLES) - (_WINDOW_SAMPLES - 1) / 2) * (2 * _WINDOW_SIGMAS / _WINDOW_SAMPLES)
    x, y, sigma, level = extrema.T
    rows = np.broadcast_to((y[:, None] + sigma[:, None] * grid)[:, :, None], (len(x), *[_WINDOW_SAMPLES] * 2))
    columns = np.broadcast_to((x[:, None] + sigma[:, None] * grid)[:, None, :], rows.shape)
    windows = sample_bilinear(levels, rows, columns, level.astype(np.int64)[:, None, None])
    taper = np.exp(-0.5 * (grid / (0.6 * _WINDOW_SIGMAS)) ** 2)
    weights = taper[:, None] * taper[None, :]
    windows = windows - (windows * weights).sum((1, 2), keepdims=True) / weights.sum()
    waves = np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * (np.arange(_WINDOW_SAMPLES) + 0.5) / _WINDOW_SAMPLES)
    spectrum = waves @ (windows * weights) @ waves.T  # [n, vertical frequency, horizontal frequency]
    swap = np.abs(spectrum[:, 0, 1]) < np.abs(spectrum[:, 1, 0])
    spectrum[swap] = spectrum[swap].transpose(0, 2, 1)
    sign_x, sign_y = (np.where(spectrum[:, v, u] < 0, -1, 1) for v, u in ((0, 1), (1, 0)))
    odd = np.arange(_FREQUENCIES) % 2 == 1
    spectrum = spectrum * np.where(odd, sign_y[:, None], 1)[:, :, None] * np.where(odd, sign_x[:, None], 1)[:, None, :]
    poses = np.zeros((len(x), 2, 2), np.int8)
    for row, sign in ((0, sign_x), (1, sign_y)):
        poses[np.arange(len(x)), row, np.where(swap, 1 - row, row)] = sign
    bits = spectrum.reshape(len(x), -1)[:, _code_frequencies()] > 0
    return (bits.astype(np.uint64) << np.arange(CODE_BITS, dtype=np.uint64)).sum(1, dtype=np.uint64), poses


@cache
def _code_frequencies() -> NDArray[np.int64]:
    """The frequencies whose signs make a code, lowest first: all but the mean and the two that set the position."""
    v, u = np.divmod(np.arange(_FREQUENCIES**2), _FREQUENCIES)
    order = np.lexsort((v, np.maximum(u, v), u + v))
    return order[3:][:CODE_BITS]


def sample_bilinear(
    levels: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32], level: NDArray[np.int64] | int
) -> NDArray[np.float32]:
    """Sample images between their pixels; beyond the border the border's values are repeated.

    Args:
        levels: (L, H, W).
        rows, columns: positions in pixels, of any shape.
        level: which of the images, of a shape that broadcasts.
    """
    height, width = levels.shape[1:]
    rows = np.minimum(np.maximum(rows, 0), height - 1.001)
    columns = np.minimum(np.maximum(columns, 0), width - 1.001)
    y, x = rows.astype(np.int64), columns.astype(np.int64)
    down, across = (rows - y).astype(np.float32), (columns - x).astype(np.float32)
    values = np.ascontiguousarray(levels).reshape(-1)
    place = (y + level * height) * width + x
    left, right = 1 - across, across
    top = values.take(place) * left + values.take(place + 1) * right
    place += width
    bottom = values.take(place) * left + values.take(place + 1) * right
    return top * (1 - down) + bottom * down
