"""What a data set is, in figures: sizes of images and objects, shares of classes, modes and formats of files.

    facts = check("my-data").facts
    facts.splits["train"].sizes.median                   # (H, W)
    facts.splits["train"].objects[1].median              # side in pixels of a typical object of class 1

All of it is plain values, so that a plan for a training can be made from it and JSON be written.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

ImageSize = tuple[int, int]

MAX_MEASURED_LABELS = 200
"""The most labels of a split of which the objects are measured."""


@dataclass(frozen=True)
class ImageSizes:
    """The sizes of images, (H, W), in order of their areas."""

    smallest: ImageSize
    median: ImageSize
    largest: ImageSize
    distinct: int

    @classmethod
    def from_counts(cls, counts: dict[ImageSize, int]) -> ImageSizes | None:
        """From the number of images of each size; None of none.

        Example:
            >>> ImageSizes.from_counts({(2, 3): 5, (8, 8): 1, (4, 4): 1})
            ImageSizes(smallest=(2, 3), median=(2, 3), largest=(8, 8), distinct=3)
        """
        if not counts:
            return None
        sizes = sorted(counts, key=lambda size: (size[0] * size[1], size))
        cumulative = np.cumsum([counts[size] for size in sizes])
        median_index = int(np.searchsorted(cumulative, (cumulative[-1] + 1) // 2))
        return cls(sizes[0], sizes[median_index], sizes[-1], len(sizes))

    def as_text(self) -> tuple[str, str, str]:
        """The smallest, median and largest size as width x height.

        Example:
            >>> ImageSizes((2, 3), (4, 4), (8, 9), distinct=3).as_text()
            ('3x2', '4x4', '9x8')
        """
        smallest, median, largest = (
            f"{width}x{height}" for height, width in (self.smallest, self.median, self.largest)
        )
        return smallest, median, largest


@dataclass(frozen=True)
class ComponentSizes:
    """The 4-connected regions of a class; the side of one is the square root of its pixels.

    `low` and `high` are the sides that a tenth of them fall short of and exceed. Half of the class's pixels are in
    regions of at least `area_weighted_median`, which specks do not change as they change the median.
    """

    count: int
    p10: float
    median: float
    p90: float
    area_weighted_median: float

    @classmethod
    def from_counts(cls, areas: list[int]) -> ComponentSizes | None:
        """From the pixels of each region; None of none.

        Example:
            >>> ComponentSizes.from_counts([1, 1, 1, 4, 100])
            ComponentSizes(count=5, p10=1.0, median=1.0, p90=6.8, area_weighted_median=10.0)
        """
        if not areas:
            return None
        ordered = np.sort(np.array(areas, dtype=np.int64))
        sides = np.sqrt(ordered)
        low, median, high = (round(float(q), 2) for q in np.quantile(sides, (0.1, 0.5, 0.9)))
        half_area_index = int(np.searchsorted(np.cumsum(ordered), ordered.sum() / 2))
        return cls(len(areas), low, median, high, round(float(sides[half_area_index]), 2))


@dataclass(frozen=True)
class SplitStatistics:
    """One split. What is by class is in the order of the classes."""

    images: int
    """Pairs of image and label, those that cannot be read too."""
    sizes: ImageSizes | None
    pixels: tuple[int, ...]
    """By class, of the labels that can be read."""
    images_with_class: tuple[int, ...]
    """How many images contain the class."""
    labels_read: int
    """Labels that can be read and fit: what `pixels` and `images_with_class` are of."""
    ignored: int
    single_class: int
    """Labels that hold one class only."""
    blank_images: int
    """Images of a single color."""
    rotated_images: int
    """Images that their EXIF orientation turns."""
    formats: dict[str, int]
    """Image files by format, such as PNG."""
    modes: dict[str, int]
    """Image files by pillow's mode, such as RGB, L, P, RGBA, I;16."""
    label_formats: dict[str, int]
    label_modes: dict[str, int]
    components: tuple[ComponentSizes | None, ...]
    """By class; None where no label of the sample holds it."""
    measured_labels: int
    """Of how many labels the objects are: all, or 200 spread evenly."""

    @property
    def class_fractions(self) -> tuple[float, ...]:
        """Each class's share of the labelled pixels; NaN without any."""
        total = sum(self.pixels)
        return tuple(count / total if total else float("nan") for count in self.pixels)

    @property
    def ignored_fraction(self) -> float:
        """Ignored pixels of all; NaN without any."""
        total = sum(self.pixels) + self.ignored
        return self.ignored / total if total else float("nan")


@dataclass(frozen=True)
class DatasetStatistics:
    """A data set; `all` counts a pair that is in several splits once, but has the objects of all samples."""

    classes: tuple[str, ...]
    splits: dict[str, SplitStatistics]
    total: SplitStatistics

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)
