"""Plain folders of images and labels with the same stems: labels of values, or masks of the classes' colors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from dilated.data.auto_split import find_split_lists, split_list_path
from dilated.data.formats._class_tables import ClassTable, find_class_table
from dilated.data.formats._classes import (
    ColorReader,
    encode_ids,
    find_unused_color,
    require_default_values,
    require_distinct_colors,
    reset_values,
)
from dilated.data.formats._format import Format, MissingClassesError, Parsed, save_pairs
from dilated.data.formats._listed import match_listed
from dilated.data.formats._mask_kind import MaskKind, describe_color_draft, draft_color_classes, inspect_masks
from dilated.data.formats._match import SPLITS, UNDIVIDED, MatchResult, match_folders, match_labels
from dilated.data.formats._pairs import FolderPair, PairSearch, find_pairs, list_labels
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.formats._stems import find_beside_suffix, find_stem_rule
from dilated.data.formats._yolo_config import find_config, read_config
from dilated.data.images import list_image_files
from dilated.data.labels import Classes, draft_classes, read_values
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
    image and a label as paths from the data folder. Of labels with several channels `channel = 0` in classes.toml
    reads the first.
    """

    name = "folders"
    keeps_image_files = True

    def detect(self) -> bool:
        try:
            return bool(self._search.pairs)
        except InputError:
            return True  # reported when the samples are asked for

    @cached_property
    def _search(self) -> PairSearch:
        search = find_pairs(self.root)
        config = None if any(pair.labels.is_dir() for pair in search.pairs) else find_config(self.root)
        folder = read_config(config).get("masks_dir") if config else None
        return find_pairs(self.root, Path(folder).name) if isinstance(folder, str) else search

    @cached_property
    def _labels(self) -> list[Path]:
        return [label for pair in self._search.pairs for label in list_labels(pair)]

    @cached_property
    def _mask_kind(self) -> MaskKind:
        return inspect_masks(self._labels)

    @cached_property
    def _class_table(self) -> ClassTable | None:
        """The table of classes that lies beside the images, where there is no classes.toml."""
        if self.classes_file.classes is not None:
            return None
        return find_class_table(self.root, (pair.images for pair in self._search.pairs))

    @cached_property
    def _holds_colors(self) -> bool:
        """Whether the labels are masks of colors; channels that are equal everywhere are, where all are classes'."""
        classes = self.classes_file.classes
        if classes is not None and (classes.read == "colors" or classes.channel is not None):
            return classes.channel is None
        kind = self._mask_kind.kind
        if kind in ("values", "colors"):
            return kind == "colors"
        table = self._class_table
        if kind == "palette":
            return table is not None and table.values is None
        colors = [*classes.colors, *classes.ignore_colors] if classes else (table and table.colors) or []
        return {(value,) * 3 for value in self._mask_kind.grays} <= set(colors)

    def parse(self) -> Parsed:
        """The splits that folders or lists name."""
        named = {pair.split for pair in self._search.pairs}
        splits = [split for split in SPLITS if split in named] or [*find_split_lists(self.root)]
        if not splits and any(list_image_files(pair.images) for pair in self._search.of_split(UNDIVIDED)):
            splits = [UNDIVIDED]
        return Parsed(splits, self._match_files, self._read_classes, self._describe)

    def draft_classes(self) -> Classes:
        """Draft the classes of the labels: one for each value or color.

        Raises:
            InputError: a label cannot be read, or too many values or colors.
        """
        if self._holds_colors:
            classes, text = draft_color_classes(self._labels)
            if classes is None:
                raise InputError(f"{self.root}: {text}", hint="export the masks again, as PNG and without smoothing")
            return classes
        values: set[int] = set()
        for split in self.splits:
            for sample in self.match_split(split).require_complete():
                values |= set(np.unique(read_values(sample.label)).tolist())
        return draft_classes(values)

    def _read_classes(self) -> Classes | None:
        """The classes of the table beside the images, if there is one."""
        table = self._class_table
        classes = table.value_classes() if table else None
        if table and classes is None:
            raise MissingClassesError(
                f"{table.path}: says the colors of the classes, but the labels hold values",
                hint="write a classes.toml with [[class]] name, color and values",
            )
        return classes

    def _match_files(self, split: str) -> MatchResult:
        matches = self._match_split_files(split)
        try:
            classes = self.classes_file.classes
        except InputError:
            return matches  # reported when the classes are asked for
        if classes is None or (classes.transparent, classes.channel) == ("refuse", None):
            return matches
        reader = partial(
            read_values, transparent=classes.transparent, channel=classes.channel, ignored=classes.ignore_id
        )
        return replace(matches, samples=[replace(sample, label_reader=reader) for sample in matches.samples])

    def _match_split_files(self, split: str) -> MatchResult:
        pairs = self._search.of_split(split)
        if pairs:
            return _join_matches([_match_pair(pair) for pair in pairs])
        return MatchResult(match_listed(self.root, split_list_path(self.root, split), self._search.of_split(UNDIVIDED)))

    def _describe(self) -> list[str]:
        notes = [*self._search.notes]
        if table := self._class_table:
            notes.append(f"The classes are those of {table.path}.")
        classes = self.classes_file.classes
        if self._mask_kind.has_transparent and (classes is None or classes.transparent == "refuse"):
            notes.append(
                "Transparent pixels of the labels that are black are read as black; "
                '`transparent = "ignore"` in classes.toml ignores them.'
            )
        if self._mask_kind.kind == "gray" and not self._holds_colors:
            notes.append("The labels have several channels that are equal, which are read as one channel of values.")
        return notes

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """The labels have the values of the classes, 255 or 65535 where ignored."""
        folders = root / "images" / split, root / "labels" / split
        save_pairs(samples, *folders, lambda ids: encode_ids(ids, classes, classes.ignore_id))


