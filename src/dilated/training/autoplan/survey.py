"""What a plan needs to know about a data set, from some of its training images.

    summary = summarize_dataset(data.samples("train"), data.classes)
    summary.median_size, summary.class_fractions, summary.region_sides

A plan for a hundred thousand images takes no longer than one for sixty; `dilated check` reads all of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.labels import IGNORE, Classes, LabelArray
from dilated.data.polygons import label_components
from dilated.data.sample import Sample
from dilated.training.budget import Deadline

_MAX_IMAGES = 48


@dataclass(frozen=True)
class DatasetSummary:
    """The training images in figures."""

    images: int
    images_read: int
    """How many of them the figures are from."""
    median_size: tuple[int, int]
    """Height and width of the median image, by area."""
    class_fractions: tuple[float, ...]
    """Of the labelled pixels, by class."""
    region_sides: tuple[float, ...]
    """By class: half of its pixels are in regions of at least this side, the square root of their pixels; 0 where it is
    absent."""
    vertical_asymmetry: float
    """How much the classes of the upper half differ from those of the lower: 0 not at all, 1 entirely."""
    read_seconds: float
    """To read an image and its label."""
    decoded_bytes: int
    """That all images and labels take in memory, decoded."""


def summarize_dataset(
    samples: list[Sample],
    classes: Classes,
    deadline: Deadline = Deadline(),  # noqa: B008 -- frozen
) -> DatasetSummary:
    """Read up to 48 samples, evenly spaced; fewer, but at least one, where the deadline passes.

    Raises:
        InputError: an unreadable image or label, or a value outside the classes.
    """
    chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, min(_MAX_IMAGES, len(samples))).round().astype(int)]
    sizes, areas = [], [[] for _ in classes.names]  # type: tuple[list[tuple[int, int]], list[list[NDArray[np.int64]]]]
    counts = np.zeros((2, IGNORE + 1), dtype=np.int64)  # of the upper halves, of the lower
    seconds = 0.0
    chosen = chosen if deadline == Deadline() else [chosen[i] for i in _spread_order(len(chosen))]
    for sample in chosen:
        if sizes and deadline.expired:
            break
        started = time.perf_counter()
        height, width = sample.read_image().shape[:2]
        label = sample.read_label((height, width))
        seconds += time.perf_counter() - started
        sizes.append((height, width))
        for half, rows in enumerate((label[: height // 2], label[height - height // 2 :])):
            counts[half] += np.bincount(rows.ravel(), minlength=IGNORE + 1)
        for class_id, pixels in _region_areas(label):
            areas[class_id].append(pixels)
    halves = counts[:, : len(classes)].astype(np.float64)
    labelled = halves.sum()
    halves /= halves.sum(1, keepdims=True).clip(min=1)
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return DatasetSummary(
        images=len(samples),
        images_read=len(sizes),
        median_size=by_area[len(by_area) // 2],
        class_fractions=tuple((counts[:, : len(classes)].sum(0) / max(labelled, 1)).tolist()),
        region_sides=tuple(_typical_side(class_areas) for class_areas in areas),
        vertical_asymmetry=float(np.abs(halves[0] - halves[1]).sum() / 2),
        read_seconds=seconds / len(sizes),
        decoded_bytes=int(np.mean([h * w for h, w in sizes]) * 4 * len(samples)),
    )


def _spread_order(count: int) -> list[int]:
    """Return 0 to count - 1 in an order whose every beginning is spread over the whole range.

    Example:
        >>> _spread_order(6)
        [0, 4, 2, 1, 5, 3]
    """
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [i for i in reversed_bits if i < count]


def _region_areas(label: LabelArray) -> list[tuple[int, NDArray[np.int64]]]:
    """The pixels of each region of each class."""
    region, class_ids = label_components(label)
    pixels = np.bincount(region.ravel())
    return [(int(class_id), pixels[class_ids == class_id]) for class_id in np.unique(class_ids) if class_id != IGNORE]


def _typical_side(areas: list[NDArray[np.int64]]) -> float:
    if not areas:
        return 0.0
    by_area = np.sort(np.concatenate(areas))
    return float(np.sqrt(by_area[np.searchsorted(np.cumsum(by_area), by_area.sum() / 2)]))
