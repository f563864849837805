"""COCO as label maps of PASCAL VOC's classes, drawn from its instances file when a picture is read.

    >>> from dilated.data.formats import coco
    >>> coco.VALUES["airplane"], coco.VALUES["tv"]
    (1, 20)

    annotations/instances_{train,val}{2014,2017}.json  {train,val}{2014,2017}/NAME.jpg (or below images/)

Only pictures with at least one object of a class of VOC are given; other categories are background, and so is stuff.
Overlaps and crowds are drawn as `instances` has it. All splits are of one year, since val2014 is in train2017 for the
most part: 2017 where its pictures and labels are there, else 2014.

Where there is no instances file, the pixel maps of COCO-Stuff, `stuffthingmaps/{train,val}2017/NAME.png`, or
`annotations/stuff_*.json` are read. The maps are all looked through to find the pictures, which takes minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.formats import instances, voc
from dilated.data.formats.coding import Sample
from dilated.data.formats.instances import draw
from dilated.data.formats.pairs import Pair
from dilated.data.images import pictures_in
from dilated.data.labels import IGNORE, Classes, read_values
from dilated.errors import InputError

CLASSES = voc.CLASSES
SOURCE = "https://cocodataset.org/#download"
YEARS = ("2017", "2014")
SPLITS = ("train", "val")
ENDS = 1 << 18  # bytes
CATEGORIES = (  # COCO's id and name of VOC's classes 1 to 20
    *((5, "airplane"), (2, "bicycle"), (16, "bird"), (9, "boat"), (44, "bottle"), (6, "bus"), (3, "car"), (17, "cat")),
    *((62, "chair"), (21, "cow"), (67, "dining table"), (18, "dog"), (19, "horse"), (4, "motorcycle"), (1, "person")),
    *((64, "potted plant"), (20, "sheep"), (63, "couch"), (7, "train"), (72, "tv")),
)
OTHERS = {  # the rest of its 80 things
    *("truck", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "elephant", "bear", "zebra"),
    *("giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "wine glass", "cup"),
    *("fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog"),
    *("pizza", "donut", "cake", "bed", "toilet", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave"),
    *("oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
}
VALUES = {  # by either's name
    **{name: value for value, name in enumerate(CLASSES.names) if value},
    **{name: value for value, (_, name) in enumerate(CATEGORIES, 1)},
}
_THINGS = [(identity - 1,) for identity, _ in CATEGORIES]
_OTHERS = tuple(sorted(set(range(182)).difference(*_THINGS)))
MAPS = Classes(CLASSES.names, CLASSES.colors, (_OTHERS, *_THINGS), ignore=(IGNORE,), source="COCO-Stuff's pixel maps")


def home(root: Path) -> Path | None:
    """The folder that holds annotations/ and the pictures, if the data folder has one."""
    return next((folder for folder in (root / "coco", root) if any(_labels(folder, n) for n in _names())), None)


def detect(root: Path) -> bool:
    """Whether it is COCO itself: a file of the same form with categories of one's own is `coco_json`'s."""
    folder = home(root)
    if folder is None:
        return False
    file = next((file for name in _names() if (file := _instances(folder, name)).is_file()), None)
    return file is None or _official(file)


def _official(file: Path) -> bool:
    """Whether the categories of an instances file are COCO's: looked for at both ends of it, for it may be huge."""
    with file.open("rb") as opened:
        head = opened.read(ENDS)
        opened.seek(max(0, file.stat().st_size - ENDS))
        tail = opened.read()
    for text in (head.decode(errors="replace"), tail.decode(errors="replace")):
        start = text.rfind('"categories"')
        if start < 0:
            continue
        try:
            categories, _ = json.JSONDecoder().raw_decode(text, text.index("[", start))
            known = {(entry["id"], entry["name"]) for entry in categories}
        except (ValueError, LookupError, TypeError):
            continue
        return known.issuperset(CATEGORIES) and {name for _, name in known} <= {n for _, n in CATEGORIES} | OTHERS
    return False


