"""Label Studio's export "Brush labels to PNG": a mask for each label of each task."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dilated.data.formats._annotations import AnnotatedImage, AnnotationFormat, Annotations, NamedObject
from dilated.data.images import image_size, open_image
from dilated.data.labels import make_size_error
from dilated.data.masks import Mask
from dilated.errors import InputError
from dilated.files import plural

_NAME = re.compile(r"task-(\d+)-annotation-(\d+)-(?:by-[^-]*-)?([^-]+)-(.+)-(\d+)\.png")
"""The task, the annotation, the annotator, the name of the brush in the labeling interface, the label, a number."""
_FOLDERS = ("", "masks", "labels", "annotations")


class LabelStudioBrush(AnnotationFormat):
    """Label Studio's export "Brush labels to PNG": a mask for each label of each task.

        task-7-annotation-12-by-USER-tag-LABEL-0.png   here, or in masks/, labels/ or annotations/
        images/7.jpg                       the image of task 7, called 7 or task-7; here or anywhere below

    The masks name no images. Give the images the numbers of their tasks, or export the project as JSON, which names
    them and holds the same masks (`label_studio`).

    What is not 0 in a mask is the label. Class 0 is `background`, pixels of no mask; the labels follow, sorted by name.
    Where masks overlap, the smaller is on top. Of several annotations of a task that of the highest number is read.
    """

    name = "label_studio_brush"
    title = "Label Studio's brush labels to PNG"
    lacks_colors = "Label Studio's export has"
    smaller_on_top = True

    def detect(self) -> bool:
        return bool(self._masks)

    @cached_property
    def _masks(self) -> list[_MaskName]:
        paths = [path for folder in _FOLDERS for path in sorted((self.root / folder).glob("task-*.png"))]
        return [parsed for path in paths if (parsed := _MaskName.parse(path))]

    def _read(self) -> Annotations:
        annotations: dict[int, set[int]] = {}
        for mask in self._masks:
            annotations.setdefault(mask.task, set()).add(mask.annotation)
        by_task: dict[int, list[_MaskName]] = {}
        for mask in self._masks:
            if mask.annotation == max(annotations[mask.task]):
                by_task.setdefault(mask.task, []).append(mask)
        images = []
        for task, masks in sorted(by_task.items()):
            size = image_size(masks[0].path)
            objects = [NamedObject(mask.label, mask.path.name, _MaskFile(mask.path)) for mask in masks]
            images.append(AnnotatedImage(str(task), masks[0].path, size, objects, other_names=[f"task-{task}"]))
        notes = []
        if several := sum(len(numbers) > 1 for numbers in annotations.values()):
            notes.append(
                f"{plural(several, 'task')} with several annotations, of which that of the highest number is read."
            )
        brushes = Counter(mask.brush for mask in self._masks)
        notes.append(
            f"The labels are what follows {' or '.join(f'{brush}-' for brush in sorted(brushes))} in the names."
        )
        return Annotations(sorted({mask.label for masks in by_task.values() for mask in masks}), images, notes=notes)

    def _find_image(self, image: AnnotatedImage) -> Path | None:
        path = super()._find_image(image)
        return path if path is None or _MaskName.parse(path) is None else None

    def _describe_missing(self, image: AnnotatedImage) -> str:
        return (
            f"{image.source}: {self.title}: found no image of task {image.name}; call it images/{image.name}.jpg, or "
            "export the project as JSON, which names the images and holds the same masks"
        )


class _MaskName(NamedTuple):
    """What the name of a mask says."""

    path: Path
    task: int
    annotation: int
    brush: str
    label: str

    @classmethod
    def parse(cls, path: Path) -> _MaskName | None:
        """The parts of a name; None where it is not one of Label Studio's.

        Example:
            >>> _MaskName.parse(Path("task-7-annotation-12-by-ann@example.org-tag-Car-x-0.png"))[1:]
            (7, 12, 'tag', 'Car-x')
        """
        match = _NAME.fullmatch(path.name)
        return cls(path, int(match[1]), int(match[2]), match[3], match[4]) if match else None


@dataclass(frozen=True)
class _MaskFile:
    """A mask of the whole image in a file of its own."""

    path: Path

    def __call__(self, size: tuple[int, int]) -> Mask:
        """The mask (H, W).

        Raises:
            InputError: an unreadable file, one of several channels, or of another size.
        """
        with open_image(self.path) as image:
            if image.mode not in ("L", "1"):
                raise InputError(f"{self.path}: has the mode {image.mode!r}", hint="export the masks again")
            mask: Mask = np.asarray(image) > 0
        if mask.shape != size:
            raise make_size_error(self.path, mask.shape, size)
        return mask
