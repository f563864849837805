"""CVAT's "segmentation mask 1.1": masks in the colours of labelmap.txt, and lists of the splits.

    labelmap.txt                       # label:color_rgb:parts:actions
    SegmentationClass/NAME.png  ImageSets/Segmentation/{Train,Validation,Test,default}.txt
    JPEGImages/NAME.jpg                or images/NAME.png: the export without pictures needs them put there

The classes are the labels of labelmap.txt in its order. Names may have folders in them. SegmentationObject/ is not
read. Where the one list is `default`, the pictures are parted into train and val. The format has no way to ignore
pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.formats import named, parting
from dilated.data.formats.coding import ColorValues, Sample, checked
from dilated.data.formats.matching import write_list
from dilated.data.formats.pairs import Pair
from dilated.data.images import SUFFIXES, is_file
from dilated.data.labels import Classes, Color
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
SPLITS = ("train", "val", "test")
ALIASES = {"train": "train", "validation": "val", "val": "val", "test": "test", "default": "default"}


def detect(root: Path) -> bool:
    return (root / "labelmap.txt").is_file() and (root / "SegmentationClass").is_dir()


def lists(root: Path) -> dict[str, Path]:
    """The list file of each split.

    Raises:
        InputError: two of one split.
    """
    found: dict[str, Path] = {}
    for path in sorted((root / "ImageSets" / "Segmentation").glob("*.txt")):
        split = ALIASES.get(path.stem.lower())
        if split in found:
            raise InputError(f"{path}: is a second list of {split}, beside {found[split].name}; expected one")
        if split:
            found[split] = path
    return found


def splits(root: Path) -> list[str]:
    there = lists(root)
    return parting.splits(root) if unsplit(root) else [s for s in SPLITS if s in there]


def unsplit(root: Path) -> bool:
    return list(lists(root)) == ["default"]


def classes(root: Path) -> Classes:
    """The labels of labelmap.txt with their colours."""
    table = _table(root)
    return Classes(tuple(table), tuple(table.values()), source=str(root / "labelmap.txt"))


def notes(root: Path) -> list[str]:
    return parting.note(root) if unsplit(root) else []


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split, in the order of its list.

    Raises:
        InputError: a list, a picture or a mask that is missing.
    """
    table = _table(root)
    ids = named.ids(root, list(table), str(root / "labelmap.txt"))
    values = ColorIds(ColorValues(tuple(table), tuple(table.values())), tuple(ids[name] for name in table))
    there = lists(root)
    listing = there.get("default" if unsplit(root) else split)
    if listing is None:
        raise InputError(
            f"{root}: found no list ImageSets/Segmentation/{split}.txt; found {', '.join(there) or 'none'}"
        )
    pairs = [_pair(root, name, values, listing) for name in _stems(listing)]
    return parting.part(root, pairs, split) if unsplit(root) else pairs


@dataclass(frozen=True)
class ColorIds:
    """Reads a mask of colours as ids: `Pair.values`.

    Args:
        read: mask -> places in its colours.
        ids: the id for each of these places.
    """

    read: ColorValues
    ids: tuple[int, ...]

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The ids (H, W).

        Raises:
            InputError: an unreadable file, or a colour that is not known, with its place.
        """
        return np.array(self.ids, dtype=np.int64)[self.read(path)]


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write a split that `load` reads back: PNG pictures, masks in the classes' colours, labelmap.txt, and the list.

    Raises:
        InputError: another split, two classes of one colour, ignored pixels, a name that would not come back.
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    distinct(classes)
    odd = [n for n in classes.names if ":" in n or n.startswith("#") or n != n.strip() or not n.isprintable() or not n]
    if odd:
        raise InputError(f"{root}: found the class {odd[0]!r}; expected a name without `:` and no `#` before it")
    for name in ("images", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True, exist_ok=True)
    rows = [f"{name}:{','.join(map(str, color))}::" for name, color in zip(classes.names, classes.colors, strict=True)]
    text = "\n".join(["# label:color_rgb:parts:actions", *rows]) + "\n"
    (root / "labelmap.txt").write_text(text, encoding="utf-8")
    colors = np.array(classes.colors, dtype=np.uint8)
    stems = []
    for stem, image, ids in checked(samples):
        if (ids >= len(classes)).any():
            found = "ignored pixels" if (ids == 255).any() else f"the id {ids.max()}"
            raise InputError(f"samples: {stem}: found {found}; expected classes alone, for CVAT cannot express others")
        Image.fromarray(image).save(root / "images" / f"{stem}.png")
        Image.fromarray(colors[ids]).save(root / "SegmentationClass" / f"{stem}.png")
        stems.append(stem)
    names = {"train": "Train", "val": "Validation", "test": "Test"}
    write_list(root / "ImageSets" / "Segmentation" / f"{names[split]}.txt", stems)


def distinct(classes: Classes, ignored: tuple[Color, ...] = ()) -> None:
    """Raise where two classes have one colour, which masks of colours could not tell apart.

    Raises:
        InputError: the two and their colour.
    """
    seen: dict[Color, str] = {}
    pairs = [*zip(classes.names, classes.colors, strict=True), *(("ignore_colors", color) for color in ignored)]
    for name, color in pairs:
        if color in seen:
            raise InputError(
                f"{classes.source}: {seen[color]!r} and {name!r} are both {color}; expected colours to differ"
            )
        seen[color] = name


def _table(root: Path) -> dict[str, Color]:
    """The colours of labelmap.txt by label.

    Raises:
        InputError: no such file, or a line that is none of a label and its colour.
    """
    path = root / "labelmap.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected # label:color_rgb:parts:actions") from error
    table: dict[str, Color] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(":")
        color = [word.strip() for word in words[1].split(",")] if len(words) == 4 else []
        name = words[0].strip()
        if (
            len(color) != 3
            or not all(c.isdecimal() and len(c) < 9 and int(c) < 256 for c in color)
            or not name
            or name in table
        ):
            raise InputError(
                f"{path}, line {number}: found {line!r}; expected LABEL:RED,GREEN,BLUE:PARTS:ACTIONS, each label once"
            )
        table[name] = (int(color[0]), int(color[1]), int(color[2]))
    if not table:
        raise InputError(f"{path}: has no labels; expected lines of LABEL:RED,GREEN,BLUE::")
    distinct(Classes(tuple(table), tuple(table.values()), source=str(path)))
    return table


def _stems(listing: Path) -> list[str]:
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


def _pair(root: Path, name: str, values: ColorIds, listing: Path) -> Pair:
    mask = root / "SegmentationClass" / f"{name}.png"
    if not is_file(mask):
        raise InputError(f"{mask}: no such file, which {listing} names; expected the mask")
    places = [root / folder / f"{name}{suffix}" for folder in ("JPEGImages", "images") for suffix in SUFFIXES]
    there = [place for place in places if is_file(place)]
    if len(there) != 1:
        found = f"and {there[1]} beside {there[0]}" if there else "and no picture of it"
        raise InputError(
            f"{listing}: found {name!r}, {found}; expected one in {root / 'JPEGImages'} or {root / 'images'}. CVAT "
            "exports the pictures with the option to save images."
        )
    return Pair(there[0], mask, values, stem=name.replace("/", "__"))