class ColorMasks(Folders):
    """Plain folders whose labels are masks of colors, those of the classes in classes.toml.

    The files lie as in the format `folders`. They are read so where classes.toml says `read = "colors"` at its top, or
    where labels are images of colors, which hold no values. A palette image without that line is one of values, and so
    is a mask whose channels are equal everywhere. The colors may be those of a table such as class_dict.csv (name, r,
    g, b). A color that is neither a class's nor in `ignore_colors` is an error with its position; so are transparent
    pixels that carry a color, unless `transparent = "ignore"` or `"color"` says what they are.
    """

    name = "colors"
    reads_colors = True

    def detect(self) -> bool:
        if not super().detect():
            return False
        try:
            return self._holds_colors
        except InputError:
            return False  # reported when the classes or the label are read

    def parse(self) -> Parsed:
        return replace(super().parse(), read_classes=self._read_classes)

    def _read_classes(self) -> Classes:
        """The classes of the table beside the images."""
        classes = self._class_table.color_classes() if self._class_table else None
        if classes is None:
            source = self._class_table.path if self._class_table else self.classes_file.path
            problem = "names no colors" if self._class_table else "no such file"
            raise MissingClassesError(
                f"{source}: {problem}, and nothing else says what the labels' colors mean. "
                f"{describe_color_draft(self._labels)}"
            )
        return classes

    def _match_files(self, split: str) -> MatchResult:
        matches = self._match_split_files(split)
        try:
            classes = self.classes
        except MissingClassesError:
            return matches  # reported when the classes are asked for
        require_default_values(classes, "colors")
        require_distinct_colors(classes)
        ignored = classes.ignore_colors
        reader = ColorReader(
            (*classes.names, *["ignored"] * len(ignored)),
            (*classes.colors, *ignored),
            (*range(len(classes)), *[classes.ignore_id] * len(ignored)),
            classes.transparent,
            classes.ignore_id,
        )
        return replace(matches, samples=[replace(sample, label_reader=reader) for sample in matches.samples])

    @classmethod
    def can_ignore(cls, classes: Classes) -> bool:
        return bool(classes.ignore_colors)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """The first of the classes' `ignore_colors` is for ignored pixels."""
        require_distinct_colors(classes)
        colors = np.zeros((classes.ignore_id + 1, 3), dtype=np.uint8)
        colors[: len(classes)] = classes.colors
        colors[-1] = (*classes.ignore_colors, (0, 0, 0))[0]
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
