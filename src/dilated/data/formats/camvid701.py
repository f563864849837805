"""The original CamVid: 701 images of 960x720 with masks in 32 colors, in any of three arrangements:

    701_StillsRaw_full/*.png  LabeledApproved_full/*_L.png     as published; label_colors.txt beside them may be there
    images/*.png  labels/*_P.png  codes.txt                    the copy with masks of values, places in codes.txt
    train/*.png  train_labels/*_L.png  val/ ...  test/ ...     copies with splits as folders

Brostow et al., "Semantic object classes in video", 2009. The 32 classes are grouped into the 11 of Sturgess et al., as
SegNet and the paper have them; the rest is ignored. A classes.toml may group them otherwise: a value is a class's place
in `COLORS`. Where the splits are not folders they are those of Sturgess et al. by the frames' names (367, 101 and 233
images), unless the list files train.txt, val.txt, test.txt are there, one stem a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.formats import camvid
from dilated.data.formats._colors import ColorIndexReader, SampleArrays, encode_ids, validate_arrays
from dilated.data.formats._match import (
    MatchResult,
    filter_labels,
    list_images,
    match_labels,
    read_image_list,
    write_stem_list,
)
from dilated.data.images import list_image_files
from dilated.data.labels import read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
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
"""Each class of `camvid.CLASSES` from the original's, the one that it is written as first."""
CLASSES = replace(
    camvid.CLASSES,
    values=tuple(tuple(NAMES.index(name) for name in GROUPS[class_name]) for class_name in camvid.CLASSES.names),
    ignore=(VOID,),
)
SOURCE = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (701_StillsRaw_full and LabeledApproved_full)"
IMAGE_COUNTS = {"train": 367, "val": 101, "test": 233}
_SPLITS = ("train", "val", "test")
_FRAME_RANGES = {
    "train": (("0001TP", 6690, 8520), ("0006R0", 930, 3930), ("0016E5", 390, 7920), ("0016E5", 8190, 8640)),
    "val": (("0016E5", 7959, 8159),),
}
"""Sequences with their first and last frames, both inside; all others are test."""
_IMAGE_FOLDER, _MASK_FOLDER, _COLOR_TABLE = "701_StillsRaw_full", "LabeledApproved_full", "label_colors.txt"


def official_split(stem: str) -> str:
    """The split of Sturgess et al. that a frame belongs to.

    Example:
        >>> official_split("0016E5_07959"), official_split("0006R0_f00930"), official_split("Seq05VD_f00000")
        ('val', 'train', 'test')
    """
    name = re.fullmatch(r"([0-9A-Za-z]+)_f?(\d+)", stem)
    if name:
        for split, ranges in _FRAME_RANGES.items():
            if any(name[1] == sequence and first <= int(name[2]) <= last for sequence, first, last in ranges):
                return split
    return "test"


def detect(root: Path) -> bool:
    return (
        (root / _IMAGE_FOLDER).is_dir()
        or (root / _MASK_FOLDER).is_dir()
        or _is_indexed(root)
        or _has_split_folders(root)
    )


