"""CVAT's "segmentation mask 1.1": masks in the colors of labelmap.txt, and lists of the splits.

    labelmap.txt                       # label:color_rgb:parts:actions
    SegmentationClass/NAME.png  ImageSets/Segmentation/{Train,Validation,Test,default}.txt
    JPEGImages/NAME.jpg                or images/NAME.png: the export without images needs them put there

The classes are the labels of labelmap.txt in its order. Names may have folders in them. SegmentationObject/ is not
read. Where the one list is `default`, the images are parted into train and val. The format has no way to ignore
pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data import auto_split
from dilated.data.formats import _classes
from dilated.data.formats._colors import ColorIndexReader, SampleArrays, validate_arrays
from dilated.data.formats._match import write_stem_list
from dilated.data.images import IMAGE_SUFFIXES, is_file
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.palettes import Color

CLASSES = None
SOURCE = ""
_SPLITS = ("train", "val", "test")
_SPLIT_ALIASES = {"train": "train", "validation": "val", "val": "val", "test": "test", "default": "default"}


def detect(root: Path) -> bool:
    return (root / "labelmap.txt").is_file() and (root / "SegmentationClass").is_dir()


def _find_split_lists(root: Path) -> dict[str, Path]:
    """The list file of each split.

    Raises:
        InputError: two of one split.
    """
    found: dict[str, Path] = {}
    for path in sorted((root / "ImageSets" / "Segmentation").glob("*.txt")):
        split = _SPLIT_ALIASES.get(path.stem.lower())
        if split in found:
            raise InputError(f"{path}: is a second list of {split}, beside {found[split].name}; expected one")
        if split:
            found[split] = path
    return found


def splits(root: Path) -> list[str]:
    there = _find_split_lists(root)
    return auto_split.list_splits(root) if has_no_splits(root) else [s for s in _SPLITS if s in there]


def has_no_splits(root: Path) -> bool:
    return list(_find_split_lists(root)) == ["default"]


def classes(root: Path) -> Classes:
    """The labels of labelmap.txt with their colors."""
    colors_by_label = _read_labelmap(root)
    return Classes(tuple(colors_by_label), tuple(colors_by_label.values()), source=str(root / "labelmap.txt"))


def notes(root: Path) -> list[str]:
    return auto_split.describe_hash_split(root) if has_no_splits(root) else []


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split, in the order of its list.

    Raises:
        InputError: a list, an image or a mask that is missing.
    """
    colors_by_label = _read_labelmap(root)
    ids = _classes.map_names_to_ids(root, list(colors_by_label), str(root / "labelmap.txt"))
    values = ColorIdReader(
        ColorIndexReader(tuple(colors_by_label), tuple(colors_by_label.values())),
        tuple(ids[name] for name in colors_by_label),
    )
    there = _find_split_lists(root)
    listing = there.get("default" if has_no_splits(root) else split)
    if listing is None:
        raise InputError(
            f"{root}: found no list ImageSets/Segmentation/{split}.txt; found {', '.join(there) or 'none'}"
        )
    samples = [_load_sample(root, name, values, listing) for name in _read_names(listing)]
    return auto_split.select_split(root, samples, split) if has_no_splits(root) else samples


