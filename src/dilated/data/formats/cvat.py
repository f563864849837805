"""CVAT's "segmentation mask 1.1": masks in the colors of labelmap.txt, and lists of the splits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from dilated.data.formats._classes import ColorReader, parse_color, require_distinct_colors
from dilated.data.formats._format import Format, Parsed, SampleArrays, make_folders, require_writable_names, save_pairs
from dilated.data.formats._match import SPLITS, UNDIVIDED, MatchResult, index_by_split, write_stems
from dilated.data.images import IMAGE_SUFFIXES, is_file
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, read_lines
from dilated.palettes import Color

_LIST_NAMES = {"train": "Train", "val": "Validation", "test": "Test"}
_HEADER = "# label:color_rgb:parts:actions"


class CVAT(Format):
    """CVAT's "segmentation mask 1.1": masks in the colors of labelmap.txt, and lists of the splits.

        labelmap.txt                       # label:color_rgb:parts:actions
        SegmentationClass/NAME.png  ImageSets/Segmentation/{Train,Validation,Test,default}.txt
        JPEGImages/NAME.jpg                or images/NAME.png: put them there after an export without images

    The classes are the labels of labelmap.txt in its order. Names may contain folders. SegmentationObject/ is not read.
    Where the one list is `default`, the images are split into train and val. The format has no way to ignore pixels.
    """

    name = "cvat"
    ignores_pixels = False

    def detect(self) -> bool:
        return (self.root / "labelmap.txt").is_file() and (self.root / "SegmentationClass").is_dir()

    def parse(self) -> Parsed:
        paths = sorted((self.root / "ImageSets" / "Segmentation").glob("*.txt"))
        lists = index_by_split((path.stem, path) for path in paths)
        splits = [split for split in (*SPLITS, UNDIVIDED) if split in lists]
        return Parsed(splits, lambda split: self._match_list(lists[split]), lambda: self._labelmap)

    def _match_list(self, listing: Path) -> MatchResult:
        """The samples in the order of the split's list."""
        names = self._labelmap.names
        ids = self.classes_file.map_names_to_ids(names, self._labelmap.source)
        reader = ColorReader(names, self._labelmap.colors, tuple(ids[name] for name in names))
        return MatchResult([self._load_sample(name, reader, listing) for name in _read_names(listing)])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        require_distinct_colors(classes)
        require_writable_names(classes, root, reserved=[n for n in classes.names if n.startswith("#")], without=":")
        listing = root / "ImageSets" / "Segmentation" / f"{_LIST_NAMES[split]}.txt"
        make_folders(listing.parent)
        named_colors = zip(classes.names, classes.colors, strict=True)
        rows = [f"{name}:{','.join(map(str, color))}::" for name, color in named_colors]
        atomic_write(root / "labelmap.txt", "\n".join([_HEADER, *rows]) + "\n")
        colors = np.array(classes.colors, dtype=np.uint8)
        write_stems(listing, save_pairs(samples, root / "images", root / "SegmentationClass", lambda ids: colors[ids]))

    @cached_property
    def _labelmap(self) -> Classes:
        """The labels of labelmap.txt with their colors."""
        path = self.root / "labelmap.txt"
        colors_by_label: dict[str, Color] = {}
        for number, line in read_lines(path):
            if line.startswith("#"):
                continue
            name, *fields = (field.strip() for field in line.split(":"))
            color = parse_color([word.strip() for word in fields[0].split(",")]) if len(fields) == 3 else None
            if color is None or not name or name in colors_by_label:
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

    def _load_sample(self, name: str, reader: ColorReader, listing: Path) -> Sample:
        mask = self.root / "SegmentationClass" / f"{name}.png"
        if not is_file(mask):
            raise InputError(f"{mask}: no such file, which {listing} names", hint="give the mask")
        folders = self.root / "JPEGImages", self.root / "images"
        candidates = [folder / f"{name}{suffix}" for folder in folders for suffix in IMAGE_SUFFIXES]
        existing = [candidate for candidate in candidates if is_file(candidate)]
        if len(existing) != 1:
            problem = f"and {existing[1]} beside {existing[0]}" if existing else "and no image of it"
            raise InputError(
                f"{listing}: found {name!r}, {problem}; expected one in {folders[0]} or {folders[1]}",
                hint="export from CVAT with the option to save images",
            )
        return Sample(existing[0], mask, reader, stem=name.replace("/", "__"))


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
