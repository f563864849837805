"""Images that are in a data set more than once: what is wrong with that, and where.

    search = find_duplicates(scan.records)
    search.findings, search.pairs                        # what is wrong, and which images look alike

An image of val that was trained on makes the metrics of val too good. The same pixels in train and val are an error,
since no copy is intended; images that only look the same are a warning, since frames of one film may be intended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.check.feature_matching import Alignment
from dilated.data.check.finding import MAX_EXAMPLES, TRAINING_SPLITS, Finding, FindingKind, choose_severity
from dilated.data.check.image_hash import ImageHash, NearDuplicates, find_identical, find_near_duplicates
from dilated.data.check.local_features import LocalFeatures, reduce_to_gray
from dilated.data.check.overlaps import Match, OverlapSearch, find_overlaps, verify_alignments
from dilated.data.check.scan import SampleList, SampleRecord
from dilated.data.check.worker_pool import WorkerPool
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.progress import ProgressCallback, track

_MAX_LABEL_DIFFERENCE = 0.01  # of the pixels; labels of one image that differ in less were drawn by two people
_MAX_LABEL_COMPARISONS = 100  # the most pairs of labels that are read again to tell how much they differ
_RecordPair = tuple[SampleRecord, SampleRecord]

_DISJOINT_SPLITS = {*TRAINING_SPLITS, "test"}
_NO_HASH = ImageHash(b"", 0, b"")
_NO_FEATURES = LocalFeatures(np.zeros(0, np.uint64), np.zeros((0, 3), np.float32), np.zeros((0, 2, 2), np.int8), (1, 1))


@dataclass(frozen=True)
class DuplicateSearch:
    """Images that are the same or nearly, or show the same thing."""

    findings: list[Finding]
    pairs: tuple[tuple[int, int], ...]
    """Indices of records that look alike: everywhere; and of those that overlap, across splits."""


def find_duplicates(
    records: Sequence[SampleRecord],
    pool: WorkerPool[SampleList] | None = None,
    progress: ProgressCallback | None = None,
) -> DuplicateSearch:
    """Findings about images that are the same or nearly, across splits and within them.

    Args:
        records: of all samples.
        pool: who reads images again, with the samples of these records in their order; this process alone if not given.
        progress: called with the number of blocks of pairs that are laid over each other, and that of all.

    Example:
        >>> find_duplicates([])
        DuplicateSearch(findings=[], pairs=())
    """
    image_hashes = [record.image_hash or _NO_HASH for record in records]
    findings = _find_shared_samples(records)
    repeats: dict[str, list[_RecordPair]] = {}
    comparisons_left = _MAX_LABEL_COMPARISONS
    identical = find_identical(image_hashes)
    for indices in identical:
        group = [records[index] for index in indices]
        first = min(group, key=_split_rank)
        other = next((record for record in group if _crosses_splits(first, record)), None)
        if other:
            findings.append(_make_leak_finding(first, other, len(group) - 2))
        by_split: dict[str, list[SampleRecord]] = {}
        for record in group:
            for split in _get_disjoint_splits(record):
                by_split.setdefault(split, []).append(record)
        for split, members in by_split.items():
            repeats.setdefault(split, []).extend((members[0], record) for record in members[1:])
        labelled = [record for record in group if record.label]
        differing = next((record for record in labelled if record.label != labelled[0].label), None)
        if differing:
            comparisons_left -= 1
            findings.append(_make_contradiction_finding(labelled[0], differing, comparisons_left >= 0))
    text = "have the same pixels as another image of the split"
    for split, pairs in repeats.items():
        if pairs:
            findings.append(_make_repeat_finding("same image twice", split, pairs, text))
    near_duplicates = find_near_duplicates(image_hashes)
    overlaps = _search_overlaps(records, pool, progress)
    findings += _report_near_duplicates(records, near_duplicates) + _report_overlaps(records, near_duplicates, overlaps)
    alike = [(indices[0], other) for indices in identical for other in indices[1:]]
    alike += [match[:2] for match in near_duplicates.matches] + [(m.first, m.second) for m in overlaps.matches]
    return DuplicateSearch(findings, tuple(alike))


def _make_leak_finding(first: SampleRecord, second: SampleRecord, more: int) -> Finding:
    """The same pixels in two splits; where the model is not trained on either, only a metric is wrong."""
    text = f"{_describe(second)}: is the same image as {_describe(first)}" + (f", like {more} more" if more else "")
    hint = "remove it from one of them: a metric on images that were trained on measures nothing"
    is_error = _get_disjoint_splits(first) | _get_disjoint_splits(second) >= set(TRAINING_SPLITS)
    samples = second.sample, first.sample
    return Finding("error" if is_error else "warning", "same image in two splits", text, hint, samples)


def _find_shared_samples(records: Sequence[SampleRecord]) -> list[Finding]:
    """Samples that are themselves in both splits."""
    hint = "remove it from one of them"
    return [
        Finding("error", "same image in two splits", f"{r.sample.image}: is in train and in val", hint, (r.sample,))
        for r in records
        if set(r.splits) >= set(TRAINING_SPLITS)
    ]


def _search_overlaps(
    records: Sequence[SampleRecord], pool: WorkerPool[SampleList] | None, progress: ProgressCallback | None
) -> OverlapSearch:
    """Search for images of splits that should have nothing in common that show the same thing."""
    digests = {record.image_hash.digest: i for i, record in reversed(list(enumerate(records))) if record.image_hash}
    first_index = [digests[r.image_hash.digest] if r.image_hash else i for i, r in enumerate(records)]
    splits = {split: 1 << i for i, split in enumerate(sorted(_DISJOINT_SPLITS))}
    masks = np.array(
        [sum(splits[s] for s in _get_disjoint_splits(r) if s in splits) for r in records] or [0], dtype=np.int64
    )
    features = [r.features if r.features and first_index[i] == i else _NO_FEATURES for i, r in enumerate(records)]

    def may_pair(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        left, right = masks[first], masks[second]
        return (left & right == 0) & (left > 0) & (right > 0)

    if pool is None:
        unread = Classes(("any",), ((0, 0, 0),))  # images alone are read
        pool = WorkerPool(SampleList(tuple(record.sample for record in records), unread), 1)

    def verify(blocks: Sequence[Sequence[Alignment]]) -> Iterator[list[Match]]:
        return track(pool.map(_verify_block, blocks), len(blocks), progress)

    return find_overlaps(features, may_pair, verify)


def _verify_block(state: SampleList, alignments: Sequence[Alignment]) -> list[Match]:
    return verify_alignments(lambda i: reduce_to_gray(state.samples[i].read_image()), alignments)


def _report_overlaps(
    records: Sequence[SampleRecord], near_duplicates: NearDuplicates, search: OverlapSearch
) -> list[Finding]:
    """Images that show the same thing: of each held-out image the one that it has the most in common with."""
    known = {match[:2] for match in near_duplicates.matches}
    best: dict[int, tuple[float, Match]] = {}
    for match in search.matches:
        if (match.first, match.second) in known:
            continue
        held_out = max(match.first, match.second, key=lambda index: _split_rank(records[index]))
        area = max(match.fraction, match.coverage)
        best[held_out] = max(best.get(held_out, (-1.0, match)), (area, match), key=lambda entry: entry[0])
    hint = "keep what shows the same in one split"
    hint += "" if search.complete else "; there may be more, for too many are alike to compare all"
    findings = []
    for held_out, (_, match) in sorted(best.items()):
        pair = match if match.first == held_out else match.reversed()
        record, other = records[pair.first], records[pair.second]
        relation = pair.describe()
        text = (
            f"{_describe(record)}: {'' if relation.startswith('has') else 'looks like '}{relation} {_describe(other)}; "
            f"laid over each other, their correlation is {match.correlation:.3f}"
        )
        samples = record.sample, other.sample
        findings.append(Finding("warning", "overlapping image in two splits", text, hint, samples))
    return findings


def _report_near_duplicates(records: Sequence[SampleRecord], near_duplicates: NearDuplicates) -> list[Finding]:
    """Images that look the same: of each held-out image the one most like it, and within a split how many."""
    best: dict[int, tuple[float, int, int]] = {}
    within_split: dict[str, dict[int, _RecordPair]] = {}
    for first, second, bits, correlation in near_duplicates.matches:
        if _crosses_splits(records[first], records[second]):
            reference, held_out = sorted((first, second), key=lambda index: _split_rank(records[index]))
            best[held_out] = max(best.get(held_out, (-1.0, 0, 0)), (correlation, reference, bits))
        for split in _get_disjoint_splits(records[first]) & _get_disjoint_splits(records[second]):
            for index in (first, second):
                within_split.setdefault(split, {}).setdefault(index, (records[first], records[second]))
    findings = []
    hint = "keep what belongs together in one split"
    for held_out, (correlation, reference, bits) in sorted(best.items(), key=lambda item: (-item[1][0], item[0])):
        record, similar = records[held_out], records[reference]
        text = (
            f"{_describe(record)}: looks like {_describe(similar)}; {bits} of 64 bits of their hashes differ, and the "
            f"correlation is {correlation:.3f}"
        )
        samples = record.sample, similar.sample
        findings.append(Finding("warning", "similar image in two splits", text, hint, samples))
    text = "look like another image of the split, as frames of a film do"
    text += "" if near_duplicates.complete else " (at least: too many are alike to compare all)"
    for split, pairs in sorted(within_split.items()):
        findings.append(_make_repeat_finding("similar images", split, list(pairs.values()), text))
    return findings


def _make_repeat_finding(kind: FindingKind, split: str, pairs: list[_RecordPair], text: str) -> Finding:
    first, second = pairs[0]
    message = (
        f"{split}: {len(pairs):,} of its images {text}, such as {first.sample.image} and {second.sample.image.name}"
    )
    shown = {
        (record.sample.image, record.sample.stem): record.sample for pair in pairs[:MAX_EXAMPLES] for record in pair
    }
    return Finding("warning", kind, message, samples=tuple(shown.values())[:MAX_EXAMPLES])


def _make_contradiction_finding(record: SampleRecord, other: SampleRecord, is_compared: bool) -> Finding:
    """The same image has two labels; how much they differ where that is still counted."""
    fraction = _label_difference(record, other) if is_compared else None
    amount = "" if fraction is None else f" in {fraction:.2%} of the pixels"
    text = (
        f"{record.sample.image} and {other.sample.image}: are the same image, and their labels {record.sample.label} "
        f"and {other.sample.label} differ{amount}"
    )
    is_large = fraction is None or fraction > _MAX_LABEL_DIFFERENCE
    severity = choose_severity(*record.splits, *other.splits) if is_large else "warning"
    samples = record.sample, other.sample
    return Finding(severity, "same image, other label", text, "keep the label that is right", samples)


def _label_difference(record: SampleRecord, other: SampleRecord) -> float | None:
    try:
        first, second = record.sample.read_label(), other.sample.read_label()
    except InputError:  # reported as a finding of its own
        return None
    return float(np.mean(first != second)) if first.shape == second.shape else None


def _get_disjoint_splits(record: SampleRecord) -> set[str]:
    """Its splits; unions of others, such as trainval, only where it is in no other."""
    return set(record.splits) & _DISJOINT_SPLITS or set(record.splits)


def _crosses_splits(record: SampleRecord, other: SampleRecord) -> bool:
    """Whether the two are in splits that should have nothing in common."""
    left, right = _get_disjoint_splits(record) & _DISJOINT_SPLITS, _get_disjoint_splits(other) & _DISJOINT_SPLITS
    return bool(left and right) and not left & right


def _split_rank(record: SampleRecord) -> int:
    """0 for train, 1 for val, 2 for others."""
    return next((rank for rank, split in enumerate(TRAINING_SPLITS) if split in record.splits), len(TRAINING_SPLITS))


def _describe(record: SampleRecord) -> str:
    return f"{record.sample.image} ({', '.join(record.splits)})"
