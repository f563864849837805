"""What the exports of annotation tools share: named images with drawn objects, of named classes with colors.

A subclass reads its files into one `Annotations`; finding the images, the splits, the ids of the classes and the notes
are done here. Objects are drawn in the order in which they are given, later ones over earlier ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from dilated.data.formats._classes import (
    BACKGROUND,
    OBJECTS_NOTE,
    classes_from_names,
    prepend_background,
    require_distinct_names,
)
from dilated.data.formats._format import Format, Parsed
from dilated.data.formats._image_finder import ImageFinder
from dilated.data.formats._match import SPLIT_ALIASES, SPLITS, UNDIVIDED, MatchResult
from dilated.data.formats._objects import DrawnObject, ObjectReader, Shape
from dilated.data.images import image_size
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import plural
from dilated.palettes import Color

_ORDER_NOTE = "Pixels of no object are the class background; later objects are drawn over earlier ones."


class NamedObject(NamedTuple):
    """An object of an image: the name of its class, how messages call it, and what draws it."""

    class_name: str
    name: str
    shape: Shape


@dataclass(frozen=True)
class AnnotatedImage:
    """An image as an annotation file describes it."""

    name: str
    """As the file has it; it may hold folders."""
    source: Path
    """The annotation file."""
    size: tuple[int, int] | None
    """(H, W); None where the file does not say it, which is then that of the image."""
    objects: Sequence[NamedObject]
    """In the order in which they are drawn."""
    subset: str = UNDIVIDED
    """Of the tool's division of the images."""
    other_names: Sequence[str] = ()
    """That the image may have where there is none of its name."""


@dataclass(frozen=True)
class Annotations:
    """What the files of an export say."""

    class_names: Sequence[str]
    """In the order of their ids, with or without the background."""
    images: Sequence[AnnotatedImage]
    colors: Mapping[str, Color] = field(default_factory=dict)
    """Of the classes that have one."""
    notes: Sequence[str] = ()


class AnnotationFormat(Format):
    """An export of an annotation tool; a base class without a layout of its own."""

    draws_objects = True
    title: ClassVar[str]
    """What the tool calls the export, with the tool's name, for messages."""
    smaller_on_top: ClassVar[bool] = False
    """Whether smaller objects are drawn on top; otherwise later ones are."""

    @abstractmethod
    def _read(self) -> Annotations:
        """Read the export's files; empty where there are none.

        Raises:
            InputError: a file that is damaged, or holds what cannot be read.
        """

    def _image_folders(self, image: AnnotatedImage) -> Sequence[str]:
        """Where an image may lie, below the data folder."""
        return [f"images/{image.subset}", "images", image.subset, ""]

    def parse(self) -> Parsed:
        splits = {SPLIT_ALIASES.get(image.subset.lower()) for image in self._annotations.images}
        known = [split for split in (*SPLITS, UNDIVIDED) if split in splits]
        return Parsed(known or [UNDIVIDED] * bool(splits), self._match_images, self._read_classes, self._describe)

    @cached_property
    def _annotations(self) -> Annotations:
        annotations = self._read()
        require_distinct_names(annotations.class_names, f"{self.root}: the classes of {self.title}")
        return annotations

    @cached_property
    def _class_names(self) -> list[str]:
        return prepend_background(self._annotations.class_names)

    @cached_property
    def _finder(self) -> ImageFinder:
        return ImageFinder(self.root)

    @cached_property
    def _images_by_split(self) -> dict[str, list[AnnotatedImage]]:
        """The images of each split; of subsets with other names only where there are no others."""
        by_split: dict[str, list[AnnotatedImage]] = {}
        for image in self._annotations.images:
            by_split.setdefault(SPLIT_ALIASES.get(image.subset.lower(), ""), []).append(image)
        return by_split if set(by_split) - {""} else {UNDIVIDED: by_split.get("", [])}

    def _match_images(self, split: str) -> MatchResult:
        """The samples in the order of the files, and a line for each image that is missing."""
        ids = self.classes_file.map_names_to_ids(self._class_names, self.title)
        samples, problems = [], []
        names_by_path: dict[Path, str] = {}
        for image in self._images_by_split[split]:
            path = self._find_image(image)
            if path is None:
                problems.append(self._describe_missing(image))
                continue
            if path in names_by_path:
                raise InputError(
                    f"{image.source}: {path} is the one file that fits both {names_by_path[path]!r} and {image.name!r}",
                    hint="put the images into images/ with the folders that their names have",
                )
            names_by_path[path] = image.name
            drawn = tuple(DrawnObject(ids[entry.class_name], entry.name, entry.shape) for entry in image.objects)
            size = image.size or image_size(path)
            reader = ObjectReader(path, size, drawn, ids[BACKGROUND], self.smaller_on_top)
            samples.append(Sample(path, image.source, reader, stem=self._name_sample(path)))
        return MatchResult(samples, problems)

    def _name_sample(self, path: Path) -> str:
        """The name of an image's sample: its stem after its folders, of which images/ is left out."""
        return "__".join(path.relative_to(self.root).with_suffix("").parts).removeprefix("images__")

    def _find_image(self, image: AnnotatedImage) -> Path | None:
        names = (image.name, *image.other_names)
        paths = (self._finder.find(name, self._image_folders(image)) for name in names)
        return next((path for path in paths if path), None)

    def _describe_missing(self, image: AnnotatedImage) -> str:
        return f"{image.source}: {self.title}: found no image {image.name!r} below {self.root}; expected it in images/"

    def _read_classes(self) -> Classes:
        """The background and the export's classes, with its colors where they are distinct."""
        names, colors = self._class_names, dict(self._annotations.colors)
        colors.setdefault(BACKGROUND, (0, 0, 0))
        classes = classes_from_names(names, self.title)
        if len({colors.get(name) for name in names} - {None}) < len(names):
            return classes
        return Classes(classes.names, tuple(colors[name] for name in names), source=self.title)

    def _describe(self) -> list[str]:
        """How overlaps are read, and which images are left out."""
        order = OBJECTS_NOTE if self.smaller_on_top else _ORDER_NOTE
        notes = [order, *self._annotations.notes]
        if count := sum(not image.objects for image in self._annotations.images):
            notes.append(f"{plural(count, 'image')} without objects, read as all background.")
        left_out = [*self._images_by_split.get("", [])]
        if set(self._images_by_split) & set(SPLITS):
            left_out += self._images_by_split.get(UNDIVIDED, [])
        for subset, count in Counter(image.subset for image in left_out).items():
            notes.append(f"{plural(count, 'image')} of the subset {subset!r} left out; train, val and test are read.")
        return notes
