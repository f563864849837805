"""Reading all pairs of a data set: the pixels of each class by split, what cannot be read, and what looks wrong.

reading = read_pairs({"train": data.pairs("train")}, data.classes)
reading.splits["train"].pixels                       # labelled pixels by class
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dilated.data.check.accumulator import SplitAccumulator
from dilated.data.check.finding import TRAINING_SPLITS, Finding, Severity
from dilated.data.check.image_hash import ImageHash
from dilated.data.check.pair import SampleInspection, inspect_sample
from dilated.data.check.statistics import MAX_MEASURED_LABELS, DatasetStatistics
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.progress import ProgressCallback, track

_SampleKey = tuple[Path, Path, str]

_MAX_PENDING_PER_WORKER = 64  # pairs that are read before their turn, for each thread; bounds what waits in memory


@dataclass(frozen=True)
class SplitCounts:
    """A split: how many pairs of image and label it has, and the pixels of those that can be read."""

    images: int
    pixels: tuple[int, ...]
    ignored: int

    @property
    def labeled_pixels(self) -> int:
        """Pixels of any class."""
        return sum(self.pixels)

    @property
    def ignored_fraction(self) -> float:
        """Ignored pixels of all pixels; NaN without any."""
        return (
            self.ignored / (self.labeled_pixels + self.ignored) if self.labeled_pixels + self.ignored else float("nan")
        )


@dataclass(frozen=True)
class SampleRecord:
    """What is kept of each pair: its splits, and the fingerprints of its image and its label."""

    sample: Sample
    splits: tuple[str, ...]
    image_hash: ImageHash | None
    label: bytes


@dataclass(frozen=True)
class ScanResult:
    """What reading all pairs gave."""

    splits: dict[str, SplitCounts]
    total: SplitCounts
    findings: list[Finding]
    """One for each bad file."""
    statistics: DatasetStatistics
    accumulators: dict[str, SplitAccumulator]
    records: list[SampleRecord]


def scan_samples(
    samples: dict[str, list[Sample]],
    classes: Classes,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> ScanResult:
    """Read every image and label once, though it be in two splits, and count the pixels of those that are whole.

    Args:
        pairs: by split.
        workers: threads; as many as processors if not given.
        progress: called with the number of pairs that are read and that of all.

    Example:
        >>> missing = Sample(Path("a.png"), Path("a_L.png"))
        >>> reading = scan_samples({"train": [missing]}, Classes(("sky",), ((0, 0, 255),)))
        >>> reading.total, [finding.kind for finding in reading.findings]
        (SplitCounts(images=1, pixels=(0,), ignored=0), ['unreadable image', 'unreadable label'])
    """
    unique_samples = {sample_key(sample): sample for split in samples.values() for sample in split}
    splits: dict[_SampleKey, tuple[str, ...]] = dict.fromkeys(unique_samples, ())
    measured: set[_SampleKey] = set()
    for split, split_samples in samples.items():
        keys = list(dict.fromkeys(sample_key(sample) for sample in split_samples))
        for key in keys:
            splits[key] += (split,)
        step = max(1, -(-len(keys) // MAX_MEASURED_LABELS))
        measured.update(keys[::step])
    accumulators = {split: SplitAccumulator(classes) for split in samples}
    total = SplitAccumulator(classes)
    findings: list[Finding] = []
    records: list[SampleRecord] = []
    inspections = _inspect_all(unique_samples, classes, measured, workers or os.cpu_count() or 1)
    for key, inspection in track(inspections, len(unique_samples), progress):
        sample = unique_samples[key]
        for accumulator in (total, *(accumulators[split] for split in splits[key])):
            accumulator.add(sample, inspection)
        severity: Severity = "error" if set(splits[key]) & set(TRAINING_SPLITS) else "warning"
        findings += [Finding(severity, kind, text, (sample,)) for kind, text in inspection.problems]
        records.append(SampleRecord(sample, splits[key], inspection.image_hash, inspection.label_digest))
    statistics = DatasetStatistics(
        classes.names,
        {split: accumulator.statistics() for split, accumulator in accumulators.items()},
        total.statistics(),
    )
    counts = {split: _count_split(accumulator, len(samples[split])) for split, accumulator in accumulators.items()}
    return ScanResult(counts, _count_split(total, len(unique_samples)), findings, statistics, accumulators, records)


def _count_split(accumulator: SplitAccumulator, images: int) -> SplitCounts:
    *pixels, ignored = accumulator.counts.tolist()
    return SplitCounts(images, tuple(pixels), ignored)


def _inspect_all(
    unique_samples: dict[_SampleKey, Sample], classes: Classes, measured: set[_SampleKey], workers: int
) -> Iterator[tuple[_SampleKey, SampleInspection]]:
    """What each pair gave, in order; decoders let other threads run, so threads are enough."""
    with ThreadPoolExecutor(workers) as pool:
        pending: dict[_SampleKey, Future[SampleInspection]] = {}
        try:
            for key, sample in unique_samples.items():
                pending[key] = pool.submit(inspect_sample, sample, classes, key in measured)
                if len(pending) >= _MAX_PENDING_PER_WORKER * workers:
                    first = next(iter(pending))
                    yield first, pending.pop(first).result()
            while pending:
                first = next(iter(pending))
                yield first, pending.pop(first).result()
        except BaseException:  # without this an interrupted scan would first read all the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def sample_key(sample: Sample) -> _SampleKey:
    """What makes a pair the same one in another split."""
    return sample.image, sample.label, sample.stem
