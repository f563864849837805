"""Where an image's label is probably wrong, by a network that has not seen it.

    regions, counts = find_suspects(log_probabilities, target, AuditConfig())

A region is a 4-connected component of pixels that are labelled as one class and predicted as one other. A network is
never exact at borders, so what is within `band` of the region's own outline counts as nothing: thin regions vanish,
and a region's evidence is the mean over the pixels that remain, its core. Ignored pixels are in no region.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dilated.data.polygons import label_components
from dilated.errors import InputError
from dilated.evaluation.boundary import band_width_in_pixels, find_boundary_band
from dilated.evaluation.pair_counts import LabelPairs, pair_labels
from dilated.label_ids import LabelArray, ignore_id, label_dtype

Kind = Literal["missing object", "extra object", "swapped class", "part of an object"]

_MOST_EVIDENCE = 8.0
"""Log odds above which a network's certainty says no more."""
_SAME_OUTLINE = 0.6
"""Fraction of an object that a region covers, above which it is that object."""
_CROP_MARGIN = 24
"""Pixels around a region that are shown at least."""


@dataclass(frozen=True)
class AuditConfig:
    """What counts as a region, and how many are kept.

    Raises:
        InputError: a width or number that makes no sense.
    """

    band: float = 0.004
    """Width of the band along a region's outline that counts nowhere: below 1 a fraction of the image's diagonal, else
    pixels."""
    min_pixels: int = 20
    """The fewest pixels of a region without its band."""
    regions: int = 500
    """How many regions to keep, those first whose label is most probably wrong."""

    def __post_init__(self) -> None:
        band_width_in_pixels((1, 1), self.band)
        if self.min_pixels < 1 or self.regions < 1:
            raise InputError(
                f"audit: {self.min_pixels} pixels and {self.regions} regions find nothing", hint="give 1 or more each"
            )


@dataclass(frozen=True)
class Suspect:
    """A region of an image."""

    labeled: int
    """The class id of the label."""
    suggested: int
    """That of the prediction."""
    bbox: tuple[int, int, int, int]
    """Left, top, width and height, in pixels."""
    pixels: int
    core_pixels: int
    """Without the band along the outline."""
    confidence: float
    """The mean probability of the suggested class in the core."""
    log_odds: float
    """The mean logarithm of the suggested class's probability over the labelled one's in the core, at most 8."""
    kind: Kind
    mask: bytes
    """The packed bits of the region in its bbox, row by row, compressed."""
    prediction: bytes
    """The predicted ids around the region, in `crop`, compressed."""
    crop: tuple[int, int, int, int]
    """Left, top, width and height of what is shown."""

    def read_mask(self) -> NDArray[np.bool_]:
        """The region in its bbox, (height, width)."""
        _, _, width, height = self.bbox
        bits = np.frombuffer(zlib.decompress(self.mask), dtype=np.uint8)
        return np.unpackbits(bits, count=width * height).reshape(height, width).astype(np.bool_)

    def read_prediction(self) -> LabelArray:
        """The predicted ids in `crop`, (height, width)."""
        _, _, width, height = self.crop
        values = zlib.decompress(self.prediction)
        return np.frombuffer(values, f"u{len(values) // (width * height)}").reshape(height, width)


