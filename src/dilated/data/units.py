"""What an interval is over: groups of images, or blocks of one film; and the one place that words it.

units = SamplingUnits(groups)
units.kind, units.num_groups                         # ("group", 12)
units.summarize().describe()                         # "Intervals are 95% over 12 groups of 340 images ..."
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import Groups
from dilated.files import plural

MIN_GROUPS = 3
"""Groups below which an interval says nothing about other groups: of two, 95% of the possible values would be in it."""
MIN_IMAGES_IN_BLOCKS = 8

UnitKind = Literal["image", "group", "block", "none"]


class SamplingUnits:
    """What is drawn: groups where there are three or more, else blocks of neighboring images within the groups.

    Args:
        groups: the groups of the images that were measured, in their order.

    Example:
        >>> films = Groups(("a", "a", "b", "b", "c", "c"), (1, 2, 1, 2, 1, 2), "given")
        >>> SamplingUnits(films).kind, SamplingUnits(films).num_groups
        ('group', 3)
        >>> SamplingUnits(Groups(("film",) * 40, tuple(range(40)), "given")).kind
        'block'
    """

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        names = {name: i for i, name in enumerate(groups.indices)}
        self.group_of_image: NDArray[np.int64] = np.array([names[label] for label in groups.labels], dtype=np.int64)
        self.num_groups, self.num_images = len(names), len(groups)

    @property
    def kind(self) -> UnitKind:
        """`image` where each is a group of its own, `group`, `block`, or `none` where nothing can be said."""
        if self.num_groups >= MIN_GROUPS:
            return "image" if self.num_groups == self.num_images else "group"
        return "block" if self.num_images >= MIN_IMAGES_IN_BLOCKS * self.num_groups > 0 else "none"

    @cached_property
    def series(self) -> list[NDArray[np.int64]]:
        """The images of each group by their position, as indices: by their order where they have no position."""
        result = []
        for members in self.groups.indices.values():
            positions = [self.groups.positions[index] for index in members]
            order = sorted(range(len(members)), key=lambda i: (positions[i] or 0, i))
            result.append(np.array(members, dtype=np.int64)[order])
        return result

    def summarize(self, block_length: int = 0, effective_images: float | None = None) -> UnitSummary:
        """Say what intervals of these images are over.

        Args:
            block_length: images in a block, where figures have told it.
            effective_images: independent images that would give the same interval, where figures have told it.

        Example:
            >>> films = Groups(("a", "a", "b", "b", "c", "c"), (None,) * 6, "given")
            >>> SamplingUnits(films).summarize().describe()
            'Intervals are 95% over 3 groups of 6 images (given).'
        """
        number = {"image": self.num_images, "group": self.num_groups, "block": self.num_images // max(block_length, 1)}
        names = list(self.groups.indices)
        return UnitSummary(
            self.kind,
            number.get(self.kind, 0),
            self.num_images,
            self.num_groups,
            ", ".join(names[:2]) + (", ..." if len(names) > 2 else ""),
            self.groups.source,
            block_length,
            effective_images,
        )

    def sum_by_group(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum rows of images by group: (P, K) -> (G, K)."""
        if self.num_groups == self.num_images:
            return counts
        sums = np.zeros((self.num_groups, counts.shape[1]), dtype=counts.dtype)
        np.add.at(sums, self.group_of_image, counts)
        return sums


@dataclass(frozen=True)
class UnitSummary:
    """What the intervals of a result are over, in numbers and in words."""

    kind: UnitKind
    number: int
    """Of units: images, groups or blocks; 0 where there is no interval."""
    images: int
    groups: int
    group_names: str
    """The names of the first groups."""
    source: str
    """Where the grouping came from, in words."""
    block_length: int = 0
    """Images in a block, for mean IoU; each figure has its own. 0 before any was measured."""
    effective_images: float | None = None
    """Independent images that would give mean IoU the same interval."""

    def describe(self) -> str:
        """Say what the intervals are over, how many of these there are, and what they are worth."""
        images, groups = plural(self.images, "image"), plural(self.groups, "group")
        worth = ""
        if self.effective_images is not None:
            worth = f", worth about {plural(max(1, round(self.effective_images)), 'independent image')}"
        if self.kind == "image":
            return f"Intervals are 95% over {images}, each taken as independent ({self.source})."
        if self.kind == "group":
            return f"Intervals are 95% over {groups} of {images}{worth} ({self.source})."
        if self.kind == "block":
            blocks = "neighboring images, in"
            if self.block_length:
                blocks = f"{plural(self.block_length, 'neighboring image')}, {self.number} of them in"
            return (
                f"Intervals are 95% over blocks of {blocks} {images} of {groups}, {self.group_names}{worth} "
                f"({self.source}). {groups.capitalize()}: this says nothing about other groups, such as other films."
            )
        if self.images < MIN_GROUPS:
            return f"No intervals: {images} {'says' if self.images == 1 else 'say'} nothing of chance."
        return (
            f"No intervals: {images} of {groups} are too few; they take {MIN_GROUPS} groups, or "
            f"{MIN_IMAGES_IN_BLOCKS} images of each ({self.source})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: `groups`, `effective_n`, and `interval_over` with the unit in numbers and words."""
        return {
            "groups": self.groups,
            "effective_n": self.effective_images,
            "interval_over": {
                "unit": self.kind,
                "number": self.number,
                "block_length": self.block_length or None,
                "group_source": self.source,
                "text": self.describe(),
            },
        }
