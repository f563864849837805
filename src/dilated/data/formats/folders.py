"""Plain folders of pictures and labels with the same stems, in any of these arrangements:

    images/train/  labels/train/  images/val/  labels/val/     splits as folders inside
    train/images/  train/labels/  val/images/  val/labels/     splits as folders outside
    images/  labels/  train.txt  val.txt                       splits as list files, one picture a line
    images/  labels/                                           no splits: parted by the stems' hashes, and said so

`labels/` may be called `masks/` or `annotations/`. Labels may all end in `_mask` or all in `_label`: `a_mask.png` is of
`a.jpg`. A line of a list file is a stem, a file name in `images/`, or a picture and a label as paths from the data
folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from dilated.data.formats import parting
from dilated.data.formats.coding import Sample, checked, encode
from dilated.data.formats.pairs import Pair, pair_by_stem
from dilated.data.images import is_file, pictures_in
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError

CLASSES = None  # the folder's classes.toml names them
SOURCE = ""
SPLITS = ("train", "val", "test")
LABELS = ("labels", "masks", "annotations")
MARKS = ("_mask", "_label")


def detect(root: Path) -> bool:
    return (root / "images").is_dir() or any((root / s / "images").is_dir() for s in SPLITS)


def splits(root: Path) -> list[str]:
    there = [s for s in SPLITS if _inside(root, s) or _outside(root, s) or (root / f"{s}.txt").is_file()]
    return there or (list(parting.SPLITS) if unsplit(root) else [])


def unsplit(root: Path) -> bool:
    """Whether the pictures are in no split that folders or lists would name."""
    parted = any(_inside(root, s) or _outside(root, s) or (root / f"{s}.txt").is_file() for s in SPLITS)
    return not parted and (root / "images").is_dir() and bool(pictures_in(root / "images"))


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, a picture without a label, a line of a list file that names nothing.
    """
    if _outside(root, split):
        return _folders(root / split / "images", _labels(root / split))
    if _inside(root, split):
        return _folders(root / "images" / split, _labels(root) / split)
    if unsplit(root):
        return parting.part(root, _folders(root / "images", _labels(root)), split)
    return _listed(root, root / f"{split}.txt")


def notes(root: Path) -> list[str]:
    """What was chosen where the names leave a choice."""
    found = parting.note(root) if unsplit(root) else []
    for parent in (root, *(root / s for s in SPLITS)):
        there = [name for name in LABELS if (parent / name).is_dir()]
        if not (parent / "images").is_dir() or not there:
            continue
        folder = _labels(parent)
        if folder.name != "labels":
            found.append(f"The labels are read from {folder}, for there is no {parent / 'labels'}.")
        elif len(there) > 1:
            found.append(f"The labels are read from {folder}; {parent / there[1]} is left alone.")
    return found


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write images/SPLIT/NAME.png and labels/SPLIT/NAME.png with the values of the classes, 255 where ignored.

    Raises:
        InputError: another split, an id that the classes have not, a stem that is no file name or comes twice.
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    images, labels = root / "images" / split, root / "labels" / split
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for stem, image, ids in checked(samples):
        Image.fromarray(image).save(images / f"{stem}.png")
        Image.fromarray(encode(ids, classes, IGNORE)).save(labels / f"{stem}.png")


def _labels(parent: Path) -> Path:
    """The folder of the labels beside images/, or where it should be.

    Raises:
        InputError: no labels/, but both of the others.
    """
    there = [parent / name for name in LABELS if (parent / name).is_dir()]
    if len(there) == 2 and there[0].name != "labels":
        raise InputError(f"{parent}: found masks/ and annotations/; expected one, or labels/. Rename that to be read.")
    return there[0] if there else parent / "labels"


def _outside(root: Path, split: str) -> bool:
    return (root / split / "images").is_dir()


def _inside(root: Path, split: str) -> bool:
    return (root / "images" / split).is_dir()


def _folders(images: Path, labels: Path) -> list[Pair]:
    if not labels.is_dir():
        raise InputError(f"{labels}: no such folder; expected the labels of {images}")
    pictures, masks = pictures_in(images), pictures_in(labels)
    mark = mark_of(pictures, masks)
    if not mark:
        return pair_by_stem(pictures, masks, labels)
    plain = {mask.with_name(mask.stem.removesuffix(mark) + mask.suffix): mask for mask in masks}
    return [Pair(p.image, plain[p.label]) for p in pair_by_stem(pictures, list(plain), labels)]


def mark_of(images: Sequence[Path], labels: Sequence[Path]) -> str:
    """What the stem of every label has at its end and those of the pictures have not; "" if nothing.

    Example:
        >>> mark_of([Path("a.jpg")], [Path("a_mask.png")])
        '_mask'
    """
    for mark in MARKS:
        if labels and all(p.stem.endswith(mark) for p in labels) and not all(p.stem.endswith(mark) for p in images):
            return mark
    return ""


def _listed(root: Path, listing: Path) -> list[Pair]:
    folder = _labels(root)
    images, labels = _by_stem(root / "images"), _by_stem(folder)
    mark = mark_of(list(images.values()), list(labels.values()))
    labels = {stem.removesuffix(mark): path for stem, path in labels.items()}
    pairs = []
    for number, line in enumerate(_lines(listing), 1):
        words, name = line.split(), line.strip()
        if not words:
            continue
        if len(words) == 2 and name not in images and Path(name).stem not in images:
            pair = Pair(root / words[0], root / words[1])
            missing = next((p for p in (pair.image, pair.label) if not is_file(p)), None)
            if missing:
                raise InputError(f"{listing}, line {number}: {missing} does not exist")
        else:
            stem = name if name in images else Path(name).stem
            if stem not in images or stem not in labels:
                where = root / "images" if stem not in images else folder
                raise InputError(
                    f"{listing}, line {number}: found {name!r}, which is not in {where}; expected a stem or a "
                    "file name that is there, or a picture and a label as paths"
                )
            pair = Pair(images[stem], labels[stem])
        pairs.append(pair)
    return pairs


def _lines(listing: Path) -> list[str]:
    try:
        return listing.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{listing}: is no UTF-8 text ({error}); expected a list of pictures") from error


def _by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by stem; none where there is no folder."""
    found: dict[str, Path] = {}
    for path in pictures_in(folder) if folder.is_dir() else []:
        if path.stem in found:
            raise InputError(f"{path}: found two files of the stem {path.stem!r}; expected stems that differ")
        found[path.stem] = path
    return found
