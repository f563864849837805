"""Boundary IoU, and the bands along the borders between labels that it and the trimap curves are measured in.

    counts = boundary_counts(labels, target, num_classes=11)     # intersection and union by class, of one image
    safe_divide(counts.intersection, counts.union)

Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", 2021) is the
intersection over union of the inner bands along the outlines of truth and prediction: of each class's mask, what lies
within d pixels of its outside, d being 2% of the image's diagonal, rounded, at least 1; the outside of the image is
outside of every mask. Large objects cannot hide a bad outline behind their area. Pixels that are not labelled count
nowhere, and neither the truth nor the prediction has an outline there. A class is one mask: borders between objects of
the same class are not seen.

A pixel is within `width` of another label where the square of 2 width + 1 pixels around it holds one: `width` erosions
with a 3x3 square remove it from its mask. The square holds another label if the maximum or the minimum over it is not
the pixel's own, so two sliding extrema serve any number of classes, and label ids are never subtracted.

Trimap curves say how good the labels are within 1, 2, 4, ... pixels of a true border. Their bands are those of the
truth: a pixel is in the band of `w` where a pixel of another true label is at most w away, so the band is 2 w wide.
Where pixels that are not labelled lie between two classes, as around the objects of PASCAL VOC, the band begins beyond
them. The edge of the image is not a border.

    counts = trimap_counts(labels, target, num_classes=11, widths=(1, 2, 4, 8))     # of one image
    counts.curve("mean_iou")                                                        # mean IoU within each band
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.errors import InputError
from dilated.evaluation.metrics import ImageCounts, compute_metrics
from dilated.evaluation.pair_counts import count_pairs, sum_by_id
from dilated.label_ids import LabelArray, ignore_id, label_dtype

_BoolArray = NDArray[np.bool_]

DEFAULT_BOUNDARY_WIDTH = 0.02


@dataclass(frozen=True)
class BoundaryCounts(ImageCounts):
    """Pixels of the bands by class, (C,), or (P, C) of P images."""

    intersection: NDArray[np.int64]
    """Pixels in both bands."""
    union: NDArray[np.int64]
    """Pixels in either band."""
    width: float = DEFAULT_BOUNDARY_WIDTH
    """Width of the bands: below 1 a fraction of each image's diagonal, else pixels."""

    @classmethod
    def zeros(cls, num_images: int, num_classes: int, width: float) -> BoundaryCounts:
        intersection, union = np.zeros((2, num_images, num_classes), dtype=np.int64)
        return cls(intersection, union, width)


def boundary_counts(
    labels: ArrayLike, target: ArrayLike, num_classes: int, width: float = DEFAULT_BOUNDARY_WIDTH
) -> BoundaryCounts:
    """Count the bands of one image.

    Args:
        labels: (H, W) predicted ids, the ignored one for no class; any value where the target is ignored.
        target: (H, W) true ids; ignored is 255, or 65535 of more than 255 classes.
        width: width of the bands: below 1 a fraction of the diagonal, else whole pixels.

    Raises:
        InputError: a width that is neither a fraction nor whole pixels.

    Example:
        >>> target = np.zeros((4, 6), np.uint8)
        >>> target[:, 3:] = 1
        >>> counts = boundary_counts(np.zeros_like(target), target, 2, width=1)
        >>> counts.intersection.tolist(), counts.union.tolist()
        ([8, 0], [18, 10])
    """
    labels, target = np.asarray(labels), np.asarray(target)
    ignore, dtype = ignore_id(num_classes), label_dtype(num_classes)
    valid = target != ignore
    truth, prediction = target.astype(dtype, copy=False), labels.astype(dtype, copy=False)
    pixels = band_width_in_pixels(target.shape, width)
    image_border = _find_image_border_band(target.shape, pixels)
    truth_band = valid & (image_border | find_boundary_band(truth, valid, pixels))
    prediction_band = valid & (image_border | find_boundary_band(prediction, valid, pixels))
    truth_in_band = truth | _as_bits(~truth_band, dtype)  # ignored elsewhere, whose bits are all 1
    prediction_in_band = prediction | _as_bits(~prediction_band, dtype)
    true_ids, predicted_ids, areas = count_pairs(truth_in_band, prediction_in_band)
    same = true_ids == predicted_ids
    intersection = sum_by_id(true_ids[same], areas[same], num_classes)
    total = sum_by_id(true_ids, areas, num_classes) + sum_by_id(predicted_ids, areas, num_classes)
    return BoundaryCounts(intersection, total - intersection, width)


