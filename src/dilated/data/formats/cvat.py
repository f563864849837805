"""CVAT's "segmentation mask 1.1": masks in the colors of labelmap.txt, and lists of the splits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import PASCAL_CLASSES, ColorReader, parse_color, require_distinct_colors
from dilated.data.formats._format import Format, Parsed, make_folders, require_writable_names, save_pairs
from dilated.data.formats._match import SPLIT_ALIASES, SPLITS, UNDIVIDED, MatchResult, index_by_split, write_stems
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.images import IMAGE_SUFFIXES, is_file, open_image
from dilated.data.labels import Classes, read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, plural, read_lines
from dilated.palettes import Color, voc_color

_LABELMAP = "labelmap.txt"
_LIST_NAMES = {"train": "Train", "val": "Validation", "test": "Test"}
_OWN_LISTS = {*_LIST_NAMES.values(), UNDIVIDED}
"""How CVAT calls its lists, and VOC does not."""
_HEADER = "# label:color_rgb:parts:actions"


class CVAT(Format):
    """CVAT's "segmentation mask 1.1": masks in the colors of labelmap.txt, and lists of the splits.

        labelmap.txt                       # label:color_rgb:parts:actions; VOC's labels where there is none
        SegmentationClass/NAME.png  ImageSets/Segmentation/{Train,Validation,Test,default}.txt
        JPEGImages/NAME.jpg                or images/NAME.png, or beside labelmap.txt after an export without images

    The classes are the labels of labelmap.txt in its order. A mask of one channel holds the number of the label's line,
    from 0, instead of its color. Names may contain folders. SegmentationObject/ is not read. Images of a list that have
    no mask have no shapes in CVAT; they are left out and counted. Where there are no lists, all masks are read; where
    the one list is `default` or has another name, the images are split into train and val. The format has no way to
    ignore pixels.
    """

    name = "cvat"
    ignores_pixels = False

    def detect(self) -> bool:
        if not (self.root / "SegmentationClass").is_dir():
            return False
        return (self.root / _LABELMAP).is_file() or any(path.stem in _OWN_LISTS for path in self._list_paths)

    def parse(self) -> Parsed:
        splits = [split for split in (*SPLITS, UNDIVIDED) if split in self._names_by_split]
        return Parsed(splits, self._match_names, lambda: self._labelmap, self._describe)

    @cached_property
    def _list_paths(self) -> list[Path]:
        return sorted((self.root / "ImageSets" / "Segmentation").glob("*.txt"))

    @cached_property
    def _names_by_split(self) -> dict[str, dict[str, Path]]:
        """The names of each split, each with its list, or where there are no lists with the folder of masks."""
        lists = index_by_split((path.stem, path) for path in self._list_paths)
        if lists:
            return {split: dict.fromkeys(_read_names(path), path) for split, path in lists.items()}
        names = {name: path for path in self._list_paths for name in _read_names(path)}
        folder = self.root / "SegmentationClass"
        if not self._list_paths and folder.is_dir():
            masks = sorted(path.relative_to(folder).with_suffix("") for path in folder.rglob("*.png"))
            names = dict.fromkeys((path.as_posix() for path in masks), folder)
        return {UNDIVIDED: names} if names else {}

    def _match_names(self, split: str) -> MatchResult:
        """The samples in the order of the split's list, without images that have no mask."""
        names = self._labelmap.names
        ids = self.classes_file.map_names_to_ids(names, self._labelmap.source)
        values = tuple(ids[name] for name in names)
        colors = ColorReader(names, self._labelmap.colors, values)
        if not (self.root / _LABELMAP).is_file():
            colors = replace(
                colors, unknown_hint=f"write {self.root / _LABELMAP}, a line LABEL:RED,GREEN,BLUE:: for each"
            )
        reader = _MaskReader(colors, values, str(self._labelmap.source))
        samples = [self._load_sample(name, reader, where) for name, where in self._names_by_split[split].items()]
        return MatchResult([sample for sample in samples if sample is not None])

    def _describe(self) -> list[str]:
        """Which pieces of the export are missing, and what is read in their place."""
        notes = []
        if not (self.root / _LABELMAP).is_file():
            notes.append(f"There is no {_LABELMAP}: the labels and colors are those of PASCAL VOC.")
        if not self._list_paths:
            notes.append("There are no lists in ImageSets/Segmentation/: all masks in SegmentationClass/ are read.")
        known = set(self._names_by_split) - {UNDIVIDED}
        unread = [path.name for path in self._list_paths if SPLIT_ALIASES.get(path.stem.lower()) not in known]
        if unread and known:
            notes.append(f"The lists {', '.join(unread)} are left out; train, val and test are read.")
        missing = [
            name for names in self._names_by_split.values() for name in names if not is_file(self._mask_path(name))
        ]
        if missing:
            count = plural(len(missing), "image")
            notes.append(f"{count} without a mask, which has no shapes in CVAT, left out; the first is {missing[0]!r}.")
        return notes

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        require_distinct_colors(classes)
        require_writable_names(classes, root, reserved=[n for n in classes.names if n.startswith("#")], without=":")
        listing = root / "ImageSets" / "Segmentation" / f"{_LIST_NAMES[split]}.txt"
        make_folders(listing.parent)
        named_colors = zip(classes.names, classes.colors, strict=True)
        rows = [f"{name}:{','.join(map(str, color))}::" for name, color in named_colors]
        atomic_write(root / _LABELMAP, "\n".join([_HEADER, *rows]) + "\n")
        colors = np.array(classes.colors, dtype=np.uint8)
        write_stems(listing, save_pairs(samples, root / "images", root / "SegmentationClass", lambda ids: colors[ids]))

    @cached_property
    def _labelmap(self) -> Classes:
        """The labels of labelmap.txt with their colors; those without a color have VOC's."""
        path = self.root / _LABELMAP
        if not path.is_file() and (self.root / "SegmentationClass").is_dir():
            return Classes(PASCAL_CLASSES.names, PASCAL_CLASSES.colors, source="PASCAL VOC's labels")
        colors_by_label: dict[str, Color] = {}
        for number, line in read_lines(path):
            if line.startswith("#"):
                continue
            name, *fields = (field.strip() for field in line.split(":"))
            color = voc_color(len(colors_by_label))
            if len(fields) != 3 or fields[0]:
                parsed = parse_color([word.strip() for word in fields[0].split(",")]) if len(fields) == 3 else None
                color = parsed or color
                name = name if parsed else ""
            if not name or name in colors_by_label:
                raise InputError(
                    f"{path}, line {number}: found {line!r}",
                    hint="give LABEL:RED,GREEN,BLUE:PARTS:ACTIONS, each label once",
                )
            colors_by_label[name] = color
        if not colors_by_label:
            raise InputError(f"{path}: has no labels", hint="give lines of LABEL:RED,GREEN,BLUE::")
        labelmap = Classes(tuple(colors_by_label), tuple(colors_by_label.values()), source=str(path))
        require_distinct_colors(labelmap)
        return labelmap

    def _mask_path(self, name: str) -> Path:
        return self.root / "SegmentationClass" / f"{name}.png"

    def _load_sample(self, name: str, reader: _MaskReader, listing: Path) -> Sample | None:
        """The sample of a name; None for an image without a mask."""
        mask = self._mask_path(name)
        folders = self.root / "JPEGImages", self.root / "images", self.root
        candidates = [folder / f"{name}{suffix}" for folder in folders for suffix in IMAGE_SUFFIXES]
        existing = [candidate for candidate in candidates if is_file(candidate)]
        if not is_file(mask):
            if existing:
                return None
            raise InputError(f"{mask}: no such file, which {listing} names", hint="give the mask")
        if len(existing) != 1:
            problem = f"and {existing[1]} beside {existing[0]}" if existing else "and no image of it"
            raise InputError(
                f"{listing}: found {name!r}, {problem}; expected one in {folders[0]} or {folders[1]}",
                hint="export from CVAT with the option to save images",
            )
        return Sample(existing[0], mask, reader, stem=name.replace("/", "__"))


