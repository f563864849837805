"""What a plan needs to know about a data set, from some of its training images.

    summary = summarize_dataset(data.samples("train"), data.classes)
    summary.median_size, summary.statistics.class_fractions, summary.region_sides

A plan for a hundred thousand images takes no longer than one for sixty; `dilated check` reads all of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.data.statistics import SplitStatistics, StatisticsAccumulator, count_pixels
from dilated.training.budget import Deadline

_MAX_IMAGES = 48


@dataclass(frozen=True)
class DatasetSummary:
    """The training images in figures."""

    statistics: SplitStatistics
    """Of the images that were read, with their regions."""
    vertical_asymmetry: float
    """How much the classes of the upper half differ from those of the lower: 0 not at all, 1 entirely."""
    read_seconds: float
    """To read an image and its label."""

    @property
    def images(self) -> int:
        """How many images the split has, read or not."""
        return self.statistics.images

    @property
    def median_size(self) -> tuple[int, int]:
        """Height and width of the median image, by area."""
        assert self.statistics.sizes is not None  # at least one image was read
        return self.statistics.sizes.median

    @property
    def region_sides(self) -> tuple[float, ...]:
        """By class: half of its pixels are in regions of at least this side; 0 where the class is absent."""
        return tuple(c.area_weighted_median if c else 0.0 for c in self.statistics.components)

    @property
    def decoded_bytes(self) -> int:
        """The memory that all images and labels take, decoded."""
        pixels = self.statistics.labeled_pixels + self.statistics.ignored
        return int(pixels / self.statistics.labels_read * 4 * self.images)


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
    sums = StatisticsAccumulator(len(classes))
    halves = np.zeros((2, len(classes)))  # pixels by class of the upper halves, of the lower
    seconds = 0.0
    chosen = chosen if deadline == Deadline() else [chosen[i] for i in _spread_order(len(chosen))]
    for sample in chosen:
        if sums.labels_read and deadline.expired:
            break
        started = time.perf_counter()
        height, width = sample.read_image().shape[:2]
        label = sample.read_label((height, width))
        seconds += time.perf_counter() - started
        sums.add_label(label, measure_regions=True)
        for half, rows in enumerate((label[: height // 2], label[height - height // 2 :])):
            halves[half] += count_pixels(rows, len(classes))[:-1]
    halves /= halves.sum(1, keepdims=True).clip(min=1)
    return DatasetSummary(
        statistics=sums.statistics(len(samples)),
        vertical_asymmetry=float(np.abs(halves[0] - halves[1]).sum() / 2),
        read_seconds=seconds / sums.labels_read,
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
