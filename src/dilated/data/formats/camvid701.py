"""The original CamVid: 701 pictures of 960x720 with masks in 32 colours, in any of three arrangements:

    701_StillsRaw_full/*.png  LabeledApproved_full/*_L.png     as published; label_colors.txt beside them may be there
    images/*.png  labels/*_P.png  codes.txt                    the copy with masks of values, places in codes.txt
    train/*.png  train_labels/*_L.png  val/ ...  test/ ...     copies with splits as folders

Brostow et al., "Semantic object classes in video", 2009. The 32 classes are grouped into the 11 of Sturgess et al., as
SegNet and the paper have them; the rest is ignored. A classes.toml may group them otherwise: a value is a class's place
in `COLORS`. Where the splits are not folders they are those of Sturgess et al. by the frames' names (367, 101 and 233
pictures), unless the list files train.txt, val.txt, test.txt are there, one stem a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.formats import camvid
from dilated.data.formats.coding import ColorValues, Sample, checked, encode
from dilated.data.formats.matching import Found, folder_of, listed, match, only, write_list
from dilated.data.formats.pairs import Pair
from dilated.data.images import pictures_in
from dilated.data.labels import Color, read_values
from dilated.errors import InputError

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
    values=tuple(tuple(NAMES.index(name) for name in GROUPS[own]) for own in camvid.CLASSES.names),
    ignore=(VOID,),
)
SOURCE = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (701_StillsRaw_full and LabeledApproved_full)"
PICTURES = {"train": 367, "val": 101, "test": 233}
SPLITS = ("train", "val", "test")
FRAMES = {
    "train": (("0001TP", 6690, 8520), ("0006R0", 930, 3930), ("0016E5", 390, 7920), ("0016E5", 8190, 8640)),
    "val": (("0016E5", 7959, 8159),),
}
"""Sequences with their first and last frames, both inside; all others are test."""
STILLS, MASKS, COLOR_FILE = "701_StillsRaw_full", "LabeledApproved_full", "label_colors.txt"


def split_of(stem: str) -> str:
    """The split of Sturgess et al. that a frame belongs to.

    Example:
        >>> split_of("0016E5_07959"), split_of("0006R0_f00930"), split_of("Seq05VD_f00000")
        ('val', 'train', 'test')
    """
    name = re.fullmatch(r"([0-9A-Za-z]+)_f?(\d+)", stem)
    if name:
        for split, ranges in FRAMES.items():
            if any(name[1] == sequence and first <= int(name[2]) <= last for sequence, first, last in ranges):
                return split
    return "test"


def detect(root: Path) -> bool:
    return (root / STILLS).is_dir() or (root / MASKS).is_dir() or _is_indexed(root) or _has_folders(root)


def splits(root: Path) -> list[str]:
    if _has_folders(root):
        return [s for s in SPLITS if (root / s).is_dir() and (root / f"{s}_labels").is_dir()]
    lists = [s for s in SPLITS if (root / f"{s}.txt").is_file()]
    images, _ = folder_of(root / ("images" if _is_indexed(root) else STILLS), "pictures")
    there = {split_of(image.stem) for image in images}
    return lists or [s for s in SPLITS if s in there]


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, picture or label, or a colour table that is not CamVid's.
    """
    return scan(root, split).whole()


def scan(root: Path, split: str) -> Found:
    """The pairs of one split, and what is missing.

    Raises:
        InputError: a colour table or codes.txt that is not CamVid's.
    """
    if _has_folders(root):
        images, no_images = folder_of(root / split, "CamVid's pictures")
        masks, no_masks = folder_of(root / f"{split}_labels", "CamVid's masks, *_L.png")
        found = match(images, masks, root / f"{split}_labels", "_L", _color_values(root))
        return found if not no_images + no_masks else Found([], no_images + no_masks)
    indexed = _is_indexed(root)
    mark = "_P" if indexed else "_L"
    folder = root / ("labels" if indexed else MASKS)
    if indexed:
        _same_codes(root / "codes.txt")
    images, no_images = folder_of(root / ("images" if indexed else STILLS), "CamVid's 701 pictures")
    masks, no_masks = folder_of(folder, f"CamVid's masks, *{mark}.png")
    if no_images or no_masks:
        return Found([], no_images + no_masks)
    problems: list[str] = []
    if (root / f"{split}.txt").is_file():
        images, problems = listed(root / f"{split}.txt", images)
        masks = only(masks, images, mark)
    else:
        images = [i for i in images if split_of(i.stem) == split]
        masks = [m for m in masks if split_of(m.stem.removesuffix(mark)) == split]
    found = match(images, masks, folder, mark, read_values if indexed else _color_values(root))
    return Found(found.pairs, problems + found.problems)


def save(root: Path, split: str, samples: Iterable[Sample]) -> None:
    """Write samples with ids of `CLASSES` as published, and the split's list file.

    Raises:
        InputError: an id that the classes have not, a stem that is no file name or comes twice.
    """
    for folder in (STILLS, MASKS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    colors = np.array(list(COLORS.values()), dtype=np.uint8)
    stems = []
    for stem, image, ids in checked(samples):
        Image.fromarray(image).save(root / STILLS / f"{stem}.png")
        Image.fromarray(colors[encode(ids, CLASSES, VOID)]).save(root / MASKS / f"{stem}_L.png")
        stems.append(stem)
    write_list(root / f"{split}.txt", stems)


def _is_indexed(root: Path) -> bool:
    labels = root / "labels"
    return (
        (root / "codes.txt").is_file() and labels.is_dir() and any(p.stem.endswith("_P") for p in pictures_in(labels))
    )


def _has_folders(root: Path) -> bool:
    folders = [root / f"{split}_labels" for split in SPLITS]
    return any(p.stem.endswith("_L") for f in folders if f.is_dir() for p in pictures_in(f))


def _same_codes(path: Path) -> None:
    """Raise where a list of names is not that of `COLORS`, whose places the masks hold."""
    names = path.read_text(encoding="utf-8", errors="replace").split()
    if tuple(names) != NAMES:
        odd = next((n for n, known in zip(names, NAMES, strict=False) if n != known), f"{len(names)} names")
        raise InputError(f"{path}: found {odd}; expected CamVid's {len(NAMES)} classes from Animal to Wall, one a line")


def _color_values(root: Path) -> ColorValues:
    """How masks are read: by the folder's own table of colours, or by the published one where there is none."""
    path = root / COLOR_FILE
    if not path.is_file():
        return ColorValues(NAMES, tuple(COLORS.values()))
    table: dict[str, Color] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 4 or not all(w.isdigit() and int(w) < 256 for w in words[:3]) or words[3] not in COLORS:
            raise InputError(
                f"{path}, line {number}: found {line.strip()!r}; expected RED GREEN BLUE NAME with one of CamVid's "
                f"{len(NAMES)} names. Without this file the published colours hold."
            )
        table[words[3]] = (int(words[0]), int(words[1]), int(words[2]))
    missing = [name for name in NAMES if name not in table]
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; expected all {len(NAMES)} names of CamVid")
    return ColorValues(NAMES, tuple(table[name] for name in NAMES))