def splits(root: Path) -> list[str]:
    if _has_split_folders(root):
        return [s for s in _SPLITS if (root / s).is_dir() and (root / f"{s}_labels").is_dir()]
    lists = [s for s in _SPLITS if (root / f"{s}.txt").is_file()]
    images, _ = list_images(root / ("images" if _is_indexed(root) else _IMAGE_FOLDER), "images")
    existing_splits = {official_split(image.stem) for image in images}
    return lists or [s for s in _SPLITS if s in existing_splits]


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, image or label, or a color table that is not CamVid's.
    """
    return match_split(root, split).require_complete()


def match_split(root: Path, split: str) -> MatchResult:
    """The pairs of one split, and what is missing.

    Raises:
        InputError: a color table or codes.txt that is not CamVid's.
    """
    if _has_split_folders(root):
        images, image_problems = list_images(root / split, "CamVid's images")
        masks, mask_problems = list_images(root / f"{split}_labels", "CamVid's masks, *_L.png")
        matches = match_labels(images, masks, root / f"{split}_labels", "_L", _color_reader(root))
        return matches if not image_problems + mask_problems else MatchResult([], image_problems + mask_problems)
    indexed = _is_indexed(root)
    label_suffix = "_P" if indexed else "_L"
    folder = root / ("labels" if indexed else _MASK_FOLDER)
    if indexed:
        _require_known_codes(root / "codes.txt")
    images, image_problems = list_images(root / ("images" if indexed else _IMAGE_FOLDER), "CamVid's 701 images")
    masks, mask_problems = list_images(folder, f"CamVid's masks, *{label_suffix}.png")
    if image_problems or mask_problems:
        return MatchResult([], image_problems + mask_problems)
    problems: list[str] = []
    if (root / f"{split}.txt").is_file():
        images, problems = read_image_list(root / f"{split}.txt", images)
        masks = filter_labels(masks, images, label_suffix)
    else:
        images = [i for i in images if official_split(i.stem) == split]
        masks = [m for m in masks if official_split(m.stem.removesuffix(label_suffix)) == split]
    matches = match_labels(images, masks, folder, label_suffix, read_values if indexed else _color_reader(root))
    return MatchResult(matches.samples, problems + matches.problems)


def save(root: Path, split: str, samples: Iterable[SampleArrays]) -> None:
    """Write samples with ids of `CLASSES` as published, and the split's list file.

    Raises:
        InputError: an id that the classes have not, a stem that is no file name or comes twice.
    """
    for folder in (_IMAGE_FOLDER, _MASK_FOLDER):
        (root / folder).mkdir(parents=True, exist_ok=True)
    colors = np.array(list(COLORS.values()), dtype=np.uint8)
    stems = []
    for stem, image, ids in validate_arrays(samples):
        Image.fromarray(image).save(root / _IMAGE_FOLDER / f"{stem}.png")
        Image.fromarray(colors[encode_ids(ids, CLASSES, VOID)]).save(root / _MASK_FOLDER / f"{stem}_L.png")
        stems.append(stem)
    write_stem_list(root / f"{split}.txt", stems)


def _is_indexed(root: Path) -> bool:
    labels = root / "labels"
    return (
        (root / "codes.txt").is_file()
        and labels.is_dir()
        and any(p.stem.endswith("_P") for p in list_image_files(labels))
    )


def _has_split_folders(root: Path) -> bool:
    folders = [root / f"{split}_labels" for split in _SPLITS]
    return any(p.stem.endswith("_L") for f in folders if f.is_dir() for p in list_image_files(f))


def _require_known_codes(path: Path) -> None:
    """Raise where a list of names is not that of `COLORS`, whose places the masks hold."""
    names = path.read_text(encoding="utf-8", errors="replace").split()
    if tuple(names) != NAMES:
        unknown_name = next((n for n, known in zip(names, NAMES, strict=False) if n != known), f"{len(names)} names")
        raise InputError(
            f"{path}: found {unknown_name}; expected CamVid's {len(NAMES)} classes from Animal to Wall, one a line"
        )


def _color_reader(root: Path) -> ColorIndexReader:
    """How masks are read: by the folder's own table of colors, or by the published one where there is none."""
    path = root / _COLOR_TABLE
    if not path.is_file():
        return ColorIndexReader(NAMES, tuple(COLORS.values()))
    table: dict[str, Color] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 4 or not all(w.isdigit() and int(w) < 256 for w in fields[:3]) or fields[3] not in COLORS:
            raise InputError(
                f"{path}, line {number}: found {line.strip()!r}; expected RED GREEN BLUE NAME with one of CamVid's "
                f"{len(NAMES)} names. Without this file the published colors hold."
            )
        table[fields[3]] = (int(fields[0]), int(fields[1]), int(fields[2]))
    missing = [name for name in NAMES if name not in table]
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; expected all {len(NAMES)} names of CamVid")
    return ColorIndexReader(NAMES, tuple(table[name] for name in NAMES))