@dataclass(frozen=True)
class TrimapCounts(ImageCounts):
    """Pixels in the bands by width and class.

    IoU, Dice and accuracy follow from three counts per class; confusion matrices would fill the memory with many
    classes.
    """

    widths: tuple[int, ...]
    """Pixels from a true border, increasing."""
    counts: NDArray[np.int64]
    """(W, 3, C), or (P, W, 3, C) of P images: correct, true and predicted pixels in each band."""

    @classmethod
    def zeros(cls, num_images: int, num_classes: int, widths: tuple[int, ...]) -> TrimapCounts:
        return cls(widths, np.zeros((num_images, len(widths), 3, num_classes), dtype=np.int64))

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(W,): labelled pixels in each band."""
        pixels: NDArray[np.int64] = self._pooled[:, 1].sum(-1)
        return pixels

    @property
    def _pooled(self) -> NDArray[np.int64]:
        return self.counts.sum(0) if self.counts.ndim == 4 else self.counts

    def curve(self, metric: str) -> NDArray[np.float64]:
        """Compute `mean_iou` or `pixel_accuracy` within each band, (W,), over all images; NaN in an empty band."""
        num_widths, _, num_classes = self._pooled.shape
        return compute_metrics(self._pooled.reshape(num_widths, -1), num_classes)[metric][:, 0]


def trimap_counts(labels: ArrayLike, target: ArrayLike, num_classes: int, widths: Sequence[int]) -> TrimapCounts:
    """Count the bands of one image.

    Args:
        labels: (H, W) predicted ids, the ignored one for no class; any value where the target is ignored.
        target: (H, W) true ids; ignored is 255, or 65535 of more than 255 classes.
        widths: pixels from a true border, increasing.

    Raises:
        InputError: widths that do not increase or are not positive.

    Example:
        >>> target = np.array([[0, 0, 0, 1, 1, 1]])
        >>> counts = trimap_counts(np.array([[0, 0, 1, 1, 1, 1]]), target, 2, (1, 3))
        >>> counts.curve("mean_iou").tolist()
        [0.25, 0.7083333333333333]
    """
    widths = validate_widths(widths)
    labels, target = np.asarray(labels), np.asarray(target)
    valid = target != ignore_id(num_classes)
    truth = target.astype(label_dtype(num_classes))
    band_index = np.full(target.shape, len(widths), dtype=np.int64)  # of the narrowest band that holds the pixel
    for band in reversed(range(len(widths))):
        band_index[find_boundary_band(truth, valid, widths[band])] = band
    inside = band_index < len(widths)
    band_indices, target_ids = band_index[inside], truth[inside].astype(np.int64)
    prediction = labels[inside].astype(np.int64)
    correct, known = target_ids == prediction, prediction != ignore_id(num_classes)
    ids_of = [
        (band_indices[correct], target_ids[correct]),
        (band_indices, target_ids),
        (band_indices[known], prediction[known]),
    ]
    counts = np.stack([_count_by_band(*ids, len(widths), num_classes) for ids in ids_of], axis=1)
    return TrimapCounts(widths, counts.cumsum(0))  # a wider band holds the narrower ones


def validate_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Check that widths are positive, each greater than the one before.

    Raises:
        InputError: widths that are not.
    """
    if any(width < 1 for width in widths) or any(a >= b for a, b in pairwise(widths)):
        raise InputError(f"trimap: {list(widths)} are not increasing widths", hint="give pixels such as 1 2 4 8")
    return tuple(int(width) for width in widths)


def _count_by_band(
    band_indices: NDArray[np.int64], ids: NDArray[np.int64], num_widths: int, num_classes: int
) -> NDArray[np.int64]:
    """Count pixels by ring between two widths and by id: (W, C)."""
    counts = np.bincount(band_indices * num_classes + ids, minlength=num_widths * num_classes)
    return counts.reshape(num_widths, num_classes).astype(np.int64)


def band_width_in_pixels(shape: tuple[int, ...], width: float = DEFAULT_BOUNDARY_WIDTH) -> int:
    """Convert a width to pixels, for an image of (H, W).

    Raises:
        InputError: a width that is neither a fraction of the diagonal nor whole pixels.

    Example:
        >>> band_width_in_pixels((1024, 2048)), band_width_in_pixels((10, 10)), band_width_in_pixels((10, 10), 3)
        (46, 1, 3)
    """
    if not (0 < width < 1 or (math.isfinite(width) and width >= 1 and width == int(width))):
        raise InputError(
            f"boundary width: {width:g} is neither a fraction nor whole pixels",
            hint="give a fraction of the diagonal between 0 and 1, or whole pixels",
        )
    return int(width) if width >= 1 else max(1, round(width * math.hypot(*shape)))


