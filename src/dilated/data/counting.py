"""Reading all pairs of a data set: the pixels of each class by split, what cannot be read, and what looks wrong.

reading = read_pairs({"train": data.pairs("train")}, data.classes)
reading.splits["train"].pixels                       # labelled pixels by class
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dilated.data.alike import Print
from dilated.data.facts import SAMPLED, Facts
from dilated.data.finding import TRAINED, Finding, Severity
from dilated.data.formats.pairs import Pair
from dilated.data.inspect_pair import Look, inspect_pair
from dilated.data.inspect_tally import Tally
from dilated.data.labels import Classes

Key = tuple[Path, Path, str]

AHEAD = 64  # pairs that are read before their turn, for each thread; bounds what waits in memory


@dataclass(frozen=True)
class SplitCounts:
    """A split: how many pairs of picture and label it has, and the pixels of those that can be read."""

    pictures: int
    pixels: tuple[int, ...]
    ignored: int

    @property
    def labelled(self) -> int:
        """Pixels of any class."""
        return sum(self.pixels)

    @property
    def ignored_share(self) -> float:
        """Ignored pixels of all pixels; NaN without any."""
        return self.ignored / (self.labelled + self.ignored) if self.labelled + self.ignored else float("nan")


@dataclass(frozen=True)
class Seen:
    """What is kept of each pair: its splits, and the fingerprints of its picture and its label."""

    pair: Pair
    splits: tuple[str, ...]
    print: Print | None
    label: bytes


@dataclass(frozen=True)
class Reading:
    """What reading all pairs gave."""

    splits: dict[str, SplitCounts]
    total: SplitCounts
    findings: list[Finding]
    """One for each bad file."""
    facts: Facts
    tallies: dict[str, Tally]
    seen: list[Seen]


def read_pairs(
    pairs: dict[str, list[Pair]],
    classes: Classes,
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Reading:
    """Read every picture and label once, though it be in two splits, and count the pixels of those that are whole.

    Args:
        pairs: by split.
        workers: threads; as many as processors if not given.
        progress: called with the number of pairs that are read and that of all.

    Example:
        >>> missing = Pair(Path("a.png"), Path("a_L.png"))
        >>> reading = read_pairs({"train": [missing]}, Classes(("sky",), ((0, 0, 255),)))
        >>> reading.total, [finding.kind for finding in reading.findings]
        (SplitCounts(pictures=1, pixels=(0,), ignored=0), ['unreadable picture', 'unreadable label'])
    """
    tasks = {pair_key(pair): pair for split in pairs.values() for pair in split}
    splits: dict[Key, tuple[str, ...]] = dict.fromkeys(tasks, ())
    measured: set[Key] = set()
    for split, group in pairs.items():
        keys = list(dict.fromkeys(pair_key(pair) for pair in group))
        for key in keys:
            splits[key] += (split,)
        step = max(1, -(-len(keys) // SAMPLED))
        measured.update(keys[::step])
    tallies = {split: Tally(classes) for split in pairs}
    total = Tally(classes)
    findings: list[Finding] = []
    seen: list[Seen] = []
    looks = _read(tasks, classes, measured, workers or os.cpu_count() or 1)
    for number, (key, look) in enumerate(looks, 1):
        pair = tasks[key]
        for tally in (total, *(tallies[split] for split in splits[key])):
            tally.add(pair, look)
        severity: Severity = "error" if set(splits[key]) & set(TRAINED) else "warning"
        findings += [Finding(severity, kind, text, (pair,)) for kind, text in look.problems]
        seen.append(Seen(pair, splits[key], look.print, look.label_digest))
        if progress:
            progress(number, len(tasks))
    facts = Facts(classes.names, {split: tally.facts() for split, tally in tallies.items()}, total.facts())
    counts = {split: _counts(tally, len(pairs[split])) for split, tally in tallies.items()}
    return Reading(counts, _counts(total, len(tasks)), findings, facts, tallies, seen)


def _counts(tally: Tally, pictures: int) -> SplitCounts:
    *pixels, ignored = tally.counts.tolist()
    return SplitCounts(pictures, tuple(pixels), ignored)


def _read(tasks: dict[Key, Pair], classes: Classes, measured: set[Key], workers: int) -> Iterator[tuple[Key, Look]]:
    """What each pair gave, in order; decoders let other threads run, so threads are enough."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: dict[Key, Future[Look]] = {}
        try:
            for key, pair in tasks.items():
                waiting[key] = pool.submit(inspect_pair, pair, classes, key in measured)
                if len(waiting) >= AHEAD * workers:
                    first = next(iter(waiting))
                    yield first, waiting.pop(first).result()
            while waiting:
                first = next(iter(waiting))
                yield first, waiting.pop(first).result()
        except BaseException:  # without this an interrupted scan would first read all the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def pair_key(pair: Pair) -> Key:
    """What makes a pair the same one in another split."""
    return pair.image, pair.label, pair.stem