@dataclass(frozen=True)
class ColorIdReader:
    """Reads a mask of colors as ids: `Pair.values`.

    Args:
        read: mask -> places in its colors.
        ids: the id for each of these places.
    """

    read: ColorIndexReader
    ids: tuple[int, ...]

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The ids (H, W).

        Raises:
            InputError: an unreadable file, or a color that is not known, with its place.
        """
        return np.array(self.ids, dtype=np.int64)[self.read(path)]


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write a split that `load_checkpoint` reads back: PNG images, masks in the classes' colors, labelmap.txt, and the list.

    Raises:
        InputError: another split, two classes of one color, ignored pixels, a name that would not come back.
    """
    if split not in _SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(_SPLITS)}")
    require_distinct_colors(classes)
    invalid_names = [
        n for n in classes.names if ":" in n or n.startswith("#") or n != n.strip() or not n.isprintable() or not n
    ]
    if invalid_names:
        raise InputError(
            f"{root}: found the class {invalid_names[0]!r}; expected a name without `:` and no `#` before it"
        )
    for name in ("images", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True, exist_ok=True)
    rows = [f"{name}:{','.join(map(str, color))}::" for name, color in zip(classes.names, classes.colors, strict=True)]
    text = "\n".join(["# label:color_rgb:parts:actions", *rows]) + "\n"
    (root / "labelmap.txt").write_text(text, encoding="utf-8")
    colors = np.array(classes.colors, dtype=np.uint8)
    stems = []
    for stem, image, ids in validate_arrays(samples):
        if (ids >= len(classes)).any():
            found = "ignored pixels" if (ids == 255).any() else f"the id {ids.max()}"
            raise InputError(f"samples: {stem}: found {found}; expected classes alone, for CVAT cannot express others")
        Image.fromarray(image).save(root / "images" / f"{stem}.png")
        Image.fromarray(colors[ids]).save(root / "SegmentationClass" / f"{stem}.png")
        stems.append(stem)
    names = {"train": "Train", "val": "Validation", "test": "Test"}
    write_stem_list(root / "ImageSets" / "Segmentation" / f"{names[split]}.txt", stems)


def require_distinct_colors(classes: Classes, ignored: tuple[Color, ...] = ()) -> None:
    """Raise where two classes have one color, which masks of colors could not tell apart.

    Raises:
        InputError: the two and their color.
    """
    seen: dict[Color, str] = {}
    samples = [*zip(classes.names, classes.colors, strict=True), *(("ignore_colors", color) for color in ignored)]
    for name, color in samples:
        if color in seen:
            raise InputError(
                f"{classes.source}: {seen[color]!r} and {name!r} are both {color}; expected colors to differ"
            )
        seen[color] = name


def _read_labelmap(root: Path) -> dict[str, Color]:
    """The colors of labelmap.txt by label.

    Raises:
        InputError: no such file, or a line that is none of a label and its color.
    """
    path = root / "labelmap.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected # label:color_rgb:parts:actions") from error
    colors_by_label: dict[str, Color] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(":")
        color = [word.strip() for word in fields[1].split(",")] if len(fields) == 4 else []
        name = fields[0].strip()
        if (
            len(color) != 3
            or not all(c.isdecimal() and len(c) < 9 and int(c) < 256 for c in color)
            or not name
            or name in colors_by_label
        ):
            raise InputError(
                f"{path}, line {number}: found {line!r}; expected LABEL:RED,GREEN,BLUE:PARTS:ACTIONS, each label once"
            )
        colors_by_label[name] = (int(color[0]), int(color[1]), int(color[2]))
    if not colors_by_label:
        raise InputError(f"{path}: has no labels; expected lines of LABEL:RED,GREEN,BLUE::")
    require_distinct_colors(Classes(tuple(colors_by_label), tuple(colors_by_label.values()), source=str(path)))
    return colors_by_label


def _read_names(listing: Path) -> list[str]:
    """The names of a list, of which those with a space are in quotes."""
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{listing}: cannot be read ({error}); expected a name a line") from error
    names: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if len(name) > 1 and name[0] == name[-1] == '"':
            name = name[1:-1]
        if not name:
            continue
        if name in names or name.startswith("/") or ".." in Path(name).parts:
            raise InputError(f"{listing}, line {number}: found {name!r}; expected a name below the folder, each once")
        names[name] = None
    return list(names)


def _load_sample(root: Path, name: str, values: ColorIdReader, listing: Path) -> Sample:
    mask = root / "SegmentationClass" / f"{name}.png"
    if not is_file(mask):
        raise InputError(f"{mask}: no such file, which {listing} names; expected the mask")
    candidates = [root / folder / f"{name}{suffix}" for folder in ("JPEGImages", "images") for suffix in IMAGE_SUFFIXES]
    there = [candidate for candidate in candidates if is_file(candidate)]
    if len(there) != 1:
        found = f"and {there[1]} beside {there[0]}" if there else "and no image of it"
        raise InputError(
            f"{listing}: found {name!r}, {found}; expected one in {root / 'JPEGImages'} or {root / 'images'}. CVAT "
            "exports the images with the option to save images."
        )
    return Sample(there[0], mask, values, stem=name.replace("/", "__"))