def splits(root: Path) -> list[str]:
    folder = home(root)
    if folder is None:
        return []
    year = _year(folder)
    return [s for s in SPLITS if _labels(folder, f"{s}{year}") or _images(folder, f"{s}{year}").is_dir()]


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split, in the order of the file's pictures; of pixel maps in the order of names.

    Raises:
        InputError: pictures or labels that are missing, or a file that is damaged.
    """
    folder = home(root)
    if folder is None or split not in SPLITS:
        raise InputError(f"{root}: found no {split} of COCO; expected annotations/instances_*.json. See {SOURCE}")
    name = f"{split}{_year(folder)}"
    labels, images = _labels(folder, name), _images(folder, name)
    if labels is None:
        raise InputError(f"{_instances(folder, name)}: no such file; expected the labels of {images}. See {SOURCE}")
    if not images.is_dir():
        raise InputError(f"{images}: no such folder; expected the pictures of {labels}. Get it from {SOURCE}")
    return _from_maps(images, labels) if labels.is_dir() else _from_json(images, labels)


def save(root: Path, split: str, samples: Iterable[Sample]) -> None:
    """Write a split that `load` reads back: JPEG pictures, and an instances file with one mask a class, written last.

    Ignored pixels are written as a crowd of persons, for COCO has no other way. A picture with neither objects nor
    ignored pixels is written, but `load` leaves it out as it does any such picture.

    Args:
        split: train or val.
        samples: stem, picture (H, W, 3) uint8, class ids (H, W) uint8 with 255 where ignored.

    Raises:
        InputError: another split, a stem that is no file name or comes twice, a picture or label of another form.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> save(root, "val", [("a", np.zeros((2, 3, 3), np.uint8), np.array([[0, 15, 255]] * 2, np.uint8))])
        >>> load(root, "val")[0].read_label(CLASSES).tolist()
        [[0, 15, 255], [0, 15, 255]]
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    folder = home(root) or root
    name = f"{split}{_year(folder)}"
    pictures = _images(folder, name)
    pictures.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (stem, image, ids) in enumerate(voc.checked(samples), 1):
        Image.fromarray(image).save(pictures / f"{stem}.jpg", quality=95)
        height, width = ids.shape
        images.append({"id": number, "file_name": f"{stem}.jpg", "height": height, "width": width})
        for value in np.unique(ids[ids > 0]).tolist():
            category = CATEGORIES[14 if value == IGNORE else value - 1][0]
            entry = {"image_id": number, "category_id": category, "iscrowd": int(value == IGNORE)}
            annotations.append(instances.described(ids == value, **entry))
    instances.write(_instances(folder, name), images, annotations, CATEGORIES)


def read_map(path: Path) -> NDArray[np.uint8]:
    """A pixel map of COCO-Stuff as class ids (H, W): things of VOC's classes, 0 for other things and stuff.

    Raises:
        InputError: an unreadable file, a value that is none of 0 to 181 and 255.
    """
    return MAPS.decode(read_values(path), str(path))


def _from_maps(images: Path, labels: Path) -> list[Pair]:
    pictures = pictures_in(images)
    maps = [labels / f"{picture.stem}.png" for picture in pictures]
    voc.present(maps, images, SOURCE)
    with ThreadPoolExecutor() as pool:
        wanted = list(pool.map(_has_object, maps))
    return [Pair(p, m, read_map) for p, m, want in zip(pictures, maps, wanted, strict=True) if want]


def _has_object(path: Path) -> bool:
    ids = read_map(path)
    return bool(((ids > 0) & (ids < IGNORE)).any())


def _from_json(images: Path, path: Path) -> list[Pair]:
    data = instances.read(path, SOURCE)
    values = {identity: VALUES.get(name, 0) for identity, name in data.categories.items()}
    if not any(values.values()):
        raise InputError(f"{path}: has no category that VOC has; expected an instances file. Get it from {SOURCE}")
    things = instances.things(path, data, values)
    wanted = {identity: (images / name, size) for identity, (name, size) in data.pictures.items() if identity in things}
    voc.present([image for image, _ in wanted.values()], path, SOURCE)
    return [
        Pair(image, path, partial(draw, image=image, size=size, things=tuple(things[identity])))
        for identity, (image, size) in wanted.items()
    ]


def _names() -> list[str]:
    return [f"{split}{year}" for year in YEARS for split in SPLITS]


def _year(folder: Path) -> str:
    """The first year with pictures and labels of a split, else that with labels of one, else the first of all."""
    there = [name for name in _names() if _labels(folder, name)]
    whole = [name for name in there if _images(folder, name).is_dir()]
    return [*whole, *there, YEARS[0]][0][-4:]


def _images(folder: Path, name: str) -> Path:
    below = folder / "images" / name
    return below if below.is_dir() else folder / name


def _instances(folder: Path, name: str) -> Path:
    return folder / "annotations" / f"instances_{name}.json"


def _labels(folder: Path, name: str) -> Path | None:
    """The labels of a split: objects, else pixel maps, else stuff."""
    places = _instances(folder, name), folder / "stuffthingmaps" / name, folder / "annotations" / f"stuff_{name}.json"
    return next((place for place in places if place.exists()), None)
