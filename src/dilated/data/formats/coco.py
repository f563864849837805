"""COCO as label maps of PASCAL VOC's classes, drawn from its instances file when a picture is read.

    >>> from dilated.data.formats import coco
    >>> coco.VALUES["airplane"], coco.VALUES["tv"]
    (1, 20)

    annotations/instances_{train,val}{2014,2017}.json  {train,val}{2014,2017}/NAME.jpg (or below images/)

Only pictures with at least one object of a class of VOC are given; other categories are background, and so is stuff.
Where objects overlap the smaller is on top, of equals the later in the file; a crowd (`iscrowd`) is an object like
others whose pixels are ignored. All splits are of one year, since val2014 is in train2017 for the most part: 2017
where its pictures and labels are there, else 2014.

Where there is no instances file, the pixel maps of COCO-Stuff, `stuffthingmaps/{train,val}2017/NAME.png`, or
`annotations/stuff_*.json` are read. The maps are all looked through to find the pictures, which takes minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.formats import voc
from dilated.data.formats.coding import Sample
from dilated.data.formats.pairs import Pair
from dilated.data.images import image_size, pictures_in
from dilated.data.labels import IGNORE, Classes, read_values, wrong_size
from dilated.data.masks import Mask, decode, encode, fill, pack, unpack
from dilated.errors import InputError

CLASSES = voc.CLASSES
SOURCE = "https://cocodataset.org/#download"
YEARS = ("2017", "2014")
SPLITS = ("train", "val")
CATEGORIES = (  # COCO's id and name of VOC's classes 1 to 20
    *((5, "airplane"), (2, "bicycle"), (16, "bird"), (9, "boat"), (44, "bottle"), (6, "bus"), (3, "car"), (17, "cat")),
    *((62, "chair"), (21, "cow"), (67, "dining table"), (18, "dog"), (19, "horse"), (4, "motorcycle"), (1, "person")),
    *((64, "potted plant"), (20, "sheep"), (63, "couch"), (7, "train"), (72, "tv")),
)
VALUES = {  # by either's name
    **{name: value for value, name in enumerate(CLASSES.names) if value},
    **{name: value for value, (_, name) in enumerate(CATEGORIES, 1)},
}
_THINGS = [(identity - 1,) for identity, _ in CATEGORIES]
_OTHERS = tuple(sorted(set(range(182)).difference(*_THINGS)))
MAPS = Classes(CLASSES.names, CLASSES.colors, (_OTHERS, *_THINGS), ignore=(IGNORE,), source="COCO-Stuff's pixel maps")


class Thing(NamedTuple):
    """One object of a picture: its class or 255, and its polygons (n, 2) of x and y, or the runs of its mask."""

    value: int
    name: str
    polygons: tuple[NDArray[np.float64], ...]
    runs: str | NDArray[np.int64]


def home(root: Path) -> Path | None:
    """The folder that holds annotations/ and the pictures, if the data folder has one."""
    return next((folder for folder in (root / "coco", root) if any(_labels(folder, n) for n in _names())), None)


def detect(root: Path) -> bool:
    return home(root) is not None


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
            mask = ids == value
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CATEGORIES[14 if value == IGNORE else value - 1][0],
                    "iscrowd": int(value == IGNORE),
                    "area": int(mask.sum()),
                    "bbox": [int(side) for side in box],
                    "segmentation": {"size": [height, width], "counts": pack(encode(mask))},
                }
            )
    data = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": identity, "name": category} for identity, category in CATEGORIES],
    }
    _instances(folder, name).parent.mkdir(exist_ok=True)
    _instances(folder, name).write_text(json.dumps(data), encoding="utf-8")


def draw(path: Path, image: Path, size: tuple[int, int], things: Sequence[Thing]) -> NDArray[np.uint8]:
    """The label map of one picture: class ids (H, W), 0 where there is no object, 255 in a crowd.

    Args:
        path: the instances file that the objects are from, for errors.
        image: the picture, whose size is compared.
        size: (H, W) as the instances file has it.

    Raises:
        InputError: a picture of another size, or a mask that is damaged.
    """
    found = image_size(image)
    if found != size:
        raise wrong_size(f"{path}, {image.name}", size, found)
    masks: list[tuple[int, Mask]] = []
    for thing in things:
        mask = np.zeros(size, dtype=np.bool_)
        for polygon in thing.polygons:
            mask |= fill(polygon, size)
        if not thing.polygons:
            try:
                mask = decode(unpack(thing.runs) if isinstance(thing.runs, str) else thing.runs, size)
            except InputError as error:
                raise InputError(f"{path}: {thing.name} of {image.name}: {error}") from error
        masks.append((thing.value, mask))
    label = np.zeros(size, dtype=np.uint8)
    for value, mask in sorted(masks, key=lambda entry: int(entry[1].sum()), reverse=True):
        label[mask] = value
    return label


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
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is no whole JSON file ({error}); expected one. Get it again from {SOURCE}"
        ) from error
    categories = _get(path, "the file", data, "categories", list)
    values = {
        _get(path, "category", entry, "id", int): VALUES.get(_get(path, "category", entry, "name", str), 0)
        for entry in categories
    }
    if len(values) < len(categories):
        raise InputError(f"{path}: found two categories of one id; expected ids that differ")
    if not any(values.values()):
        raise InputError(f"{path}: has no category that VOC has; expected an instances file. Get it from {SOURCE}")
    pictures: dict[int, tuple[Path, tuple[int, int]]] = {}
    for entry in _get(path, "the file", data, "images", list):
        size = _get(path, "image", entry, "height", int), _get(path, "image", entry, "width", int)
        identity = _get(path, "image", entry, "id", int)
        if identity in pictures:
            raise InputError(f"{path}: found two images of the id {identity}; expected ids that differ")
        pictures[identity] = images / _get(path, "image", entry, "file_name", str), size
    things: dict[int, list[Thing]] = {}
    for entry in _get(path, "the file", data, "annotations", list):
        picture, category = (_get(path, "annotation", entry, key, int) for key in ("image_id", "category_id"))
        if picture not in pictures or category not in values:
            missing = f"image_id {picture}" if picture not in pictures else f"category_id {category}"
            raise InputError(f"{path}: annotation {entry.get('id')}: found {missing}, which the file does not have")
        if values[category]:
            things.setdefault(picture, []).append(_thing(path, entry, values[category], pictures[picture][1]))
    wanted = {identity: picture for identity, picture in pictures.items() if identity in things}
    voc.present([image for image, _ in wanted.values()], path, SOURCE)
    return [
        Pair(image, path, partial(draw, image=image, size=size, things=tuple(things[identity])))
        for identity, (image, size) in wanted.items()
    ]


def _thing(path: Path, entry: dict[str, Any], value: int, size: tuple[int, int]) -> Thing:
    """An annotation with its numbers as arrays, which take a tenth of the memory: a real file has tens of millions."""
    name = f"annotation {entry.get('id')}"
    value = IGNORE if entry.get("iscrowd", 0) else value
    shape = _get(path, name, entry, "segmentation", dict | list)
    if isinstance(shape, dict):
        if shape.get("size") != list(size):
            raise InputError(f"{path}: {name}: found a mask of size {shape.get('size')}; expected {list(size)}")
        counts = _get(path, name, shape, "counts", str | list)
        return Thing(value, name, (), counts if isinstance(counts, str) else _numbers(path, name, counts, "iu"))
    if not shape:
        raise InputError(f"{path}: {name}: found no polygon in its segmentation; expected at least one")
    return Thing(value, name, tuple(_polygon(path, name, corners) for corners in shape), "")


def _polygon(path: Path, name: str, corners: object) -> NDArray[Any]:
    flat = _numbers(path, name, corners, "iuf").astype(np.float64)
    if not len(flat) or len(flat) % 2 or not (np.abs(flat) < 1e6).all():
        raise InputError(f"{path}: {name}: found a polygon {flat.tolist()!r:.80}; expected pairs of x and y below 1e6")
    return flat.reshape(-1, 2)


def _numbers(path: Path, name: str, values: object, kinds: str) -> NDArray[Any]:
    """A list of the file as an array, if it holds numbers and nothing else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise InputError(f"{path}: {name}: found {values!r:.80} in its segmentation; expected a list of numbers")
    return array


def _get(path: Path, what: str, entry: Any, key: str, kind: Any) -> Any:
    """A value of the file, if it is there and is what it should be."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        kinds = getattr(kind, "__name__", kind)
        raise InputError(f"{path}: {what}: found {value!r:.60} as {key!r} in {entry!r:.80}; expected a {kinds}")
    return value


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
