"""Annotated objects as label maps: the polygons, boxes and masks of the formats whose labels are drawn.

    reader = ObjectReader(image, (4, 6), (DrawnObject(1, "annotation 7", Polygons((corners,))),))
    reader(path)                                         # (H, W) label map; errors name the file and the object

Every shape is small and picklable, and is drawn when the image's label is read: workers of a loader get thousands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import image_size
from dilated.data.labels import ObjectRules, make_size_error
from dilated.data.masks import Mask, decode_rle, decompress_rle, merge_masks, rasterize_polygon
from dilated.errors import InputError
from dilated.files import plural
from dilated.label_ids import LabelArray

Shape = Callable[[tuple[int, int]], Mask]
"""Draws an object: the (H, W) of its image -> its mask (H, W)."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """The pixels that at least one polygon contains, and no hole.

    Args:
        outlines: (n, 2) corners of x and y each.
        holes: the same.
    """

    outlines: tuple[NDArray[np.float64], ...]
    holes: tuple[NDArray[np.float64], ...] = ()

    def __call__(self, size: tuple[int, int]) -> Mask:
        mask: Mask = np.logical_or.reduce([rasterize_polygon(outline, size) for outline in self.outlines])
        for hole in self.holes:
            mask &= ~rasterize_polygon(hole, size)
        return mask


@dataclass(frozen=True, eq=False)
class ColumnRuns:
    """A mask of the whole image as COCO's run lengths, column by column; a text is compressed."""

    counts: str | NDArray[np.int64]

    def __call__(self, size: tuple[int, int]) -> Mask:
        """The mask (H, W).

        Raises:
            InputError: runs that are damaged, or of a mask of another size.
        """
        return decode_rle(decompress_rle(self.counts) if isinstance(self.counts, str) else self.counts, size)


class DrawnObject(NamedTuple):
    """An object of an image: its class or the ignored value, how messages call it, and what draws it."""

    value: int
    name: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class ObjectReader:
    """Read an image's label map: it is drawn from the objects, and the file is named in errors alone."""

    image: Path
    size: tuple[int, int]
    """(H, W) as the annotation file has it."""
    objects: tuple[DrawnObject, ...]
    background: int = 0
    """The value where there is no object."""
    smaller_on_top: bool = True
    """Whether smaller objects are drawn on top; otherwise later ones are."""

    def __call__(self, path: Path) -> LabelArray:
        """The label map (H, W).

        Raises:
            InputError: an image of another size, or a mask that is damaged.
        """
        if (actual_size := image_size(self.image)) != self.size:
            raise make_size_error(f"{path}, {self.image.name}", self.size, actual_size)
        masks = ((entry.value, self._draw(path, entry)) for entry in self.objects)
        return merge_masks(masks, self.size, self.background, self.smaller_on_top)

    def _draw(self, path: Path, entry: DrawnObject) -> Mask:
        try:
            return entry.shape(self.size)
        except InputError as error:
            raise InputError(f"{path}: {entry.name} of {self.image.name}: {error.message}", error.hint) from error


@dataclass
class ObjectCounts:
    """What an annotation file has besides objects with a mask, by kind, as it is parsed."""

    rules: ObjectRules
    ignored: int = 255
    """The value of ignored pixels."""
    crowds: int = 0
    crowds_are_ignored: bool = False
    skipped: Counter[str] = field(default_factory=Counter)
    """Objects that were left out, by what they are."""

    def read_crowd(self, value: int) -> int:
        """Count a crowd, and say what its pixels are: the value, or the ignored one."""
        self.crowds += 1
        return self.ignored if self.crowds_are_ignored else value

    def skip(self, where: str, kind: str, problem: str) -> None:
        """Leave an object out, if classes.toml says so.

        Args:
            where: the file and the object.
            kind: what such objects are called, for the note.
            problem: why it has no mask.

        Raises:
            InputError: classes.toml does not say so.
        """
        if self.rules.objects_without_mask != "skip":
            raise InputError(
                f"{where}: {problem}",
                hint='draw it as a polygon or mask, or write `objects_without_mask = "skip"` into classes.toml, which '
                "leaves such objects out",
            )
        self.skipped[kind] += 1

    def describe(self, name: str) -> list[str]:
        """A line for each kind of object that was not read as its class or not at all.

        Args:
            name: that of the file.
        """
        lines = []
        if self.crowds:
            owner, verb = ("its", "is") if self.crowds == 1 else ("their", "are")
            read_as, other = ("ignored", "class") if self.crowds_are_ignored else (f"{owner} class", "ignore")
            lines.append(
                f"{name}: {plural(self.crowds, 'object')} with iscrowd = 1 {verb} read as {read_as}; "
                f'`crowds = "{other}"` in classes.toml changes that.'
            )
        lines += [
            f"{name}: {plural(count, 'object')} without a mask left out ({kind})."
            for kind, count in self.skipped.items()
        ]
        return lines
