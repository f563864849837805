"""What the labels of a split hold, in figures: pixels, images and regions by class, sizes, and kinds of files.

    sums = StatisticsAccumulator(len(data.classes))
    for sample in samples:
        sums.add_label(sample.read_label())
    sums.statistics(images=len(samples)).class_fractions

The one place where class statistics are computed: for `dilated check`, for the report, and for the plan of a training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dilated.data.polygons import label_components
from dilated.label_ids import LabelArray, ignore_id, ignore_id_of

ImageSize = tuple[int, int]
"""(H, W)."""

RegionAreas = list[tuple[int, NDArray[np.int64]]]
"""Class ids, each with the pixels of every one of its 4-connected regions."""

_NO_AREAS: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class ImageSizes:
    """The sizes of images, (H, W), in the order of their areas."""

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
    """The 4-connected regions of a class; the side of a region is the square root of its pixels."""

    count: int
    p10: float
    """The side that a tenth of the regions fall short of."""
    median: float
    p90: float
    """The side that a tenth of the regions exceed."""
    area_weighted_median: float
    """Half of the class's pixels are in regions of at least this side, which specks change less than the median."""

    @classmethod
    def from_areas(cls, areas: Sequence[int] | NDArray[np.int64]) -> ComponentSizes | None:
        """From the pixels of each region; None of none.

        Example:
            >>> ComponentSizes.from_areas([1, 1, 1, 4, 100])
            ComponentSizes(count=5, p10=1.0, median=1.0, p90=6.8, area_weighted_median=10.0)
        """
        if not len(areas):
            return None
        ordered = np.sort(np.array(areas, dtype=np.int64))
        sides = np.sqrt(ordered)
        half_area_index = int(np.searchsorted(np.cumsum(ordered), ordered.sum() / 2))
        p10, median, p90 = np.quantile(sides, (0.1, 0.5, 0.9))
        return cls(len(areas), *(round(float(side), 2) for side in (p10, median, p90, sides[half_area_index])))


@dataclass(frozen=True)
class SplitStatistics:
    """The images and labels of a split in figures; what is by class is in the order of the classes.

    How files are stored is known only where `dilated check` has read them.
    """

    images: int
    """Samples of the split, those that cannot be read too."""
    labels_read: int = 0
    """The labels that were read and fit their images: what `pixels` and `images_with_class` are of."""
    sizes: ImageSizes | None = None
    pixels: tuple[int, ...] = ()
    """Labelled pixels by class; empty where the classes are not known."""
    ignored: int = 0
    """Ignored pixels."""
    images_with_class: tuple[int, ...] = ()
    """How many images contain the class."""
    single_class: int = 0
    """Labels that hold one class only."""
    components: tuple[ComponentSizes | None, ...] = ()
    """By class; None where no measured label holds it."""
    measured_labels: int = 0
    """How many labels `components` are of."""
    blank_images: int = 0
    """Images of a single color."""
    rotated_images: int = 0
    """Images that their EXIF orientation rotates."""
    formats: dict[str, int] = field(default_factory=dict)
    """Image files by format, such as PNG."""
    modes: dict[str, int] = field(default_factory=dict)
    """Image files by pillow's mode, such as RGB, L, P, RGBA, I;16."""
    label_formats: dict[str, int] = field(default_factory=dict)
    label_modes: dict[str, int] = field(default_factory=dict)

    @property
    def labeled_pixels(self) -> int:
        """Pixels of any class."""
        return sum(self.pixels)

    @property
    def class_fractions(self) -> tuple[float, ...]:
        """Each class's fraction of the labelled pixels; NaN without any."""
        total = self.labeled_pixels
        return tuple(count / total if total else float("nan") for count in self.pixels)

    @property
    def ignored_fraction(self) -> float:
        """The ignored fraction of all pixels; NaN without any."""
        total = self.labeled_pixels + self.ignored
        return self.ignored / total if total else float("nan")


class StatisticsAccumulator:
    """The sums over the labels of a split."""

    def __init__(self, num_classes: int) -> None:
        self.labels_read = 0
        self._sizes: Counter[ImageSize] = Counter()
        self._counts: NDArray[np.int64] = np.zeros(num_classes + 1, dtype=np.int64)
        self._images_with_class: NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)
        self._single_class = 0
        self._areas: list[list[NDArray[np.int64]]] = [[] for _ in range(num_classes)]
        self._measured_labels = 0

    def add_size(self, size: ImageSize) -> None:
        """Add the size of an image."""
        self._sizes[size] += 1

    def add_label(self, label: LabelArray, measure_regions: bool = False) -> None:
        """Add a label and its size.

        Args:
            label: (H, W) class ids.
            measure_regions: measure the 4-connected regions too.
        """
        self.add_size((label.shape[0], label.shape[1]))
        areas = measure_region_areas(label) if measure_regions else None
        self.add_counts(count_pixels(label, len(self._areas)), areas)

    def add_counts(self, counts: NDArray[np.int64], areas: RegionAreas | None = None) -> None:
        """Add what `count_pixels` gave of a label, and `measure_region_areas` where its regions were measured."""
        self.labels_read += 1
        self._counts += counts
        self._images_with_class += counts[:-1] > 0
        self._single_class += int(np.count_nonzero(counts[:-1]) == 1)
        self._measured_labels += areas is not None
        for class_id, class_areas in areas or ():
            self._areas[class_id].append(class_areas)

    def statistics(self, images: int) -> SplitStatistics:
        """The figures of what was added.

        Args:
            images: how many samples the split has, those that were not added too.
        """
        return SplitStatistics(
            images=images,
            labels_read=self.labels_read,
            sizes=ImageSizes.from_counts(self._sizes),
            pixels=tuple(self._counts[:-1].tolist()),
            ignored=int(self._counts[-1]),
            images_with_class=tuple(self._images_with_class.tolist()),
            single_class=self._single_class,
            components=tuple(ComponentSizes.from_areas(np.concatenate([_NO_AREAS, *areas])) for areas in self._areas),
            measured_labels=self._measured_labels,
        )


def count_pixels(ids: LabelArray, num_classes: int, weights: NDArray[np.integer] | None = None) -> NDArray[np.int64]:
    """Count pixels by class.

    Args:
        ids: class ids of any shape.
        weights: the number of pixels that each id stands for; one if not given.

    Returns:
        (num_classes + 1,): the pixels of each class, then those that are ignored.

    Example:
        >>> count_pixels(np.array([[0, 1, 1, 255]], np.uint8), num_classes=3).tolist()
        [1, 2, 0, 1]
    """
    ignore = ignore_id(num_classes)
    counts = np.bincount(ids.ravel(), None if weights is None else weights.ravel(), ignore + 1)
    return np.append(counts[:num_classes], counts[ignore]).astype(np.int64)


def measure_region_areas(label: LabelArray, pixel_area: int = 1) -> RegionAreas:
    """Measure the 4-connected regions of each class.

    Args:
        label: (H, W) class ids.
        pixel_area: pixels that each value stands for, where a label was thinned out.

    Example:
        >>> [(i, areas.tolist()) for i, areas in measure_region_areas(np.array([[0, 0, 1, 0, 255]], np.uint8))]
        [(0, [2, 1]), (1, [1])]
    """
    regions, region_classes = label_components(label)
    areas = np.bincount(regions.ravel()) * pixel_area
    return [(int(i), areas[region_classes == i]) for i in np.unique(region_classes) if i != ignore_id_of(label)]
