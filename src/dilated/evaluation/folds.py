"""The units that tuning takes as independent, and the folds that it is cross-fitted over.

units = divide_into_units(groups, block_length=10)
units.of_image, units.fold_of_image                  # (P,) each
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import Groups
from dilated.data.units import SamplingUnits, UnitKind
from dilated.errors import InputError
from dilated.files import plural

_MOST_FOLDS = 5


@dataclass(frozen=True)
class TuningUnits:
    """Which unit and which fold each image belongs to."""

    kind: UnitKind
    """What a unit is: image, group, or block of neighboring images of one group."""
    of_image: NDArray[np.int64]
    """(P,): the unit of each image."""
    fold_of_image: NDArray[np.int64]
    """(P,): the fold of each image; images of one unit are in one fold."""
    source: str
    """Where the groups came from, in words."""

    @property
    def number(self) -> int:
        """How many units there are."""
        return int(self.of_image.max()) + 1

    @property
    def num_folds(self) -> int:
        return int(self.fold_of_image.max()) + 1

    def describe(self) -> str:
        """Say what is taken as independent, and what that cannot say."""
        images = plural(len(self.of_image), "image")
        if self.kind == "block":
            return (
                f"Units are {self.number} blocks of neighboring images in {images} of one or two groups "
                f"({self.source}): this says nothing about other groups, such as other films."
            )
        return f"Units are {plural(self.number, self.kind)} ({images}; {self.source})."


def divide_into_units(groups: Groups, block_length: int) -> TuningUnits:
    """Divide images into units and these into up to 5 folds: by group, or by block where there are less than 3 groups.

    Groups are dealt to the fold with the fewest images, the largest first; blocks of a film stay beside each other, so
    that few neighbors are in different folds.

    Args:
        block_length: images in a block.

    Raises:
        InputError: too few images for two folds.

    Example:
        >>> films = Groups(tuple("aabbc"), (None,) * 5, "given")
        >>> units = divide_into_units(films, 1)
        >>> units.kind, units.of_image.tolist(), units.fold_of_image.tolist()
        ('group', [0, 0, 1, 1, 2], [0, 0, 1, 1, 2])
    """
    sampling = SamplingUnits(groups)
    kind = sampling.kind
    if kind == "none":
        raise InputError(
            f"tune: {plural(len(groups), 'image')} of {plural(sampling.num_groups, 'group')} are too few to fit on "
            "some and measure on others",
            hint="give 3 groups or more, or 8 images of each",
        )
    of_image = sampling.group_of_image
    if kind == "block":
        of_image = np.zeros(len(groups), dtype=np.int64)
        units = 0
        for series in sampling.series:
            blocks = max(2, len(series) // max(block_length, 1))
            of_image[series] = units + np.arange(len(series)) * blocks // len(series)
            units += blocks
    sizes = np.bincount(of_image)
    folds = min(_MOST_FOLDS, len(sizes))
    fold_of_unit = np.arange(len(sizes)) * folds // len(sizes)
    if kind != "block":
        filled = np.zeros(folds, dtype=np.int64)
        for unit in np.argsort(-sizes, kind="stable"):
            fold_of_unit[unit] = filled.argmin()
            filled[fold_of_unit[unit]] += sizes[unit]
    return TuningUnits(kind, of_image, fold_of_unit[of_image], groups.source)
