"""Instances files of COCO's form, read and written: images, categories, and the objects of each image.

Ids may be numbers or texts, sizes whole numbers of any kind (`1920.0`, `"1920"`), `iscrowd` may be missing, and a
polygon may be a list of numbers without a list around it, as the tools that write such files have them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._format import make_folders, require_field, save_image
from dilated.data.formats._objects import ColumnRuns, DrawnObject, ObjectCounts, Polygons
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.masks import Mask, compress_rle, encode_rle
from dilated.errors import InputError
from dilated.files import atomic_write, read_json
from dilated.label_ids import LabelArray

Id = int | str
"""Of an image or a category."""
OWN_CONTRIBUTOR = "dilated"
"""In the `info` of files that are written here, in which crowds are ignored pixels."""
COCO_CATEGORIES = (  # COCO's id and name of VOC's classes 1 to 20
    *((5, "airplane"), (2, "bicycle"), (16, "bird"), (9, "boat"), (44, "bottle"), (6, "bus"), (3, "car"), (17, "cat")),
    *((62, "chair"), (21, "cow"), (67, "dining table"), (18, "dog"), (19, "horse"), (4, "motorcycle"), (1, "person")),
    *((64, "potted plant"), (20, "sheep"), (63, "couch"), (7, "train"), (72, "tv")),
)
_COCO_NAME = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})\.jpg")


@dataclass(frozen=True)
class InstancesFile:
    """The parts of an instances file that are used."""

    categories: dict[Id, str]
    """The names of the categories by id."""
    supercategories: dict[Id, str]
    """The `supercategory` of each category that has one."""
    images: dict[Id, tuple[str, tuple[int, int]]]
    """The name and the (H, W) of each image by id."""
    annotations: list[dict[str, Any]]
    """The objects as the file has them."""
    crowds_are_ignored: bool
    """Whether the file's crowds are groups of objects, as in COCO itself; other tools write masks as crowds."""


def read_instances_file(path: Path, source: str = "") -> InstancesFile:
    """Read an instances file.

    Args:
        source: where the file can be downloaded, for messages.

    Raises:
        InputError: not JSON, a part that is missing or of another form, an id that occurs twice.
    """
    try:
        data = read_json(path)
    except InputError as error:
        raise InputError(error.message, hint=f"get it again from {source}" if source else "export it again") from error
    categories: dict[Id, str] = {}
    supercategories: dict[Id, str] = {}
    for entry in require_field(f"{path}: the file", data, "categories", list):
        category = require_id(f"{path}: category", entry, "id")
        name = require_field(f"{path}: category", entry, "name", str)
        if category in categories:
            raise InputError(f"{path}: two categories have the id {category}")
        categories[category] = name
        if isinstance(entry.get("supercategory"), str):
            supercategories[category] = entry["supercategory"]
    images: dict[Id, tuple[str, tuple[int, int]]] = {}
    names: set[str] = set()
    entries = require_field(f"{path}: the file", data, "images", list)
    for entry in entries:
        height, width = (require_side(f"{path}: image", entry, key) for key in ("height", "width"))
        image_id = require_id(f"{path}: image", entry, "id")
        name = require_field(f"{path}: image", entry, "file_name", str).replace("\\", "/")  # as Windows has it
        if image_id in images:
            raise InputError(f"{path}: two images have the id {image_id}")
        if name in names:
            raise InputError(f"{path}: two images have the file_name {name!r}")
        names.add(name)
        images[image_id] = name, (height, width)
    annotations = require_field(f"{path}: the file", data, "annotations", list)
    is_own = isinstance(info := data.get("info"), dict) and info.get("contributor") == OWN_CONTRIBUTOR
    return InstancesFile(categories, supercategories, images, annotations, is_own or _is_coco_itself(data))


def _is_coco_itself(data: dict[str, Any]) -> bool:
    """Whether a file is COCO's or a part of it: by its `info`, its categories, or images that have their names there.

    Only then are crowds groups of objects. CVAT, datumaro and others write every mask as a crowd.
    """
    info = data.get("info")
    stated = info if isinstance(info, dict) else {}
    if stated.get("contributor") == "COCO Consortium" or str(stated.get("description", "")).startswith("COCO 20"):
        return True
    if {(entry["id"], entry["name"]) for entry in data["categories"]}.issuperset(COCO_CATEGORIES):
        return True
    images = data["images"]
    return bool(images) and all(_is_coco_image(entry) for entry in images)


def _is_coco_image(entry: dict[str, Any]) -> bool:
    match = _COCO_NAME.fullmatch(entry["file_name"])
    return match is not None and str(entry["id"]) == str(int(match[1]))


def sort_ids(ids: Iterable[Id]) -> list[Id]:
    """Ids in their order: numbers, then texts."""
    return sorted(ids, key=lambda key: (isinstance(key, str), key))


def parse_id(value: object) -> Id | None:
    """An id as it is compared: a number where it is one, also one written as text or with a point.

    Example:
        >>> parse_id("12"), parse_id(12.0), parse_id("a1"), parse_id(True)
        (12, 12, 'a1', None)
    """
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 19 else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def require_id(where: str, entry: object, key: str) -> Id:
    """The id under a key of an object of the file.

    Raises:
        InputError: it is missing, or neither a number nor a text.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    parsed = parse_id(value)
    if parsed is None:
        raise InputError(f"{where}: {key!r} is {value!r:.60} in {entry!r:.80}", hint="give a number or a text")
    return parsed


def require_side(where: str, entry: object, key: str) -> int:
    """A side of an image under a key of an object of the file, in pixels.

    Raises:
        InputError: it is missing, or no whole number above 0.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    try:
        side = None if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        side = None
    if side is None or not side.is_integer() or not 0 < side < 1e9:
        raise InputError(f"{where}: {key!r} is {value!r:.60} in {entry!r:.80}", hint="give a whole number of pixels")
    return int(side)


