"""Read all samples of a data set: the statistics of each split, what cannot be read, and what looks wrong.

scan = scan_samples({"train": data.samples("train")}, data.classes)
scan.splits["train"].pixels                          # labelled pixels by class
"""

from __future__ import annotations

import ctypes
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from dilated.data.check.finding import MAX_EXAMPLES, Finding, choose_severity
from dilated.data.check.image_hash import ImageHash
from dilated.data.check.inspection import SampleInspection, inspect_sample
from dilated.data.check.local_features import LocalFeatures
from dilated.data.labels import Classes
from dilated.data.sample import Sample, SampleKey
from dilated.data.statistics import SplitStatistics, StatisticsAccumulator
from dilated.progress import ProgressCallback, track

_MAX_MEASURED_LABELS = 200  # labels of a split, spread evenly, whose regions are measured
_MAX_DENSE_IMAGES, _MIN_DENSITY = 20_000, 0.3  # of more images fewer points are kept, for memory and time
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_PENDING_PER_WORKER = 64  # samples that wait in memory, for each thread


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


def scan_samples(
    samples: dict[str, list[Sample]],
    classes: Classes,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> ScanResult:
    """Read every image and label once, also where it is in two splits, and count the pixels of complete samples.

    Args:
        samples: by split.
        workers: threads; as many as processors if not given.
        progress: called with the number of samples that are read and that of all.

    Example:
        >>> from pathlib import Path
        >>> missing = Sample(Path("a.png"), Path("a_L.png"))
        >>> scan = scan_samples({"train": [missing]}, Classes(("sky",), ((0, 0, 255),)))
        >>> scan.total.images, scan.total.pixels, [finding.kind for finding in scan.findings]
        (1, (0,), ['unreadable image', 'unreadable label'])
    """
    unique_samples = {sample.key: sample for split in samples.values() for sample in split}
    splits: dict[SampleKey, tuple[str, ...]] = dict.fromkeys(unique_samples, ())
    measured: set[SampleKey] = set()
    for split, split_samples in samples.items():
        keys = list(dict.fromkeys(sample.key for sample in split_samples))
        for key in keys:
            splits[key] += (split,)
        measured.update(keys[:: max(1, -(-len(keys) // _MAX_MEASURED_LABELS))])

    density = min(1.0, max(_MIN_DENSITY, _MAX_DENSE_IMAGES / max(len(unique_samples), 1)))

    def inspect(key: SampleKey) -> SampleInspection:
        return inspect_sample(unique_samples[key], classes, choose_severity(*splits[key]), key in measured, density)

    accumulators = {split: SplitAccumulator(len(classes)) for split in samples}
    total = SplitAccumulator(len(classes))
    findings: list[Finding] = []
    records: list[SampleRecord] = []
    inspections = _inspect_all(list(unique_samples), inspect, workers or os.cpu_count() or 1)
    for key, inspection in track(inspections, len(unique_samples), progress):
        sample = unique_samples[key]
        for accumulator in (total, *(accumulators[split] for split in splits[key])):
            accumulator.add(sample, inspection)
        findings += inspection.findings
        records.append(
            SampleRecord(sample, splits[key], inspection.image_hash, inspection.label_digest, inspection.features)
        )
    statistics = {split: accumulators[split].statistics(len(samples[split])) for split in samples}
    return ScanResult(statistics, total.statistics(len(unique_samples)), findings, accumulators, records)


def _inspect_all(
    keys: list[SampleKey], inspect: Callable[[SampleKey], SampleInspection], workers: int
) -> Iterator[tuple[SampleKey, SampleInspection]]:
    """What each sample gave, in order; decoders let other threads run, so threads are enough."""
    _keep_freed_memory()
    block = _PENDING_PER_WORKER * workers
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(keys), block):
            yield from zip(keys[start : start + block], pool.map(inspect, keys[start : start + block]), strict=True)


def _keep_freed_memory() -> None:
    """Let glibc keep what arrays leave for the next: it would map and unmap each, half of the time here."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, size in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 128 << 20)):
            mallopt(parameter, size)
