"""Plain folders of images and labels with the same stems, in any of these arrangements:

    images/train/  labels/train/  images/val/  labels/val/     splits as folders inside
    train/images/  train/labels/  val/images/  val/labels/     splits as folders outside
    images/  labels/  train.txt  val.txt                       splits as list files, one image a line
    images/  labels/                                           no splits: parted by the stems' hashes, and said so

`labels/` may be called `masks/` or `annotations/`. Labels may all end in `_decode_mask` or all in `_label`: `a_mask.png` is of
`a.jpg`. A line of a list file is a stem, a file name in `images/`, or an image and a label as paths from the data
folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from dilated.data import auto_split
from dilated.data.formats._colors import SampleArrays, encode_ids, validate_arrays
from dilated.data.images import is_file, list_image_files
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample, match_by_stem
from dilated.errors import InputError

CLASSES = None  # the folder's classes.toml names them
SOURCE = ""
SPLITS = ("train", "val", "test")
LABEL_FOLDERS = ("labels", "masks", "annotations")
_LABEL_SUFFIXES = ("_mask", "_label")


def detect(root: Path) -> bool:
    return (root / "images").is_dir() or any((root / s / "images").is_dir() for s in SPLITS)


def splits(root: Path) -> list[str]:
    existing = [
        s for s in SPLITS if _is_split_inside(root, s) or _is_split_outside(root, s) or (root / f"{s}.txt").is_file()
    ]
    return existing or (list(auto_split.HASH_SPLITS) if has_no_splits(root) else [])


def has_no_splits(root: Path) -> bool:
    """Whether the images are in no split that folders or lists would name."""
    has_splits = any(
        _is_split_inside(root, s) or _is_split_outside(root, s) or (root / f"{s}.txt").is_file() for s in SPLITS
    )
    return not has_splits and (root / "images").is_dir() and bool(list_image_files(root / "images"))


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: a missing folder, an image without a label, a line of a list file that names nothing.
    """
    if _is_split_outside(root, split):
        return _match_folders(root / split / "images", _label_folder(root / split))
    if _is_split_inside(root, split):
        return _match_folders(root / "images" / split, _label_folder(root) / split)
    if has_no_splits(root):
        return auto_split.select_split(root, _match_folders(root / "images", _label_folder(root)), split)
    return _match_listed(root, root / f"{split}.txt")


def notes(root: Path) -> list[str]:
    """What was chosen where the names leave a choice."""
    found = auto_split.describe_hash_split(root) if has_no_splits(root) else []
    for parent in (root, *(root / s for s in SPLITS)):
        existing = [name for name in LABEL_FOLDERS if (parent / name).is_dir()]
        if not (parent / "images").is_dir() or not existing:
            continue
        folder = _label_folder(parent)
        if folder.name != "labels":
            found.append(f"The labels are read from {folder}, for there is no {parent / 'labels'}.")
        elif len(existing) > 1:
            found.append(f"The labels are read from {folder}; {parent / existing[1]} is left alone.")
    return found


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write images/SPLIT/NAME.png and labels/SPLIT/NAME.png with the values of the classes, 255 where ignored.

    Raises:
        InputError: another split, an id that the classes have not, a stem that is no file name or comes twice.
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    images, labels = root / "images" / split, root / "labels" / split
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for stem, image, ids in validate_arrays(samples):
        Image.fromarray(image).save(images / f"{stem}.png")
        Image.fromarray(encode_ids(ids, classes, IGNORE)).save(labels / f"{stem}.png")


def _label_folder(parent: Path) -> Path:
    """The folder of the labels beside images/, or where it should be.

    Raises:
        InputError: no labels/, but both of the others.
    """
    existing = [parent / name for name in LABEL_FOLDERS if (parent / name).is_dir()]
    if len(existing) == 2 and existing[0].name != "labels":
        raise InputError(f"{parent}: found masks/ and annotations/; expected one, or labels/. Rename that to be read.")
    return existing[0] if existing else parent / "labels"


def _is_split_outside(root: Path, split: str) -> bool:
    return (root / split / "images").is_dir()


def _is_split_inside(root: Path, split: str) -> bool:
    return (root / "images" / split).is_dir()


def _match_folders(images: Path, labels: Path) -> list[Sample]:
    if not labels.is_dir():
        raise InputError(f"{labels}: no such folder; expected the labels of {images}")
    image_paths, masks = list_image_files(images), list_image_files(labels)
    label_suffix = _find_label_suffix(image_paths, masks)
    if not label_suffix:
        return match_by_stem(image_paths, masks, labels)
    mask_by_plain_path = {mask.with_name(mask.stem.removesuffix(label_suffix) + mask.suffix): mask for mask in masks}
    return [
        Sample(p.image, mask_by_plain_path[p.label])
        for p in match_by_stem(image_paths, list(mask_by_plain_path), labels)
    ]


def _find_label_suffix(images: Sequence[Path], labels: Sequence[Path]) -> str:
    """What the stem of every label has at its end and those of the images have not; "" if nothing.

    Example:
        >>> _find_label_suffix([Path("a.jpg")], [Path("a_mask.png")])
        '_mask'
    """
    for label_suffix in _LABEL_SUFFIXES:
        if (
            labels
            and all(p.stem.endswith(label_suffix) for p in labels)
            and not all(p.stem.endswith(label_suffix) for p in images)
        ):
            return label_suffix
    return ""


def _match_listed(root: Path, listing: Path) -> list[Sample]:
    folder = _label_folder(root)
    images, labels = _index_by_stem(root / "images"), _index_by_stem(folder)
    label_suffix = _find_label_suffix(list(images.values()), list(labels.values()))
    labels = {stem.removesuffix(label_suffix): path for stem, path in labels.items()}
    samples = []
    for number, line in enumerate(_read_lines(listing), 1):
        fields, name = line.split(), line.strip()
        if not fields:
            continue
        if len(fields) == 2 and name not in images and Path(name).stem not in images:
            sample = Sample(root / fields[0], root / fields[1])
            missing = next((p for p in (sample.image, sample.label) if not is_file(p)), None)
            if missing:
                raise InputError(f"{listing}, line {number}: {missing} does not exist")
        else:
            stem = name if name in images else Path(name).stem
            if stem not in images or stem not in labels:
                where = root / "images" if stem not in images else folder
                raise InputError(
                    f"{listing}, line {number}: found {name!r}, which is not in {where}; expected a stem or a "
                    "file name that is there, or an image and a label as paths"
                )
            sample = Sample(images[stem], labels[stem])
        samples.append(sample)
    return samples


def _read_lines(listing: Path) -> list[str]:
    try:
        return listing.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{listing}: is no UTF-8 text ({error}); expected a list of images") from error


def _index_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem; none where there is no folder."""
    found: dict[str, Path] = {}
    for path in list_image_files(folder) if folder.is_dir() else []:
        if path.stem in found:
            raise InputError(f"{path}: found two files of the stem {path.stem!r}; expected stems that differ")
        found[path.stem] = path
    return found
