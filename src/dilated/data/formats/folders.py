"""Plain folders of pictures and labels with the same stems, in any of three arrangements:

    images/train/  labels/train/  images/val/  labels/val/     splits as folders inside
    train/images/  train/labels/  val/images/  val/labels/     splits as folders outside
    images/  labels/  train.txt  val.txt                       splits as list files, one picture a line

A line of a list file is a stem, a file name in `images/`, or a picture and a label as paths from the data folder.
"""

from __future__ import annotations

from pathlib import Path

from dilated.data.formats.pairs import Pair, pair_by_stem
from dilated.data.images import pictures_in
from dilated.errors import InputError

CLASSES = None  # the folder's classes.toml names them
SOURCE = ""
SPLITS = ("train", "val", "test")


def detect(root: Path) -> bool:
    return (root / "images").is_dir() or any((root / s / "images").is_dir() for s in SPLITS)


def splits(root: Path) -> list[str]:
    return [s for s in SPLITS if _inside(root, s) or _outside(root, s) or (root / f"{s}.txt").is_file()]


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, a picture without a label, a line of a list file that names nothing.
    """
    if _outside(root, split):
        return _folders(root / split / "images", root / split / "labels")
    if _inside(root, split):
        return _folders(root / "images" / split, root / "labels" / split)
    return _listed(root, root / f"{split}.txt")


def _outside(root: Path, split: str) -> bool:
    return (root / split / "images").is_dir()


def _inside(root: Path, split: str) -> bool:
    return (root / "images" / split).is_dir()


def _folders(images: Path, labels: Path) -> list[Pair]:
    if not labels.is_dir():
        raise InputError(f"{labels}: no such folder; expected the labels of {images}")
    return pair_by_stem(pictures_in(images), pictures_in(labels), labels)


def _listed(root: Path, listing: Path) -> list[Pair]:
    images, labels = _by_stem(root / "images"), _by_stem(root / "labels")
    pairs = []
    for number, line in enumerate(_lines(listing), 1):
        words, name = line.split(), line.strip()
        if not words:
            continue
        if len(words) == 2 and name not in images and Path(name).stem not in images:
            pair = Pair(root / words[0], root / words[1])
            missing = next((p for p in (pair.image, pair.label) if not p.is_file()), None)
            if missing:
                raise InputError(f"{listing}, line {number}: {missing} does not exist")
        else:
            stem = name if name in images else Path(name).stem
            if stem not in images or stem not in labels:
                folder = "images" if stem not in images else "labels"
                raise InputError(
                    f"{listing}, line {number}: found {name!r}, which is not in {root / folder}; expected a stem or a "
                    "file name that is there, or a picture and a label as paths"
                )
            pair = Pair(images[stem], labels[stem])
        pairs.append(pair)
    return pairs


def _lines(listing: Path) -> list[str]:
    try:
        return listing.read_text(encoding="utf-8").splitlines()
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
