"""The original CamVid: 701 images of 960x720 with masks in 32 colors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dilated.data.formats import camvid
from dilated.data.formats._colors import ColorIndexReader, encode_ids
from dilated.data.formats._format import SPLITS, Format, SampleArrays, make_folders, save_image
from dilated.data.formats._match import MatchResult, list_images, match_folders, match_labels, write_stems
from dilated.data.images import list_image_files
from dilated.data.labels import Classes, read_values
from dilated.errors import InputError
from dilated.files import read_lines
from dilated.palettes import Color

COLORS: dict[str, Color] = {
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
NAMES = tuple(COLORS)
VOID = NAMES.index("Void")
GROUPS = {
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
"""The original's classes of each of `camvid.CLASSES`, first the one that it is written as."""
CLASSES = replace(
    camvid.CLASSES,
    values=tuple(tuple(NAMES.index(name) for name in GROUPS[class_name]) for class_name in camvid.CLASSES.names),
    ignore=(VOID,),
)
IMAGE_COUNTS = {"train": 367, "val": 101, "test": 233}
_FRAME_RANGES = {
    "train": (("0001TP", 6690, 8520), ("0006R0", 930, 3930), ("0016E5", 390, 7920), ("0016E5", 8190, 8640)),
    "val": (("0016E5", 7959, 8159),),
}
"""Sequences with their first and last frames, both inclusive; all others are test."""
_IMAGE_FOLDER, _MASK_FOLDER, _COLOR_TABLE = "701_StillsRaw_full", "LabeledApproved_full", "label_colors.txt"


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
    fixed_classes = CLASSES
    source = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (701_StillsRaw_full and LabeledApproved_full)"
    image_counts = IMAGE_COUNTS
    takes_any_classes = False

    def detect(self) -> bool:
        folders = (_IMAGE_FOLDER, _MASK_FOLDER)
        return any((self.root / f).is_dir() for f in folders) or self._is_indexed or self._has_split_folders

    def _list_splits(self) -> list[str]:
        if self._has_split_folders:
            return [s for s in SPLITS if (self.root / s).is_dir() and (self.root / f"{s}_labels").is_dir()]
        lists = [s for s in SPLITS if (self.root / f"{s}.txt").is_file()]
        images, _ = list_images(self._image_folder, "images")
        existing_splits = {official_split(image.stem) for image in images}
        return lists or [s for s in SPLITS if s in existing_splits]

    def _match(self, split: str) -> MatchResult:
        """Raises InputError where the color table or codes.txt is not CamVid's."""
        if self._has_split_folders:
            folders = self.root / split, self.root / f"{split}_labels"
            what = ("CamVid's images", "CamVid's masks, *_L.png")
            return match_folders(*folders, what, "_L", self._color_reader)
        label_suffix = "_P" if self._is_indexed else "_L"
        folder = self.root / ("labels" if self._is_indexed else _MASK_FOLDER)
        if self._is_indexed:
            _require_known_codes(self.root / "codes.txt")
        reader = read_values if self._is_indexed else self._color_reader
        what = ("CamVid's 701 images", f"CamVid's masks, *{label_suffix}.png")
        listing = self.root / f"{split}.txt"
        if listing.is_file():
            return match_folders(self._image_folder, folder, what, label_suffix, reader, listing)
        images, image_problems = list_images(self._image_folder, what[0])
        masks, mask_problems = list_images(folder, what[1])
        if image_problems or mask_problems:
            return MatchResult([], image_problems + mask_problems)
        images = [i for i in images if official_split(i.stem) == split]
        masks = [m for m in masks if official_split(m.stem.removesuffix(label_suffix)) == split]
        return match_labels(images, masks, folder, label_suffix, reader)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        make_folders(root, _IMAGE_FOLDER, _MASK_FOLDER)
        colors = np.array(list(COLORS.values()), dtype=np.uint8)
        stems = []
        for stem, image, ids in samples:
            save_image(image, root / _IMAGE_FOLDER / f"{stem}.png")
            save_image(colors[encode_ids(ids, CLASSES, VOID)], root / _MASK_FOLDER / f"{stem}_L.png")
            stems.append(stem)
        write_stems(root / f"{split}.txt", stems)

    @property
    def _image_folder(self) -> Path:
        return self.root / ("images" if self._is_indexed else _IMAGE_FOLDER)

    @cached_property
    def _is_indexed(self) -> bool:
        labels = self.root / "labels"
        if not (self.root / "codes.txt").is_file() or not labels.is_dir():
            return False
        return any(p.stem.endswith("_P") for p in list_image_files(labels))

    @cached_property
    def _has_split_folders(self) -> bool:
        folders = [self.root / f"{split}_labels" for split in SPLITS]
        return any(p.stem.endswith("_L") for f in folders if f.is_dir() for p in list_image_files(f))

    @cached_property
    def _color_reader(self) -> ColorIndexReader:
        """How masks are read: by the folder's own table of colors, or by the published one where there is none."""
        path = self.root / _COLOR_TABLE
        if not path.is_file():
            return ColorIndexReader(NAMES, tuple(COLORS.values()))
        table: dict[str, Color] = {}
        for number, line in read_lines(path):
            fields = line.split()
            if len(fields) != 4 or not all(w.isdigit() and int(w) < 256 for w in fields[:3]) or fields[3] not in COLORS:
                raise InputError(
                    f"{path}, line {number}: found {line!r}; expected RED GREEN BLUE NAME with one of CamVid's "
                    f"{len(NAMES)} names",
                    hint="correct the line, or remove the file to use the published colors",
                )
            table[fields[3]] = (int(fields[0]), int(fields[1]), int(fields[2]))
        missing = [name for name in NAMES if name not in table]
        if missing:
            raise InputError(f"{path}: has no {', '.join(missing)}; expected all {len(NAMES)} names of CamVid")
        return ColorIndexReader(NAMES, tuple(table[name] for name in NAMES))


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


def _require_known_codes(path: Path) -> None:
    """Raise where a list of names is not that of `COLORS`, whose indices the masks hold."""
    names = [line for _, line in read_lines(path)]
    if tuple(names) != NAMES:
        different = (name for name, expected_name in zip(names, NAMES, strict=False) if name != expected_name)
        unknown_name = next(different, f"{len(names)} names")
        raise InputError(
            f"{path}: found {unknown_name}; expected CamVid's {len(NAMES)} classes from Animal to Wall, one per line"
        )
