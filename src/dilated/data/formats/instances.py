"""COCO's instances files: categories, pictures, and objects as polygons or runs, read in full and drawn as label maps.

data = read(Path("annotations/instances_train2017.json"))
objects = things(path, data, {1: 15})                # category id -> the value to draw; others are left out
draw(path, image, (480, 640), objects[9])            # (480, 640) uint8

Where objects overlap the smaller is on top, of equals the later in the file; a crowd (`iscrowd`) is an object like
others whose pixels are ignored. Pixels of no object are 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import image_size
from dilated.data.labels import IGNORE, wrong_size
from dilated.data.masks import Mask, decode, encode, fill, layered, pack, unpack
from dilated.errors import InputError


class Thing(NamedTuple):
    """One object of a picture: its class or 255, and its polygons (n, 2) of x and y, or the runs of its mask."""

    value: int
    name: str
    polygons: tuple[NDArray[np.float64], ...]
    runs: str | NDArray[np.int64]


@dataclass(frozen=True)
class Instances:
    """An instances file: the names of its categories and the names and (H, W) of its pictures, by id, and its objects
    as the file has them."""

    categories: dict[int, str]
    pictures: dict[int, tuple[str, tuple[int, int]]]
    annotations: list[dict[str, Any]]
    parents: dict[int, str]
    """The `supercategory` of each category that has one."""


def read(path: Path, source: str = "") -> Instances:
    """Read an instances file.

    Args:
        source: where the file can be had, for messages.

    Raises:
        InputError: no JSON, a part that is missing or of another form, an id twice.
    """
    again = f" Get it again from {source}" if source else " Export it again."
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected an instances file of COCO's form") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no whole JSON file ({error}); expected one.{again}") from error
    categories: dict[int, str] = {}
    parents: dict[int, str] = {}
    for entry in _get(path, "the file", data, "categories", list):
        identity, name = _get(path, "category", entry, "id", int), _get(path, "category", entry, "name", str)
        if identity in categories:
            raise InputError(f"{path}: found two categories of one id, {identity}; expected ids that differ")
        categories[identity] = name
        if isinstance(entry.get("supercategory"), str):
            parents[identity] = entry["supercategory"]
    pictures: dict[int, tuple[str, tuple[int, int]]] = {}
    names: set[str] = set()
    for entry in _get(path, "the file", data, "images", list):
        size = _get(path, "image", entry, "height", int), _get(path, "image", entry, "width", int)
        identity = _get(path, "image", entry, "id", int)
        if identity in pictures:
            raise InputError(f"{path}: found two images of the id {identity}; expected ids that differ")
        name = _get(path, "image", entry, "file_name", str)
        if name in names:
            raise InputError(f"{path}: found two images of the file_name {name!r}; expected one, or other names")
        names.add(name)
        pictures[identity] = name, size
    return Instances(categories, pictures, _get(path, "the file", data, "annotations", list), parents)


def things(path: Path, data: Instances, values: Mapping[int, int]) -> dict[int, list[Thing]]:
    """The objects of each picture that has one, by the picture's id, in the order of the file.

    Args:
        values: what is drawn for each category; objects of those whose value is 0 are left out.

    Raises:
        InputError: an object of an unknown picture or category, or without a polygon or mask.
    """
    found: dict[int, list[Thing]] = {}
    for entry in data.annotations:
        picture, category = (_get(path, "annotation", entry, key, int) for key in ("image_id", "category_id"))
        if picture not in data.pictures or category not in values:
            missing = f"image_id {picture}" if picture not in data.pictures else f"category_id {category}"
            raise InputError(f"{path}: annotation {entry.get('id')}: found {missing}, which the file does not have")
        if values[category]:
            found.setdefault(picture, []).append(_thing(path, entry, values[category], data.pictures[picture][1]))
    return found


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
    return layered(((thing.value, _mask(path, image, size, thing)) for thing in things), size)


def _mask(path: Path, image: Path, size: tuple[int, int], thing: Thing) -> Mask:
    mask = np.zeros(size, dtype=np.bool_)
    for polygon in thing.polygons:
        mask |= fill(polygon, size)
    if thing.polygons:
        return mask
    try:
        return decode(unpack(thing.runs) if isinstance(thing.runs, str) else thing.runs, size)
    except InputError as error:
        raise InputError(f"{path}: {thing.name} of {image.name}: {error}") from error


def _thing(path: Path, entry: dict[str, Any], value: int, size: tuple[int, int]) -> Thing:
    """An annotation with its numbers as arrays, which take a tenth of the memory: a real file has tens of millions."""
    name = f"annotation {entry.get('id')}"
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{path}: {name}: found {crowd!r:.60} as 'iscrowd'; expected 0 or 1")
    value = IGNORE if crowd else value
    shape = _get(path, name, entry, "segmentation", dict | list)
    if isinstance(shape, dict):
        if shape.get("size") != list(size):
            raise InputError(f"{path}: {name}: found a mask of size {shape.get('size')}; expected {list(size)}")
        counts = _get(path, name, shape, "counts", str | list)
        return Thing(value, name, (), counts if isinstance(counts, str) else _numbers(path, name, counts, "iu"))
    if not shape:
        raise InputError(
            f"{path}: {name}: found no polygon in its segmentation; expected at least one: a bounding box alone says "
            "nothing of pixels. Export the annotations as polygons or masks."
        )
    return Thing(value, name, tuple(_polygon(path, name, corners) for corners in shape), "")


def _polygon(path: Path, name: str, corners: object) -> NDArray[Any]:
    flat = _numbers(path, name, corners, "iuf").astype(np.float64)
    if len(flat) < 6 or len(flat) % 2 or not (np.abs(flat) < 1e6).all():
        raise InputError(
            f"{path}: {name}: found a polygon {flat.tolist()!r:.80}; expected three pairs of x and y or more, below 1e6"
        )
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
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = getattr(kind, "__name__", kind)
        raise InputError(f"{path}: {what}: found {value!r:.60} as {key!r} in {entry!r:.80}; expected a {kinds}")
    return value


def described(mask: Mask, **more: object) -> dict[str, Any]:
    """An object of COCO's form for a mask that has at least one pixel, as compressed runs.

    Example:
        >>> described(np.array([[False, True], [False, True]]), category_id=3)["bbox"]
        [1, 0, 1, 2]
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)).tolist(), np.flatnonzero(mask.any(axis=0)).tolist()
    return {
        **more,
        "area": int(mask.sum()),
        "bbox": [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1],
        "segmentation": {"size": list(mask.shape), "counts": pack(encode(mask))},
    }


def write(
    path: Path,
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    names: Iterable[tuple[int, str]],
) -> None:
    """Write an instances file; annotations are numbered from 1."""
    data = {
        "images": images,
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, 1)],
        "categories": [{"id": identity, "name": name, "supercategory": ""} for identity, name in names],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