def find_boundary_band(labels: LabelArray, valid: _BoolArray, width: int) -> _BoolArray:
    """Find the pixels that are near another label.

    Args:
        labels: (H, W) ids; any value where `valid` is false.
        valid: (H, W), the labelled pixels; the others make no border and hide none.
        width: distance in pixels, a diagonal step counting as one.

    Returns:
        (H, W): whether the pixel is labelled and a labelled pixel of another label is within `width`.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> labels = np.array([[1, 1, 1, 2, 2, 0]], np.uint8)
        >>> find_boundary_band(labels, labels > 0, 1).astype(int).tolist()
        [[0, 0, 1, 1, 0, 0]]
    """
    if width < 1:
        raise ValueError(f"boundary band: found a width of {width}; expected at least 1 pixel")
    if valid.all():
        return _find_changes(labels, width)
    hidden = _as_bits(~valid, labels.dtype)
    greatest = int(np.iinfo(labels.dtype).max)
    maximum = _sliding_extremum(labels & ~hidden, width, np.maximum, 0)
    minimum = _sliding_extremum(labels | hidden, width, np.minimum, greatest)
    band: _BoolArray = valid & (maximum != minimum)
    return band


def _as_bits(mask: _BoolArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert to all bits and none: `|` and `&` with it choose pixels five times faster than `np.where`.

    Args:
        dtype: of unsigned integers.
    """
    return np.negative(mask.astype(dtype))


def _find_changes(labels: LabelArray, width: int) -> _BoolArray:
    """Find the pixels that are near another label where all are labelled: whose square holds two neighbors that differ.

    A bit for each pixel in one long integer, which is shifted and combined some ten times faster than bytes are.
    """
    rows, columns = labels.shape
    line = -(-(columns + 2 * width) // 8) * 8  # bits of a row: what is shifted beyond its end stays behind it
    across, down = np.zeros((2, rows, line), dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=across[:, : columns - 1])
    np.not_equal(labels[1:], labels[:-1], out=down[: rows - 1, :columns])
    bits = [int.from_bytes(np.packbits(edges, bitorder="little").tobytes(), "little") for edges in (across, down)]
    # The pair (x, x + 1) is in the square around p for x from p - w to p + w - 1; a pixel of it for up to p + w.
    near_across = _spread(_spread(bits[0], 2 * width, 1, width - 1), 2 * width + 1, line, width)
    near_down = _spread(_spread(bits[1], 2 * width + 1, 1, width), 2 * width, line, width - 1)
    near = (near_across | near_down) & ((1 << rows * line) - 1)
    packed = np.frombuffer(near.to_bytes(rows * line // 8, "little"), dtype=np.uint8)
    band: _BoolArray = np.unpackbits(packed, bitorder="little").view(bool).reshape(rows, line)[:, :columns]
    return band


def _spread(bits: int, count: int, step: int, back: int) -> int:
    """Combine the bits at i, i - step, ..., `count` of them, then move all back by `back` steps."""
    covered = 1
    while covered < count:
        shift = min(covered, count - covered)
        bits |= bits << shift * step
        covered += shift
    return bits >> back * step


def _find_image_border_band(shape: tuple[int, ...], width: int) -> _BoolArray:
    """Find the pixels of an (H, W) image that are within `width` pixels of its outside.

    Example:
        >>> _find_image_border_band((3, 4), 1).astype(int).tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    band = np.ones(shape, dtype=bool)
    rows, columns = shape
    band[width : max(rows - width, width), width : max(columns - width, width)] = False
    return band


def _sliding_extremum(values: LabelArray, width: int, reduce: np.ufunc, outside: int) -> LabelArray:
    """Reduce over the square around each pixel; `outside` of the image changes nothing."""
    for axis in (0, 1):
        values = _sliding_extremum_along(values, min(width, values.shape[axis]), reduce, outside, axis)
    return values


def _sliding_extremum_along(values: LabelArray, width: int, reduce: np.ufunc, outside: int, axis: int) -> LabelArray:
    """Reduce over `width` pixels to both sides along an axis, in windows that double until they are wide enough."""
    length = values.shape[axis]
    padding = [(width, width) if i == axis else (0, 0) for i in range(2)]
    source = np.pad(values, padding, constant_values=outside)
    target = np.empty_like(source)  # two buffers take turns: fresh memory for each step would cost more than the step
    covered, size = 1, length + 2 * width
    while covered <= 2 * width:
        step = min(covered, 2 * width + 1 - covered)
        size -= step
        parts = [_slice_axis(array, start, size, axis) for array, start in ((source, 0), (source, step), (target, 0))]
        reduce(parts[0], parts[1], out=parts[2])
        source, target = target, source
        covered += step
    return _slice_axis(source, 0, length, axis)


def _slice_axis(values: LabelArray, start: int, size: int, axis: int) -> LabelArray:
    return values[start : start + size] if axis == 0 else values[:, start : start + size]
