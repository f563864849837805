"""Adding up what was seen of a split's pairs, in memory that does not grow with them but for a few examples.

tally = Tally(classes)
tally.add(pair, inspect_pair(pair, classes))
tally.facts()                                        # the figures of the split
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dilated.data.check.finding import MAX_EXAMPLES
from dilated.data.check.pair import SampleInspection
from dilated.data.check.statistics import ComponentSizes, ImageSize, ImageSizes, SplitStatistics
from dilated.data.labels import Classes
from dilated.data.sample import Sample


@dataclass
class SampleExamples:
    """Pairs that have something in common: how many, and the first of them."""

    count: int = 0
    examples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(sample)


class SplitAccumulator:
    """The sums over a split."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.images = 0
        self.labels_read = 0
        self.counts: NDArray[np.int64] = np.zeros(len(classes) + 1, dtype=np.int64)
        self.images_with_class: NDArray[np.int64] = np.zeros(len(classes), dtype=np.int64)
        self.sizes: Counter[ImageSize] = Counter()
        self.formats: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.label_formats: Counter[str] = Counter()
        self.label_modes: Counter[str] = Counter()
        self.component_areas: list[list[int]] = [[] for _ in classes.names]
        self.measured_labels = 0
        self.blank_images = 0
        self.rotated_images = 0
        self.values: Counter[int] = Counter()
        """Pixels by value as the files have them, of label images that hold ids."""
        self.examples_by_value: dict[int, SampleExamples] = {}
        """By value, the labels that hold it."""
        self.labels_with_values = 0
        """How many labels `label_reader` is of."""
        self.intermediate_values: set[int] = set()
        self.blended_labels = SampleExamples()
        self.jpeg_labels = SampleExamples()
        self.ambiguous_orientation = SampleExamples()
        """Images that an EXIF orientation turns, where the size cannot tell whether the label was turned too."""
        self.single_class: dict[int, SampleExamples] = {}
        """By class, the labels that hold nothing else."""

    def add(self, sample: Sample, inspection: SampleInspection) -> None:
        self.images += 1
        if inspection.size:
            self.sizes[inspection.size] += 1
        if inspection.image:
            self.formats[inspection.image.format] += 1
            self.modes[inspection.image.mode] += 1
            self.rotated_images += inspection.image.orientation > 1
            square = inspection.size is not None and inspection.size[0] == inspection.size[1]
            if 1 < inspection.image.orientation < 5 or (inspection.image.orientation >= 5 and square):
                self.ambiguous_orientation.add(sample)
        if inspection.label:
            self.label_formats[inspection.label.format] += 1
            self.label_modes[inspection.label.mode] += 1
            if inspection.label.format == "JPEG":
                self.jpeg_labels.add(sample)
        self.blank_images += inspection.image_hash is not None and not inspection.image_hash.digest
        if inspection.values:
            self.labels_with_values += 1
            self.values.update(inspection.values)
            for value in inspection.values:
                self.examples_by_value.setdefault(value, SampleExamples()).add(sample)
        if inspection.intermediate_values:
            self.intermediate_values |= inspection.intermediate_values
            self.blended_labels.add(sample)
        if inspection.counts is not None:
            self._add_counts(sample, inspection.counts)
        if inspection.component_areas is not None:
            self.measured_labels += 1
            for class_id, areas in inspection.component_areas:
                self.component_areas[class_id] += areas.tolist()

    def _add_counts(self, sample: Sample, counts: NDArray[np.int64]) -> None:
        self.labels_read += 1
        self.counts += counts
        present = np.flatnonzero(counts[:-1])
        self.images_with_class[present] += 1
        if len(present) == 1:
            self.single_class.setdefault(int(present[0]), SampleExamples()).add(sample)

    def statistics(self) -> SplitStatistics:
        """The figures."""
        return SplitStatistics(
            images=self.images,
            sizes=ImageSizes.from_counts(dict(self.sizes)),
            pixels=tuple(self.counts[:-1].tolist()),
            images_with_class=tuple(self.images_with_class.tolist()),
            labels_read=self.labels_read,
            ignored=int(self.counts[-1]),
            single_class=sum(group.count for group in self.single_class.values()),
            blank_images=self.blank_images,
            rotated_images=self.rotated_images,
            formats=dict(self.formats.most_common()),
            modes=dict(self.modes.most_common()),
            label_formats=dict(self.label_formats.most_common()),
            label_modes=dict(self.label_modes.most_common()),
            components=tuple(ComponentSizes.from_counts(areas) for areas in self.component_areas),
            measured_labels=self.measured_labels,
        )