def find_suspects(
    log_probabilities: NDArray[np.float32], target: LabelArray, config: AuditConfig
) -> tuple[list[Suspect], LabelPairs]:
    """Find the regions of one image whose label differs from the prediction.

    Args:
        log_probabilities: (C, H, W), logarithms of calibrated probabilities.
        target: (H, W) labelled ids.
        config: what counts as a region.

    Returns:
        The regions, and the pixels by labelled and predicted class, without bands along borders.

    Example:
        >>> target = np.zeros((20, 20), np.uint8)
        >>> odds = np.full((20, 20), -3.0, np.float32)
        >>> odds[5:15, 4:14] = 3                        # an object that the label lacks
        >>> both = np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)])
        >>> (region,), _ = find_suspects(both, target, AuditConfig())
        >>> region.kind, region.bbox, region.pixels, region.core_pixels
        ('missing object', (4, 5, 10, 10), 100, 64)
    """
    num_classes = len(log_probabilities)
    width = band_width_in_pixels(target.shape, config.band)
    labels = log_probabilities.argmax(0).astype(label_dtype(num_classes))
    valid = target != ignore_id(num_classes)
    differs = valid & (labels != target)
    clean = valid & ~find_boundary_band(np.where(valid, target, target.dtype.type(0)), valid, width)
    counts = pair_labels(labels[clean], target[clean], num_classes)
    if not differs.any():
        return [], counts
    pairs = np.where(differs, target.astype(np.int64) * num_classes + labels, -1)
    region, values = label_components(pairs)
    core = differs & ~_find_outline(region, width)
    sizes = np.bincount(region[core], minlength=len(values))
    components = _Components(region, core, label_components(target)[0], label_components(labels)[0], labels)
    numbers = np.flatnonzero(sizes >= config.min_pixels).tolist()
    pairs_of = [divmod(int(values[number]), num_classes) for number in numbers]
    return [
        components.describe(number, (pair[0], pair[1]), log_probabilities)
        for number, pair in zip(numbers, pairs_of, strict=True)
        if pair[0] >= 0
    ], counts


@dataclass(frozen=True)
class _Components:
    """The components of an image, each (H, W): of differences, of the label, of the prediction."""

    region: NDArray[np.int64]
    core: NDArray[np.bool_]
    labeled: NDArray[np.int64]
    predicted: NDArray[np.int64]
    prediction: LabelArray

    def describe(self, number: int, pair: tuple[int, int], log_probabilities: NDArray[np.float32]) -> Suspect:
        """Describe a region, which is labelled as the first of a pair and predicted as the second."""
        labeled, suggested = pair
        inside = self.region == number
        rows, columns = np.flatnonzero(inside.any(1)).tolist(), np.flatnonzero(inside.any(0)).tolist()
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        mask = inside[top:bottom, left:right]
        inner = mask & self.core[top:bottom, left:right]
        logs = log_probabilities[:, top:bottom, left:right]
        better, worse = logs[suggested][inner].astype(np.float64), logs[labeled][inner].astype(np.float64)
        pixels = int(mask.sum())
        margin = max(_CROP_MARGIN, (bottom - top) // 2, (right - left) // 2)
        y0, x0 = max(top - margin, 0), max(left - margin, 0)
        around = np.ascontiguousarray(self.prediction[y0 : bottom + margin, x0 : right + margin])
        return Suspect(
            labeled,
            suggested,
            (left, top, right - left, bottom - top),
            pixels,
            int(inner.sum()),
            float(np.exp(better).mean()),
            float(np.minimum(better - worse, _MOST_EVIDENCE).mean()),
            _choose_kind(pixels / _object_size(self.labeled, inside), pixels / _object_size(self.predicted, inside)),
            zlib.compress(np.packbits(mask).tobytes()),
            zlib.compress(around.tobytes()),
            (x0, y0, around.shape[1], around.shape[0]),
        )


def _object_size(component: NDArray[np.int64], inside: NDArray[np.bool_]) -> int:
    """Pixels of the one component that a region lies in."""
    return int((component == component[inside][0]).sum())


def _choose_kind(of_label: float, of_prediction: float) -> Kind:
    """Say what a region is, from how much of the labelled and of the predicted object it covers."""
    if of_label >= _SAME_OUTLINE:
        return "swapped class" if of_prediction >= _SAME_OUTLINE else "extra object"
    return "missing object" if of_prediction >= _SAME_OUTLINE else "part of an object"


def _find_outline(region: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """The pixels that are within `width` pixels, along rows and columns and diagonally, of another region."""
    near = np.zeros(region.shape, dtype=np.bool_)
    low, high = region.copy(), region.copy()
    for _ in range(width):
        for axis in (0, 1):
            low, high = _spread(low, np.minimum, axis), _spread(high, np.maximum, axis)
    near |= (low != region) | (high != region)
    return near


def _spread(values: NDArray[np.int64], reduce: np.ufunc, axis: int) -> NDArray[np.int64]:
    """The extremum of each value and its two neighbors along an axis."""
    moved = np.moveaxis(values, axis, 0)
    result = moved.copy()
    reduce(result[1:], moved[:-1], out=result[1:])
    reduce(result[:-1], moved[1:], out=result[:-1])
    return np.moveaxis(result, 0, axis)
