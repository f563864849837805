"""Plain folders of images and labels with the same stems: labels of values, or masks of the classes' colors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from dilated.data.auto_split import find_split_lists, find_stem
from dilated.data.formats._classes import (
    ColorReader,
    encode_ids,
    find_unused_color,
    require_default_values,
    require_distinct_colors,
    reset_values,
)
from dilated.data.formats._format import Format, MissingClassesError, Parsed, SampleArrays, save_pairs
from dilated.data.formats._match import (
    SPLITS,
    UNDIVIDED,
    MatchResult,
    find_label_suffix,
    index_by_stem,
    match_folders,
)
from dilated.data.images import IMAGE_SUFFIXES, is_file, list_image_files, open_image
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import read_lines

_LABEL_FOLDERS = ("labels", "masks", "annotations")


class Folders(Format):
    """Plain folders of images and labels with the same stems, in any of these arrangements:

        images/train/  labels/train/  images/val/  labels/val/     splits as folders inside
        train/images/  train/labels/  val/images/  val/labels/     splits as folders outside
        images/  labels/  train.txt  val.txt                       splits as list files, one image per line
        images/  labels/                                           no splits: divided by the stems' hashes, with a note

    `labels/` may be called `masks/` or `annotations/`. Labels may all end in `_mask` or all in `_label`: `a_mask.png`
    belongs to `a.jpg`. A line of a list file is a stem, a file name in `images/`, or an image and a label as paths from
    the data folder.
    """

    name = "folders"

    def detect(self) -> bool:
        return (self.root / "images").is_dir() or any((self.root / s / "images").is_dir() for s in SPLITS)

    def parse(self) -> Parsed:
        """The splits that folders or lists name."""
        lists = find_split_lists(self.root)
        splits = [s for s in SPLITS if self._is_inside(s) or self._is_outside(s) or s in lists]
        images = self.root / "images"
        if not splits and images.is_dir() and list_image_files(images):
            splits = [UNDIVIDED]
        return Parsed(splits, self._match_files, describe=self._describe)

    def _match_files(self, split: str) -> MatchResult:
        if self._is_outside(split):
            return _match_folders(self.root / split / "images", _label_folder(self.root / split))
        if self._is_inside(split):
            return _match_folders(self.root / "images" / split, _label_folder(self.root) / split)
        if split == UNDIVIDED:
            return _match_folders(self.root / "images", _label_folder(self.root))
        return MatchResult(_match_listed(self.root, self.root / f"{split}.txt"))

    def _describe(self) -> list[str]:
        lines = []
        for parent in (self.root, *(self.root / s for s in SPLITS)):
            existing = [name for name in _LABEL_FOLDERS if (parent / name).is_dir()]
            if not (parent / "images").is_dir() or not existing:
                continue
            folder = _label_folder(parent)
            if folder.name != "labels":
                lines.append(f"The labels are read from {folder}, for there is no {parent / 'labels'}.")
            elif len(existing) > 1:
                lines.append(f"The labels are read from {folder}; {parent / existing[1]} is left alone.")
        return lines

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """The labels have the values of the classes, 255 where ignored."""
        folders = root / "images" / split, root / "labels" / split
        save_pairs(samples, *folders, lambda ids: encode_ids(ids, classes, IGNORE))

    def _is_outside(self, split: str) -> bool:
        return (self.root / split / "images").is_dir()

    def _is_inside(self, split: str) -> bool:
        return (self.root / "images" / split).is_dir()


class ColorMasks(Folders):
    """Plain folders whose labels are masks of colors, those of the classes in classes.toml.

    The files lie as in the format `folders`. They are read so where classes.toml says `read = "colors"` at its top, or
    where the first label is an image of colors (RGB, RGBA), which holds no values. A palette image without that line is
    one of values. A color that is neither a class's nor in `ignore_colors` is an error with its position.
    """

    name = "colors"

    def detect(self) -> bool:
        if not super().detect():
            return False
        try:
            classes = self.classes_file.classes
            if classes is None or classes.read == "colors":
                return classes is not None
            first_label = _find_first_label(self.root)
            if first_label is None:
                return False
            with open_image(first_label) as image:
                return image.mode in ("RGB", "RGBA")
        except InputError:
            return False  # reported when the classes or the label are read

    def parse(self) -> Parsed:
        return replace(super().parse(), read_classes=self._refuse_missing_classes)

    def _refuse_missing_classes(self) -> Classes:
        raise MissingClassesError(
            f"{self.classes_file.path}: no such file, and nothing else says what the labels' colors mean",
            hint="give "
            "[[class]] tables with name and color, and ignore_colors = [[0, 0, 0]] above them for those that count "
            "nowhere",
        )

    def _match_files(self, split: str) -> MatchResult:
        classes = self.classes
        require_default_values(classes, "colors")
        require_distinct_colors(classes)
        ignored = classes.ignore_colors
        reader = ColorReader(
            (*classes.names, *["ignored"] * len(ignored)),
            (*classes.colors, *ignored),
            (*range(len(classes)), *[IGNORE] * len(ignored)),
        )
        matches = super()._match_files(split)
        return replace(matches, samples=[replace(sample, label_reader=reader) for sample in matches.samples])

    @classmethod
    def can_ignore(cls, classes: Classes) -> bool:
        return bool(classes.ignore_colors)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """The first of the classes' `ignore_colors` is for ignored pixels."""
        require_distinct_colors(classes)
        colors = np.zeros((256, 3), dtype=np.uint8)
        colors[: len(classes)] = classes.colors
        colors[IGNORE] = (*classes.ignore_colors, (0, 0, 0))[0]
        save_pairs(samples, root / "images" / split, root / "labels" / split, lambda ids: colors[ids])

    @classmethod
    def adapt_classes(cls, classes: Classes) -> Classes:
        """The classes with a color for ignored pixels."""
        return replace(reset_values(classes), read="colors", ignore_colors=(find_unused_color(classes),))


