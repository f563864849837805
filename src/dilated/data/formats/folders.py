"""Plain folders of images and labels with the same stems: labels of values, or masks of the classes' colors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dilated.data.auto_split import find_split_lists, split_list_path
from dilated.data.formats._classes import (
    ColorReader,
    encode_ids,
    find_unused_color,
    require_default_values,
    require_distinct_colors,
    reset_values,
)
from dilated.data.formats._format import Format, MissingClassesError, Parsed, SampleArrays, save_pairs
from dilated.data.formats._listed import match_listed
from dilated.data.formats._match import SPLITS, UNDIVIDED, MatchResult, match_folders, match_labels
from dilated.data.formats._pairs import FolderPair, PairSearch, find_pairs, list_labels
from dilated.data.formats._stems import find_beside_suffix, find_stem_rule
from dilated.data.images import list_image_files, open_image
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError


class Folders(Format):
    """Plain folders of images and labels with the same stems, in any of these arrangements:

        images/train/  labels/train/  images/val/  labels/val/     splits as folders inside
        train/images/  train/labels/  val/images/  val/labels/     splits as folders outside
        train/  train_masks/  val/  val_masks/                     splits in the folders' names
        images/  labels/  train.txt  val.txt                       splits as list files, one image per line
        images/  labels/                                           no splits: divided by the stems' hashes, with a note

    `images/` may be called `imgs/`, `JPEGImages/` or `rgb/`, `labels/` `masks/`, `annotations/`, `gt/` or
    `SegmentationClass/`; a split `training`, `valid`, `validation` or `testing`. Further folders, such as those of
    sites, may lie between, and become a part of the names. Labels may end in `_mask` or the like: `a_mask.png` belongs
    to `a.jpg`, and may lie beside it in one folder. A line of a list file is a stem, a file name in `images/`, or an
    image and a label as paths from the data folder.
    """

    name = "folders"

    def detect(self) -> bool:
        try:
            return bool(self._search.pairs)
        except InputError:
            return True  # reported when the samples are asked for

    @cached_property
    def _search(self) -> PairSearch:
        return find_pairs(self.root)

    def parse(self) -> Parsed:
        """The splits that folders or lists name."""
        named = {pair.split for pair in self._search.pairs}
        splits = [split for split in SPLITS if split in named] or [*find_split_lists(self.root)]
        if not splits and any(list_image_files(pair.images) for pair in self._search.of_split(UNDIVIDED)):
            splits = [UNDIVIDED]
        return Parsed(splits, self._match_files, describe=self._describe)

    def _match_files(self, split: str) -> MatchResult:
        pairs = self._search.of_split(split)
        if pairs:
            return _join_matches([_match_pair(pair) for pair in pairs])
        return MatchResult(match_listed(self.root, split_list_path(self.root, split), self._search.of_split(UNDIVIDED)))

    def _describe(self) -> list[str]:
        return self._search.notes

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """The labels have the values of the classes, 255 where ignored."""
        folders = root / "images" / split, root / "labels" / split
        save_pairs(samples, *folders, lambda ids: encode_ids(ids, classes, IGNORE))


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
            labels = (label for pair in self._search.pairs for label in list_labels(pair))
            first_label = next(labels, None)
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


def _match_pair(pair: FolderPair) -> MatchResult:
    """The samples of a folder of images; their names begin with the folders of its group."""
    if pair.images == pair.labels:
        files, suffix = list_image_files(pair.images), find_beside_suffix(pair.images)
        labels = [path for path in files if path.stem.endswith(suffix)]
        images = [path for path in files if not path.stem.endswith(suffix)]
        matches = match_labels(images, labels, pair.labels, find_stem_rule(images, labels))
    else:
        what = ("the images", f"the labels of {pair.images}")
        matches = match_folders(pair.images, pair.labels, what, label_suffix=None)
    if not pair.group:
        return matches
    named = [replace(sample, stem="__".join((*pair.group, sample.image.stem))) for sample in matches.samples]
    return replace(matches, samples=named)


def _join_matches(matches: list[MatchResult]) -> MatchResult:
    samples = [sample for match in matches for sample in match.samples]
    return MatchResult(samples, [problem for match in matches for problem in match.problems])
