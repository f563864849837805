"""A data set on disk: its layout, its splits, its classes.

    data = open_dataset("my-data")                       # what it is, found by looking
    pairs = data.pairs("train")                          # [Pair(image, label), ...]

An image is read when its sample is asked for; what is wrong with it is an error that names its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from dilated.data.formats import (
    ade20k,
    camvid,
    camvid701,
    cityscapes,
    coco,
    coco_json,
    colors,
    cvat,
    folders,
    kitti,
    kitti2018,
    labelme,
    mapillary,
    sbd,
    tiff_pages,
    voc,
    voc_sbd,
    yolo,
)
from dilated.data.images import open_image
from dilated.data.labels import Classes, format_classes_template, load_classes
from dilated.data.sample import Sample
from dilated.errors import InputError

FORMATS: dict[str, ModuleType] = {
    "camvid": camvid,
    "camvid701": camvid701,
    "kitti": kitti,
    "kitti2018": kitti2018,
    "cityscapes": cityscapes,
    "mapillary": mapillary,
    "ade20k": ade20k,
    "cvat": cvat,  # before voc, whose folders it has too
    "voc_sbd": voc_sbd,  # before the two that it is made of
    "voc": voc,
    "sbd": sbd,
    "coco": coco,  # before its form with other categories
    "coco_json": coco_json,
    "yolo": yolo,
    "labelme": labelme,
    "tiff_pages": tiff_pages,
    "colors": colors,  # before plain folders, which it is
    "folders": folders,
}
"""In the order in which they are looked for: the first that a folder looks like is taken."""
_IMPLIED_FORMATS = {
    "voc_sbd": {"voc", "sbd", "coco", "coco_json"},
    "coco": {"coco_json"},
    "cvat": {"voc", "voc_sbd"},
    "sbd": {"coco", "coco_json"},
}
"""What a format is made of, which is then no other reading of the folder; `folders` is of all."""


@dataclass(frozen=True)
class Dataset:
    """A data folder that was recognised."""

    root: Path
    format: str
    classes: Classes
    splits: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was chosen where the folder left a choice, a line each, for people to read."""

    def samples(self, split: str) -> list[Sample]:
        """The images of a split with their labels, never none.

        Raises:
            InputError: the split is missing or empty, or an image lacks its label.
        """
        if split not in self.splits:
            raise InputError(f"{self.root}: has no split {split!r}; found {', '.join(self.splits) or 'none'}")
        try:
            samples = FORMATS[self.format].load(self.root, split)
        except OSError as error:
            raise InputError(f"{error.filename or self.root}: cannot be read ({error.strerror or error})") from error
        if not samples:
            raise InputError(f"{self.root}: the split {split!r} is empty; expected at least one image")
        return samples


def open_dataset(root: Path | str, format: str | None = None) -> Dataset:
    """Recognise a data folder's layout and read its classes; a `classes.toml` in the folder goes before the layout's.

    Args:
        layout: one of `FORMATS`, where looking is not enough.

    Raises:
        InputError: no folder, a layout that is not known, or classes that are neither given nor implied.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a data folder with images and labels")
    other_formats: list[str] = []
    if format is None:
        detected = [name for name, format_module in FORMATS.items() if format_module.detect(root)]
        format = next(iter(detected), None)
        other_formats = [
            name for name in detected[1:] if name not in {"folders", *_IMPLIED_FORMATS.get(detected[0], ())}
        ]
    elif format not in FORMATS:
        raise InputError(f"format: found {format!r}; expected one of {', '.join(FORMATS)}")
    if format is None:
        names = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
        raise InputError(
            f"{root}: found {names}; expected images/ and labels/ (with train/ and val/ inside or outside them, or "
            f"with train.txt and val.txt beside them), or the layout of one of {', '.join(FORMATS)}"
        )
    format_module = FORMATS[format]
    splits = tuple(format_module.splits(root))
    if (root / "classes.toml").is_file():
        classes = load_classes(root / "classes.toml")
    elif hasattr(format_module, "classes"):
        classes = format_module.classes(root)
    elif format_module.CLASSES is not None:
        classes = format_module.CLASSES
    else:
        raise InputError(_missing_classes_message(root, [p for s in splits for p in format_module.load(root, s)]))
    if classes.read == "colors" and format != "colors":
        raise InputError(
            f'{classes.source}: found read = "colors" in data of the format {format}, whose labels are no such masks; '
            "expected no such line, or images/ and labels/, the format colors"
        )
    notes = [
        f"Read as {format}, though it looks like {', '.join(other_formats)} too: name the format if that is meant."
    ]
    return Dataset(
        root,
        format,
        classes,
        splits,
        (*(notes if other_formats else ()), *getattr(format_module, "notes", _no_notes)(root)),
    )


def _no_notes(root: Path) -> list[str]:
    return []


def _missing_classes_message(root: Path, samples: list[Sample]) -> str:
    """What to write into the missing classes.toml, from the values of a few labels."""
    values: set[int] = set()
    for sample in samples[:20]:
        with open_image(sample.label) as image:
            if image.mode in ("L", "P", "1", "I;16"):
                values |= set(np.unique(np.asarray(image).astype(np.int64)).tolist())
    if len(values) > 2:  # else 255 is what a mask of two values has for its objects
        values -= {255}
    examples = sorted(values)[:3]
    return (
        f"{root / 'classes.toml'}: no such file, and nothing else names the classes; expected one [[class]] for each "
        f"label value. The first labels hold {sorted(values)[:40]}. Start with:\n\n{format_classes_template(examples)}\n"
        + ("\n...\n" if len(values) > 3 else "")
        + "\nand `ignore = [...]` above them for values that count nowhere."
    )
