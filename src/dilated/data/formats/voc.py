"""PASCAL VOC 2012 as its devkit has it: `VOCdevkit/VOC2012/` with the images, the labels and the lists of the splits.

    >>> from dilated.data.formats import voc
    >>> voc.CLASSES.names[15], voc.CLASSES.colors[15]
    ('person', (192, 128, 128))

    JPEGImages/NAME.jpg  SegmentationClass/NAME.png  ImageSets/Segmentation/{train,val,trainval,test}.txt

The data folder is the one that holds `VOCdevkit/`, `VOCdevkit` itself, or `VOC2012`. Labels are palette PNGs of which
the indices count; 255, the outline of each object, is ignored. The images of the test split come without labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from dilated.data.formats import _classes, _colors
from dilated.data.formats._colors import SampleArrays
from dilated.data.formats._match import write_stem_list
from dilated.data.images import is_folder
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.palettes import VOC_CLASSES, voc_color

SPLITS = ("train", "val", "trainval", "test")
SOURCE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"


CLASSES = Classes(VOC_CLASSES, tuple(voc_color(i) for i in range(21)), ignore=(IGNORE,), source="PASCAL VOC")


def _find_dataset_folder(root: Path) -> Path | None:
    """The folder that holds JPEGImages/ and the rest, if the data folder has one."""
    for folder in (root / "VOCdevkit" / "VOC2012", root / "VOC2012"):
        if folder.is_dir():
            return folder
    return root if (root / "ImageSets" / "Segmentation").is_dir() else None


def detect(root: Path) -> bool:
    return _find_dataset_folder(root) is not None


def splits(root: Path) -> list[str]:
    folder = _find_dataset_folder(root)
    return [s for s in SPLITS if folder and _list_path(folder, s).is_file()]


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split, in the order of its list.

    Raises:
        InputError: a list, an image or a label that is missing, or the test split, which has no labels.
    """
    folder = _require_dataset_folder(root)
    stems = read_split_stems(root, split)
    labels = [folder / "SegmentationClass" / f"{stem}.png" for stem in stems]
    if split == "test" and not {label.name for label in labels} <= list_names(folder / "SegmentationClass"):
        raise InputError(
            f"{_list_path(folder, split)}: the images of VOC's test split have no labels, which stay with its "
            "evaluation server; expected train, val or trainval. `dilated predict` labels the images."
        )
    images = [folder / "JPEGImages" / f"{stem}.jpg" for stem in stems]
    require_files(images, _list_path(folder, split), SOURCE)
    require_files(labels, _list_path(folder, split), SOURCE)
    return [Sample(image, label) for image, label in zip(images, labels, strict=True)]


def read_split_stems(root: Path, split: str) -> list[str]:
    """The stems that the list of a split names, whether or not their files are there.

    Raises:
        InputError: no devkit, no such list, or a list that is damaged.
    """
    return read_stem_list(_list_path(_require_dataset_folder(root), split), SOURCE)


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes = CLASSES) -> None:
    """Write a split that `load_checkpoint` reads back: JPEG images, palette PNG labels, and the list, last.

    Args:
        split: train, val, trainval or test.
        samples: stem, image (H, W, 3) uint8, class ids (H, W) uint8 with 255 where ignored.
        classes: those of the ids; others than VOC's need a classes.toml, which is not written here.

    Raises:
        InputError: another split, a stem that is no file name or comes twice, an image or label of another form.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> root = Path(tempfile.mkdtemp())
        >>> save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.array([[0, 15, 255]] * 2, np.uint8))])
        >>> load(root, "train")[0].read_label(CLASSES).tolist()
        [[0, 15, 255], [0, 15, 255]]
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    folder = _find_dataset_folder(root) or root / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stems = []
    colors = [*classes.colors, *(voc_color(i) for i in range(len(classes), 256))]
    for stem, image, ids in validate_ids(samples, classes):
        Image.fromarray(image).save(folder / "JPEGImages" / f"{stem}.jpg", quality=95)
        label = Image.fromarray(ids)
        label.putpalette([value for color in colors for value in color])
        label.save(folder / "SegmentationClass" / f"{stem}.png")
        stems.append(stem)
    write_stem_list(_list_path(folder, split), stems)


def adapt_classes(classes: Classes) -> Classes:
    """Any classes as this layout keeps them: its own, where they are of the same names and colors."""
    voc_colors = dict(zip(CLASSES.names, CLASSES.colors, strict=True))
    return (
        CLASSES
        if dict(zip(classes.names, classes.colors, strict=True)) == voc_colors
        else _classes.reset_values(classes)
    )


def validate_ids(samples: Iterable[SampleArrays], classes: Classes = CLASSES) -> Iterator[SampleArrays]:
    """The samples, each looked at before it is written.

    Raises:
        InputError: a stem that is no file name or comes twice, an image or label of another form, an id that is none.
    """
    for stem, image, ids in _colors.validate_arrays(samples):
        _classes.reset_values(classes).decode(ids, stem)
        yield stem, image, ids


def read_stem_list(listing: Path, source: str) -> list[str]:
    """The stems in a list file, one a line; empty lines are skipped.

    Raises:
        InputError: no file, no text, a line that is no stem or comes twice.
    """
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{listing}: is no UTF-8 text ({error}); expected a stem a line") from error
    except OSError as error:
        raise InputError(f"{listing}: no such list; expected the stems of its split. Get it from {source}") from error
    stems: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        stem = line.strip()
        if not stem:
            continue
        if Path(stem).name != stem or stem in stems:
            problem = "a second time" if stem in stems else "; expected a stem without folders"
            raise InputError(f"{listing}, line {number}: found {stem[:80]!r} {problem}. Get the list from {source}")
        stems[stem] = None
    return list(stems)


def require_files(paths: Sequence[Path], listing: Path, source: str) -> None:
    """Raise where files are missing that a list names.

    Raises:
        InputError: the first that is missing, or its folder, how many are, and where to get them.
    """
    names_by_folder = {folder: list_names(folder) for folder in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in names_by_folder[path.parent]]
    if missing:
        first = missing[0]
        found = f"{first}: no such file" if is_folder(first.parent) else f"{first.parent}: no such folder"
        raise InputError(
            f"{found}; {len(missing)} of the {len(paths)} such files that {listing} names are missing, the first is "
            f"{first.name}. Get them from {source}"
        )


def list_names(folder: Path) -> set[str]:
    """The names in a folder; none where there is no folder."""
    return {path.name for path in folder.iterdir()} if is_folder(folder) else set()


def _require_dataset_folder(root: Path) -> Path:
    folder = _find_dataset_folder(root)
    if folder is None:
        raise InputError(
            f"{root}: no such folder as VOCdevkit/VOC2012 in it; expected the devkit of VOC 2012. Get it from {SOURCE}"
        )
    return folder


def _list_path(folder: Path, split: str) -> Path:
    return folder / "ImageSets" / "Segmentation" / f"{split}.txt"