def _label_folder(parent: Path) -> Path:
    """The folder of the labels beside images/, or where it should be."""
    existing = [parent / name for name in _LABEL_FOLDERS if (parent / name).is_dir()]
    if len(existing) == 2 and existing[0].name != "labels":
        raise InputError(
            f"{parent}: found masks/ and annotations/; expected one, or labels/",
            hint="rename the one to read to labels/",
        )
    return existing[0] if existing else parent / "labels"


def _match_folders(images: Path, labels: Path) -> MatchResult:
    return match_folders(images, labels, ("the images", f"the labels of {images}"), label_suffix=None)


def _match_listed(root: Path, listing: Path) -> list[Sample]:
    """The samples that a list file names, in its order."""
    folders = root / "images", _label_folder(root)
    images, labels = (index_by_stem(list_image_files(f)) if f.is_dir() else {} for f in folders)
    label_suffix = find_label_suffix(list(images.values()), list(labels.values()))
    labels = {stem.removesuffix(label_suffix): path for stem, path in labels.items()}
    samples = []
    for number, name in read_lines(listing):
        fields, stem = name.split(), find_stem(name, images)
        if len(fields) == 2 and stem not in images:
            sample = Sample(root / fields[0], root / fields[1])
            missing = next((p for p in (sample.image, sample.label) if not is_file(p)), None)
            if missing:
                raise InputError(f"{listing}, line {number}: {missing} does not exist")
        elif stem in images and stem in labels:
            sample = Sample(images[stem], labels[stem])
        else:
            raise InputError(
                f"{listing}, line {number}: found {name!r}, which is not in {folders[stem in images]}",
                hint="give a stem or a file name that exists, or an image and a label as paths",
            )
        samples.append(sample)
    return samples


def _find_first_label(root: Path) -> Path | None:
    """A label, found by listing no more than the names of one folder."""
    parents = [root, *(root / s for s in SPLITS)]
    candidates = [p / name / subfolder for p in parents for name in _LABEL_FOLDERS for subfolder in ("", *SPLITS)]
    for candidate in candidates:
        label = min((p for p in candidate.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES), default=None)
        if label:
            return label
    return None