@dataclass(frozen=True)
class _MaskReader:
    """Read a mask of colors, or of one channel with the numbers of labels, as values."""

    colors: ColorReader
    values: tuple[int, ...]
    """The value of each label."""
    source: str
    """Where the labels come from, for messages."""

    def __call__(self, path: Path) -> NDArray[np.integer]:
        """The values (H, W).

        Raises:
            InputError: an unreadable file, an unknown color, or a number that is no label's.
        """
        with open_image(path) as image:
            holds_numbers = image.mode == "L"
        if not holds_numbers:
            return self.colors(path)
        numbers = read_values(path)
        outside = numbers >= len(self.values)
        if outside.any():
            y, x = (int(v[0]) for v in np.nonzero(outside))
            raise InputError(
                f"{path}: found the value {int(numbers[y, x])} at x={x}, y={y} in a mask of one channel, and "
                f"{self.source} has {len(self.values)} labels",
                hint="export the masks again, in color",
            )
        return np.array(self.values, dtype=np.int64)[numbers]


def _read_names(listing: Path) -> list[str]:
    """The names of a list, of which those with a space are in quotes."""
    names: dict[str, None] = {}
    for number, line in read_lines(listing):
        is_quoted = len(line) > 1 and line[0] == line[-1] == '"'
        name = line[1:-1] if is_quoted else line
        if name in names or name.startswith("/") or ".." in Path(name).parts:
            raise InputError(
                f"{listing}, line {number}: found {name!r}", hint="give a name below the folder, each once"
            )
        if name:
            names[name] = None
    return list(names)
