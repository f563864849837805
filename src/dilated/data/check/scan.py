"""Read all samples of a data set: the statistics of each split, what cannot be read, and what looks wrong.

samples = {"train": data.samples("train")}
with open_pool(SampleList.of(samples, data.classes), workers=2, num_items=1000) as pool:
    scan = scan_samples(samples, data.classes, pool)
scan.splits["train"].pixels                          # labelled pixels by class
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dilated.data.check.finding import MAX_EXAMPLES, Finding, Severity, choose_severity
from dilated.data.check.image_hash import ImageHash
from dilated.data.check.inspection import SampleInspection, inspect_sample
from dilated.data.check.local_features import LocalFeatures
from dilated.data.check.worker_pool import WorkerPool
from dilated.data.labels import Classes
from dilated.data.sample import Sample, SampleKey
from dilated.data.statistics import SplitStatistics, StatisticsAccumulator
from dilated.progress import ProgressCallback, track

_MAX_MEASURED_LABELS = 200  # labels of a split, spread evenly, whose regions are measured
_MAX_DENSE_IMAGES, _MIN_DENSITY = 20_000, 0.3  # of more images fewer points are kept, for memory and time


@dataclass
class SampleExamples:
    """Samples that have something in common: how many, and the first of them."""

    count: int = 0
    examples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(sample)


class SplitAccumulator:
    """The sums over a split, in memory that does not grow with its samples but for a few examples."""

    def __init__(self, num_classes: int) -> None:
        self.images = 0
        self.labels = StatisticsAccumulator(num_classes)
        self._formats: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._label_formats: Counter[str] = Counter()
        self._label_modes: Counter[str] = Counter()
        self._blank_images = self._rotated_images = 0
        self.values: Counter[int] = Counter()
        """Pixels by value as the files have them, of label images that hold ids."""
        self.examples_by_value: dict[int, SampleExamples] = defaultdict(SampleExamples)
        self.labels_with_values = 0
        """How many labels `values` are of."""
        self.intermediate_values: set[int] = set()
        self.blended_labels = SampleExamples()
        self.jpeg_labels = SampleExamples()
        self.ambiguous_orientation = SampleExamples()
        """Images that EXIF rotates and whose size does not tell whether the label was rotated too."""
        self.single_class: dict[int, SampleExamples] = defaultdict(SampleExamples)
        """By class, the labels that hold nothing else."""

    def add(self, sample: Sample, inspection: SampleInspection) -> None:
        self.images += 1
        if inspection.size:
            self.labels.add_size(inspection.size)
        if image := inspection.image:
            self._formats[image.format] += 1
            self._modes[image.mode] += 1
            self._rotated_images += image.orientation > 1
            is_square = inspection.size is not None and inspection.size[0] == inspection.size[1]
            if 1 < image.orientation < 5 or (image.orientation >= 5 and is_square):
                self.ambiguous_orientation.add(sample)
        if inspection.label:
            self._label_formats[inspection.label.format] += 1
            self._label_modes[inspection.label.mode] += 1
            if inspection.label.format == "JPEG":
                self.jpeg_labels.add(sample)
        self._blank_images += inspection.image_hash is not None and not inspection.image_hash.digest
        self.labels_with_values += bool(inspection.values)
        self.values.update(inspection.values)
        for value in inspection.values:
            self.examples_by_value[value].add(sample)
        if inspection.intermediate_values:
            self.intermediate_values |= inspection.intermediate_values
            self.blended_labels.add(sample)
        if inspection.counts is not None:
            self.labels.add_counts(inspection.counts, inspection.areas)
            present = np.flatnonzero(inspection.counts[:-1])
            if len(present) == 1:
                self.single_class[int(present[0])].add(sample)

    def statistics(self, images: int) -> SplitStatistics:
        """The figures.

        Args:
            images: the samples of the split, counting one that is listed twice twice.
        """
        return replace(
            self.labels.statistics(images),
            blank_images=self._blank_images,
            rotated_images=self._rotated_images,
            formats=dict(self._formats.most_common()),
            modes=dict(self._modes.most_common()),
            label_formats=dict(self._label_formats.most_common()),
            label_modes=dict(self._label_modes.most_common()),
        )


@dataclass(frozen=True)
class SampleRecord:
    """What is kept of each sample: its splits, and the hashes of its image and its label."""

    sample: Sample
    splits: tuple[str, ...]
    image_hash: ImageHash | None
    label: bytes
    features: LocalFeatures | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class ScanResult:
    """What reading all samples gave."""

    splits: dict[str, SplitStatistics]
    total: SplitStatistics
    findings: list[Finding]
    """One for each bad file."""
    accumulators: dict[str, SplitAccumulator]
    records: list[SampleRecord]


@dataclass(frozen=True)
class SampleList:
    """What a process must know to read any sample: all of them, each once, and their classes."""

    samples: tuple[Sample, ...]
    classes: Classes

    @classmethod
    def of(cls, samples: Mapping[str, Sequence[Sample]], classes: Classes) -> SampleList:
        """The samples of all splits, in the order of the records of `scan_samples`."""
        return cls(tuple({sample.key: sample for split in samples.values() for sample in split}.values()), classes)


@dataclass(frozen=True)
class _Task:
    """How the sample of an index is inspected; see `inspect_sample`."""

    index: int
    severity: Severity
    measure_regions: bool
    density: float


def scan_samples(
    samples: dict[str, list[Sample]],
    classes: Classes,
    pool: WorkerPool[SampleList] | None = None,
    progress: ProgressCallback | None = None,
) -> ScanResult:
    """Read every image and label once, also where it is in two splits, and count the pixels of complete samples.

    Args:
        samples: by split.
        pool: who reads, with `SampleList.of(samples, classes)`; this process alone if not given.
        progress: called with the number of samples that are read and that of all.

    Example:
        >>> from pathlib import Path
        >>> missing = Sample(Path("a.png"), Path("a_L.png"))
        >>> scan = scan_samples({"train": [missing]}, Classes(("sky",), ((0, 0, 255),)))
        >>> scan.total.images, scan.total.pixels, [finding.kind for finding in scan.findings]
        (1, (0,), ['unreadable image', 'unreadable label'])
    """
    unique_samples = SampleList.of(samples, classes).samples
    splits: dict[SampleKey, tuple[str, ...]] = {sample.key: () for sample in unique_samples}
    measured: set[SampleKey] = set()
    for split, split_samples in samples.items():
        keys = list(dict.fromkeys(sample.key for sample in split_samples))
        for key in keys:
            splits[key] += (split,)
        measured.update(keys[:: max(1, -(-len(keys) // _MAX_MEASURED_LABELS))])
    density = min(1.0, max(_MIN_DENSITY, _MAX_DENSE_IMAGES / max(len(unique_samples), 1)))
    tasks = [
        _Task(i, choose_severity(*splits[sample.key]), sample.key in measured, density)
        for i, sample in enumerate(unique_samples)
    ]
    accumulators = {split: SplitAccumulator(len(classes)) for split in samples}
    total = SplitAccumulator(len(classes))
    findings: list[Finding] = []
    records: list[SampleRecord] = []
    pool = pool or WorkerPool(SampleList(unique_samples, classes), 1)
    inspections = zip(unique_samples, pool.map(_inspect, tasks), strict=True)
    for sample, inspection in track(inspections, len(unique_samples), progress):
        for accumulator in (total, *(accumulators[split] for split in splits[sample.key])):
            accumulator.add(sample, inspection)
        findings += (replace(finding, samples=(sample,)) for finding in inspection.findings)
        records.append(
            SampleRecord(
                sample, splits[sample.key], inspection.image_hash, inspection.label_digest, inspection.features
            )
        )
    statistics = {split: accumulators[split].statistics(len(samples[split])) for split in samples}
    return ScanResult(statistics, total.statistics(len(unique_samples)), findings, accumulators, records)


def _inspect(state: SampleList, task: _Task) -> SampleInspection:
    """Inspect a sample; its findings leave the sample out, which may hold much that it shares with the others."""
    sample = state.samples[task.index]
    inspection = inspect_sample(sample, state.classes, task.severity, task.measure_regions, task.density)
    return replace(inspection, findings=tuple(replace(finding, samples=()) for finding in inspection.findings))
