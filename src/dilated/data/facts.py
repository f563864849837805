"""What a data set is, in figures: sizes of pictures and objects, shares of classes, modes and formats of files.

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

Size = tuple[int, int]

SAMPLED = 200
"""The most labels of a split of which the objects are measured."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of pictures, (H, W), in order of their areas."""

    least: Size
    median: Size
    greatest: Size
    distinct: int

    @classmethod
    def of(cls, counts: dict[Size, int]) -> Sizes | None:
        """From the number of pictures of each size; None of none.

        Example:
            >>> Sizes.of({(2, 3): 5, (8, 8): 1, (4, 4): 1})
            Sizes(least=(2, 3), median=(2, 3), greatest=(8, 8), distinct=3)
        """
        if not counts:
            return None
        sizes = sorted(counts, key=lambda size: (size[0] * size[1], size))
        upto = np.cumsum([counts[size] for size in sizes])
        middle = int(np.searchsorted(upto, (upto[-1] + 1) // 2))
        return cls(sizes[0], sizes[middle], sizes[-1], len(sizes))


@dataclass(frozen=True)
class Objects:
    """The 4-connected regions of a class; the side of one is the square root of its pixels.

    `low` and `high` are the sides that a tenth of them fall short of and exceed. Half of the class's pixels are in
    regions of at least `by_area`, which specks do not change as they change the median.
    """

    count: int
    low: float
    median: float
    high: float
    by_area: float

    @classmethod
    def of(cls, areas: list[int]) -> Objects | None:
        """From the pixels of each region; None of none.

        Example:
            >>> Objects.of([1, 1, 1, 4, 100])
            Objects(count=5, low=1.0, median=1.0, high=6.8, by_area=10.0)
        """
        if not areas:
            return None
        ordered = np.sort(np.array(areas, dtype=np.int64))
        sides = np.sqrt(ordered)
        low, median, high = (round(float(q), 2) for q in np.quantile(sides, (0.1, 0.5, 0.9)))
        half = int(np.searchsorted(np.cumsum(ordered), ordered.sum() / 2))
        return cls(len(areas), low, median, high, round(float(sides[half]), 2))


@dataclass(frozen=True)
class SplitFacts:
    """One split. What is by class is in the order of the classes."""

    pictures: int
    """Pairs of picture and label, those that cannot be read too."""
    sizes: Sizes | None
    pixels: tuple[int, ...]
    """By class, of the labels that can be read."""
    containing: tuple[int, ...]
    """How many pictures contain the class."""
    read: int
    """Labels that can be read and fit: what `pixels` and `containing` are of."""
    ignored: int
    single: int
    """Labels that hold one class only."""
    blank: int
    """Pictures of a single colour."""
    rotated: int
    """Pictures that their EXIF orientation turns."""
    formats: dict[str, int]
    """Picture files by format, such as PNG."""
    modes: dict[str, int]
    """Picture files by pillow's mode, such as RGB, L, P, RGBA, I;16."""
    label_formats: dict[str, int]
    label_modes: dict[str, int]
    objects: tuple[Objects | None, ...]
    """By class; None where no label of the sample holds it."""
    sampled: int
    """Of how many labels the objects are: all, or 200 spread evenly."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Each class's share of the labelled pixels; NaN without any."""
        total = sum(self.pixels)
        return tuple(count / total if total else float("nan") for count in self.pixels)

    @property
    def ignored_share(self) -> float:
        """Ignored pixels of all; NaN without any."""
        total = sum(self.pixels) + self.ignored
        return self.ignored / total if total else float("nan")


@dataclass(frozen=True)
class Facts:
    """A data set; `all` counts a pair that is in several splits once, but has the objects of all samples."""

    classes: tuple[str, ...]
    splits: dict[str, SplitFacts]
    all: SplitFacts

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)
