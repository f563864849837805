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

from dilated.data.facts import Objects, Size, Sizes, SplitFacts
from dilated.data.finding import EXAMPLES
from dilated.data.formats.pairs import Pair
from dilated.data.inspect_pair import Look
from dilated.data.labels import Classes


@dataclass
class Group:
    """Pairs that have something in common: how many, and the first of them."""

    count: int = 0
    first: list[Pair] = field(default_factory=list)

    def add(self, pair: Pair) -> None:
        self.count += 1
        if len(self.first) < EXAMPLES:
            self.first.append(pair)


class Tally:
    """The sums over a split."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.pictures = 0
        self.read = 0
        self.counts: NDArray[np.int64] = np.zeros(len(classes) + 1, dtype=np.int64)
        self.containing: NDArray[np.int64] = np.zeros(len(classes), dtype=np.int64)
        self.sizes: Counter[Size] = Counter()
        self.formats: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.label_formats: Counter[str] = Counter()
        self.label_modes: Counter[str] = Counter()
        self.areas: list[list[int]] = [[] for _ in classes.names]
        self.sampled = 0
        self.blank = 0
        self.rotated = 0
        self.values: Counter[int] = Counter()
        """Pixels by value as the files have them, of label pictures that hold ids."""
        self.holding: dict[int, Group] = {}
        """By value, the labels that hold it."""
        self.stored = 0
        """How many labels `values` is of."""
        self.between: set[int] = set()
        self.blended = Group()
        self.jpeg = Group()
        self.turned = Group()
        """Pictures that an EXIF orientation turns, where the size cannot tell whether the label was turned too."""
        self.single: dict[int, Group] = {}
        """By class, the labels that hold nothing else."""

    def add(self, pair: Pair, look: Look) -> None:
        self.pictures += 1
        if look.size:
            self.sizes[look.size] += 1
        if look.picture:
            self.formats[look.picture.format] += 1
            self.modes[look.picture.mode] += 1
            self.rotated += look.picture.orientation > 1
            square = look.size is not None and look.size[0] == look.size[1]
            if 1 < look.picture.orientation < 5 or (look.picture.orientation >= 5 and square):
                self.turned.add(pair)
        if look.label:
            self.label_formats[look.label.format] += 1
            self.label_modes[look.label.mode] += 1
            if look.label.format == "JPEG":
                self.jpeg.add(pair)
        self.blank += look.print is not None and not look.print.digest
        if look.values:
            self.stored += 1
            self.values.update(look.values)
            for value in look.values:
                self.holding.setdefault(value, Group()).add(pair)
        if look.between:
            self.between |= look.between
            self.blended.add(pair)
        if look.counts is not None:
            self._add_counts(pair, look.counts)
        if look.areas is not None:
            self.sampled += 1
            for owner, areas in look.areas:
                self.areas[owner] += areas.tolist()

    def _add_counts(self, pair: Pair, counts: NDArray[np.int64]) -> None:
        self.read += 1
        self.counts += counts
        there = np.flatnonzero(counts[:-1])
        self.containing[there] += 1
        if len(there) == 1:
            self.single.setdefault(int(there[0]), Group()).add(pair)

    def facts(self) -> SplitFacts:
        """The figures."""
        return SplitFacts(
            pictures=self.pictures,
            sizes=Sizes.of(dict(self.sizes)),
            pixels=tuple(self.counts[:-1].tolist()),
            containing=tuple(self.containing.tolist()),
            read=self.read,
            ignored=int(self.counts[-1]),
            single=sum(group.count for group in self.single.values()),
            blank=self.blank,
            rotated=self.rotated,
            formats=dict(self.formats.most_common()),
            modes=dict(self.modes.most_common()),
            label_formats=dict(self.label_formats.most_common()),
            label_modes=dict(self.label_modes.most_common()),
            objects=tuple(Objects.of(areas) for areas in self.areas),
            sampled=self.sampled,
        )