def parse_instances(
    path: Path, file: InstancesFile, values: Mapping[Id, int], tally: ObjectCounts
) -> dict[Id, list[DrawnObject]]:
    """The objects of each image that has one, by the image's id, in the order of the file.

    Args:
        values: what is drawn for each category; objects of other categories are left out.
        tally: counts crowds, and objects that are left out.

    Raises:
        InputError: an object of an unknown image or category, or without a polygon or mask.
    """
    rule = tally.rules.crowds
    tally.crowds_are_ignored = file.crowds_are_ignored if rule == "auto" else rule == "ignore"
    instances: dict[Id, list[DrawnObject]] = {}
    for entry in file.annotations:
        image_id, category = (require_id(f"{path}: annotation", entry, key) for key in ("image_id", "category_id"))
        where = f"{path}: annotation {entry.get('id')}"
        if image_id not in file.images or category not in file.categories:
            missing = f"image_id {image_id}" if image_id not in file.images else f"category_id {category}"
            raise InputError(f"{where}: has {missing}, which the file does not have")
        if category in values:
            _, size = file.images[image_id]
            shape = _parse_shape(where, entry, size, tally)
            value = tally.read_crowd(values[category]) if parse_crowd(where, entry) and shape else values[category]
            if shape:
                instance = DrawnObject(value, f"annotation {entry.get('id')}", shape)
                instances.setdefault(image_id, []).append(instance)
    return instances


def parse_crowd(where: str, entry: dict[str, Any]) -> bool:
    """Whether an object has `iscrowd` 1.

    Raises:
        InputError: `iscrowd` is neither 0 nor 1.
    """
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1) or isinstance(entry.get("iscrowd"), str | list):
        raise InputError(f"{where}: 'iscrowd' is {entry['iscrowd']!r:.60}", hint="give 0 or 1")
    return bool(crowd)


def _parse_shape(
    where: str, entry: dict[str, Any], size: tuple[int, int], tally: ObjectCounts
) -> Polygons | ColumnRuns | None:
    """What draws an annotation, with its numbers as arrays: a real file has tens of millions; None if left out."""
    shape = entry.get("segmentation")
    if isinstance(shape, dict):
        if shape.get("size") != list(size):
            raise InputError(f"{where}: its mask has the size {shape.get('size')}, and its image {list(size)}")
        counts = require_field(where, shape, "counts", str | list)
        return ColumnRuns(counts if isinstance(counts, str) else _parse_numbers(where, counts, "iu"))
    if not shape and (shape is None or isinstance(shape, list)):
        tally.skip(where, "boxes", "its segmentation has no polygon, and a bounding box alone says nothing of pixels")
        return None
    if not isinstance(shape, list):
        raise InputError(f"{where}: 'segmentation' is {shape!r:.60}", hint="give polygons or a mask")
    if not isinstance(shape[0], list | dict | str):  # a polygon without a list around it
        shape = [shape]
    polygons = []
    for corners in shape:
        flat = _parse_numbers(where, corners, "iuf").astype(np.float64)
        if len(flat) % 2 or not (np.abs(flat) < 1e6).all():
            raise InputError(
                f"{where}: cannot draw the polygon {flat.tolist()!r:.80}",
                hint="give three pairs of x and y or more, below 1e6",
            )
        if len(flat) < 6:
            problem = f"cannot draw the polygon {flat.tolist()!r:.80}, which has fewer than three pairs of x and y"
            tally.skip(where, "polygons of fewer than three corners", problem)
        else:
            polygons.append(flat.reshape(-1, 2))
    return Polygons(tuple(polygons)) if polygons else None


def _parse_numbers(where: str, values: object, kinds: str) -> NDArray[Any]:
    """A list of the file as an array, if it holds numbers and nothing else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.asarray(None)
    if array.ndim != 1 or (array.dtype.kind not in kinds and len(array)):
        raise InputError(f"{where}: {values!r:.80} in its segmentation is not a list of numbers")
    return array


def write_instances(
    path: Path,
    image_folder: Path,
    image_suffix: str,
    samples: Iterable[SampleArrays],
    categories: Mapping[int, str],
    describe: Callable[[LabelArray], list[dict[str, Any]]],
) -> None:
    """Write images, and last the instances file.

    Args:
        categories: names by id.
        describe: ids (H, W) -> annotations, which are numbered here.
    """
    make_folders(path.parent, image_folder)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (stem, image, ids) in enumerate(samples, 1):
        name = f"{stem}{image_suffix}"
        save_image(image, image_folder / name)
        images.append({"id": number, "file_name": name, "height": ids.shape[0], "width": ids.shape[1]})
        for entry in describe(ids):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
    entries = [{"id": category, "name": name, "supercategory": ""} for category, name in categories.items()]
    data = {
        "info": {"contributor": OWN_CONTRIBUTOR},
        "images": images,
        "annotations": annotations,
        "categories": entries,
    }
    atomic_write(path, json.dumps(data))


def make_annotation(mask: Mask, **more: object) -> dict[str, Any]:
    """An object of COCO's form for a mask that has at least one pixel, as compressed runs.

    Example:
        >>> make_annotation(np.array([[False, True], [False, True]]), category_id=3)["bbox"]
        [1, 0, 1, 2]
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)).tolist(), np.flatnonzero(mask.any(axis=0)).tolist()
    return {
        **more,
        "area": int(mask.sum()),
        "bbox": [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1],
        "segmentation": {"size": list(mask.shape), "counts": compress_rle(encode_rle(mask))},
    }
