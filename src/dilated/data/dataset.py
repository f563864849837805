"""A data set on disk: its layout, its splits, its classes.

    data = open_dataset("my-data")                       # what it is, found by looking
    pairs = data.pairs("train")                          # [Pair(image, label), ...]

A picture is read when its sample is asked for; what is wrong with it is an error that names its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from dilated.data.formats import camvid, camvid701, cityscapes, coco, folders, kitti, kitti2018, sbd, voc, voc_sbd
from dilated.data.formats.pairs import Pair
from dilated.data.images import opened
from dilated.data.labels import Classes, load_classes, template
from dilated.errors import InputError

FORMATS: dict[str, ModuleType] = {
    "camvid": camvid,
    "camvid701": camvid701,
    "kitti": kitti,
    "kitti2018": kitti2018,
    "cityscapes": cityscapes,
    "voc_sbd": voc_sbd,  # before the two that it is made of
    "voc": voc,
    "sbd": sbd,
    "coco": coco,
    "folders": folders,
}


@dataclass(frozen=True)
class Data:
    """A data folder that was recognised."""

    root: Path
    layout: str
    classes: Classes
    splits: tuple[str, ...]

    def pairs(self, split: str) -> list[Pair]:
        """The pictures of a split with their labels, never none.

        Raises:
            InputError: the split is missing or empty, or a picture lacks its label.
        """
        if split not in self.splits:
            raise InputError(f"{self.root}: has no split {split!r}; found {', '.join(self.splits) or 'none'}")
        pairs = FORMATS[self.layout].load(self.root, split)
        if not pairs:
            raise InputError(f"{self.root}: the split {split!r} is empty; expected at least one picture")
        return pairs


def open_dataset(root: Path | str, layout: str | None = None) -> Data:
    """Recognise a data folder's layout and read its classes; a `classes.toml` in the folder goes before the layout's.

    Args:
        layout: one of `FORMATS`, where looking is not enough.

    Raises:
        InputError: no folder, a layout that is not known, or classes that are neither given nor implied.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a data folder with pictures and labels")
    if layout is None:
        layout = next((name for name, form in FORMATS.items() if form.detect(root)), None)
    elif layout not in FORMATS:
        raise InputError(f"format: found {layout!r}; expected one of {', '.join(FORMATS)}")
    if layout is None:
        found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
        raise InputError(
            f"{root}: found {found}; expected images/ and labels/ (with train/ and val/ inside or outside them, or "
            f"with train.txt and val.txt beside them), or the layout of one of {', '.join(FORMATS)}"
        )
    form = FORMATS[layout]
    splits = tuple(form.splits(root))
    if (root / "classes.toml").is_file():
        classes = load_classes(root / "classes.toml")
    elif hasattr(form, "classes"):
        classes = form.classes(root)
    elif form.CLASSES is not None:
        classes = form.CLASSES
    else:
        raise InputError(_no_classes(root, [p for s in splits for p in form.load(root, s)]))
    return Data(root, layout, classes, splits)


def _no_classes(root: Path, pairs: list[Pair]) -> str:
    """What to write into the missing classes.toml, from the values of a few labels."""
    values: set[int] = set()
    for pair in pairs[:20]:
        with opened(pair.label) as picture:
            if picture.mode in ("L", "P", "1", "I;16"):
                values |= set(np.unique(np.asarray(picture).astype(np.int64)).tolist())
    values -= {255}
    shown = sorted(values)[:3]
    return (
        f"{root / 'classes.toml'}: no such file, and nothing else names the classes; expected one [[class]] for each "
        f"label value. The first labels hold {sorted(values)[:40]}. Start with:\n\n{template(shown)}\n"
        + ("\n...\n" if len(values) > 3 else "")
        + "\nand `ignore = [...]` above them for values that count nowhere."
    )
