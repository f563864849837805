"""Plain folders of images and labels with the same stems: labels of values, or masks of the classes' colors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dilated.data.auto_split import select_split
from dilated.data.formats._classes import find_unused_color, require_default_values, reset_values
from dilated.data.formats._colors import ColorIdReader, ColorIndexReader, encode_ids, require_distinct_colors
from dilated.data.formats._format import (
    SPLITS,
    Format,
    IgnoredPixelsError,
    MissingClassesError,
    SampleArrays,
    make_folders,
    save_image,
)
from dilated.data.formats._match import MatchResult, find_stem, index_by_stem, list_images, match_labels
from dilated.data.images import IMAGE_SUFFIXES, is_file, list_image_files, open_image
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import read_lines

_LABEL_FOLDERS = ("labels", "masks", "annotations")
_LABEL_SUFFIXES = ("_mask", "_label")


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

    def _list_splits(self) -> Iterable[str]:
        return self._splits_or_hash_splits(self._named_splits)

    @cached_property
    def _named_splits(self) -> list[str]:
        """The splits that folders or lists name."""
        return [
            split
            for split in SPLITS
            if self._is_inside(split) or self._is_outside(split) or (self.root / f"{split}.txt").is_file()
        ]

    @cached_property
    def has_no_splits(self) -> bool:
        images = self.root / "images"
        return not self._named_splits and images.is_dir() and bool(list_image_files(images))

    def _match(self, split: str) -> MatchResult:
        if self._is_outside(split):
            return _match_folders(self.root / split / "images", _label_folder(self.root / split))
        if self._is_inside(split):
            return _match_folders(self.root / "images" / split, _label_folder(self.root) / split)
        if self.has_no_splits:
            matches = _match_folders(self.root / "images", _label_folder(self.root))
            return MatchResult(select_split(self.root, matches.require_complete(), split), [])
        return MatchResult(_match_listed(self.root, self.root / f"{split}.txt"), [])

    def _describe(self) -> list[str]:
        lines = super()._describe()
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
        make_folders(root, f"images/{split}", f"labels/{split}")
        for stem, image, ids in samples:
            save_image(image, root / "images" / split / f"{stem}.png")
            save_image(encode_ids(ids, classes, IGNORE), root / "labels" / split / f"{stem}.png")

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
        except InputError:
            return False  # reported when the classes are read
        if classes is None or classes.read == "colors":
            return classes is not None
        first_label = _find_first_label(self.root)
        if first_label is None:
            return False
        try:
            with open_image(first_label) as image:
                return image.mode in ("RGB", "RGBA")
        except InputError:
            return False

    def _own_classes(self) -> Classes:
        """Never any: the colors must be named."""
        raise MissingClassesError(
            f"{self.classes_file.path}: no such file, and nothing else says what the labels' colors mean; expected "
            "[[class]] tables with name and color, and ignore_colors = [[0, 0, 0]] above them for those that count "
            "nowhere"
        )

    def _match(self, split: str) -> MatchResult:
        classes = self.classes
        require_default_values(classes, "colors")
        require_distinct_colors(classes)
        ignored = classes.ignore_colors
        reader = ColorIndexReader((*classes.names, *["ignored"] * len(ignored)), (*classes.colors, *ignored))
        id_reader = ColorIdReader(reader, (*range(len(classes)), *[IGNORE] * len(ignored)))
        matches = super()._match(split)
        return replace(matches, samples=[replace(sample, label_reader=id_reader) for sample in matches.samples])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """The first of the classes' `ignore_colors` is for ignored pixels."""
        require_distinct_colors(classes)
        colors = np.zeros((256, 3), dtype=np.uint8)
        colors[: len(classes)] = classes.colors
        if classes.ignore_colors:
            colors[IGNORE] = classes.ignore_colors[0]
        make_folders(root, f"images/{split}", f"labels/{split}")
        for stem, image, ids in samples:
            if not classes.ignore_colors and (ids == IGNORE).any():
                raise IgnoredPixelsError(f"samples: {stem}: found ignored pixels, for which the classes have no color")
            save_image(image, root / "images" / split / f"{stem}.png")
            save_image(colors[ids], root / "labels" / split / f"{stem}.png")

    @classmethod
    def adapt_classes(cls, classes: Classes) -> Classes:
        """The classes with a color for ignored pixels."""
        return replace(reset_values(classes), read="colors", ignore_colors=(find_unused_color(classes),))


def _label_folder(parent: Path) -> Path:
    """The folder of the labels beside images/, or where it should be.

    Raises:
        InputError: no labels/, but both of the others.
    """
    existing = [parent / name for name in _LABEL_FOLDERS if (parent / name).is_dir()]
    if len(existing) == 2 and existing[0].name != "labels":
        raise InputError(
            f"{parent}: found masks/ and annotations/; expected one, or labels/",
            hint="rename the one to read to labels/",
        )
    return existing[0] if existing else parent / "labels"


def _match_folders(images: Path, labels: Path) -> MatchResult:
    image_paths, image_problems = list_images(images, "the images")
    label_paths, label_problems = list_images(labels, f"the labels of {images}")
    if image_problems or label_problems:
        return MatchResult([], image_problems + label_problems)
    return match_labels(image_paths, label_paths, labels, _find_label_suffix(image_paths, label_paths))


def _find_label_suffix(images: Sequence[Path], labels: Sequence[Path]) -> str:
    """What the stem of every label ends in and those of the images do not; "" if nothing.

    Example:
        >>> _find_label_suffix([Path("a.jpg")], [Path("a_mask.png")])
        '_mask'
    """
    for suffix in _LABEL_SUFFIXES:
        all_labels, all_images = (all(path.stem.endswith(suffix) for path in paths) for paths in (labels, images))
        if labels and all_labels and not all_images:
            return suffix
    return ""


def _match_listed(root: Path, listing: Path) -> list[Sample]:
    """The samples that a list file names, in its order."""
    folders = root / "images", _label_folder(root)
    images, labels = (index_by_stem(list_image_files(f)) if f.is_dir() else {} for f in folders)
    label_suffix = _find_label_suffix(list(images.values()), list(labels.values()))
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
            where = folders[stem in images]
            raise InputError(
                f"{listing}, line {number}: found {name!r}, which is not in {where}; expected a stem or a file name "
                "that exists, or an image and a label as paths"
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
