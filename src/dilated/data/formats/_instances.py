"""Instances files of COCO's form: images, categories and the objects of each image as polygons or run-length masks.

Where objects overlap, the smaller is on top, of equals the later in the file. The pixels of crowds (`iscrowd`) are
ignored. Pixels of no object are 0.
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
from dilated.data.labels import IGNORE, make_size_error
from dilated.data.masks import (
    Mask,
    compress_rle,
    decode_rle,
    decompress_rle,
    encode_rle,
    merge_masks,
    rasterize_polygon,
)
from dilated.errors import InputError
from dilated.files import atomic_write, read_json


class Instance(NamedTuple):
    """An object of an image: its class or 255, and its polygons (n, 2) of x and y, or the run lengths of its mask."""

    value: int
    name: str
    polygons: tuple[NDArray[np.float64], ...]
    rle: str | NDArray[np.int64]


@dataclass(frozen=True)
class InstancesFile:
    """The parts of an instances file that are used."""

    categories: dict[int, str]
    """The names of the categories by id."""
    images: dict[int, tuple[str, tuple[int, int]]]
    """The name and the (H, W) of each image by id."""
    annotations: list[dict[str, Any]]
    """The objects as the file has them."""
    supercategories: dict[int, str]
    """The `supercategory` of each category that has one."""


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
    categories: dict[int, str] = {}
    supercategories: dict[int, str] = {}
    for entry in _require_field(path, "the file", data, "categories", list):
        entry_id, name = (
            _require_field(path, "category", entry, "id", int),
            _require_field(path, "category", entry, "name", str),
        )
        if entry_id in categories:
            raise InputError(f"{path}: found two categories of one id, {entry_id}; expected distinct ids")
        categories[entry_id] = name
        if isinstance(entry.get("supercategory"), str):
            supercategories[entry_id] = entry["supercategory"]
    images: dict[int, tuple[str, tuple[int, int]]] = {}
    names: set[str] = set()
    for entry in _require_field(path, "the file", data, "images", list):
        size = _require_field(path, "image", entry, "height", int), _require_field(path, "image", entry, "width", int)
        entry_id = _require_field(path, "image", entry, "id", int)
        if entry_id in images:
            raise InputError(f"{path}: found two images of the id {entry_id}; expected distinct ids")
        name = _require_field(path, "image", entry, "file_name", str)
        if name in names:
            raise InputError(f"{path}: found two images of the file_name {name!r}; expected one, or other names")
        names.add(name)
        images[entry_id] = name, size
    return InstancesFile(
        categories, images, _require_field(path, "the file", data, "annotations", list), supercategories
    )


def parse_instances(path: Path, data: InstancesFile, values: Mapping[int, int]) -> dict[int, list[Instance]]:
    """The objects of each image that has one, by the image's id, in the order of the file.

    Args:
        values: what is drawn for each category; objects of those whose value is 0 are left out.

    Raises:
        InputError: an object of an unknown image or category, or without a polygon or mask.
    """
    instances_by_image: dict[int, list[Instance]] = {}
    for entry in data.annotations:
        image_id, category = (
            _require_field(path, "annotation", entry, key, int) for key in ("image_id", "category_id")
        )
        if image_id not in data.images or category not in values:
            missing = f"image_id {image_id}" if image_id not in data.images else f"category_id {category}"
            raise InputError(f"{path}: annotation {entry.get('id')}: found {missing}, which the file does not have")
        if values[category]:
            instances_by_image.setdefault(image_id, []).append(
                _parse_instance(path, entry, values[category], data.images[image_id][1])
            )
    return instances_by_image


def rasterize_instances(
    path: Path, image: Path, size: tuple[int, int], image_instances: Sequence[Instance]
) -> NDArray[np.uint8]:
    """The label map of one image: class ids (H, W), 0 where there is no object, 255 in a crowd.

    Args:
        path: the instances file that the objects are from, for errors.
        image: the image, whose size is compared.
        size: (H, W) as the instances file has it.

    Raises:
        InputError: an image of another size, or a mask that is damaged.
    """
    actual_size = image_size(image)
    if actual_size != size:
        raise make_size_error(f"{path}, {image.name}", size, actual_size)
    return merge_masks(
        ((instance.value, _decode_mask(path, image, size, instance)) for instance in image_instances), size
    )


def _decode_mask(path: Path, image: Path, size: tuple[int, int], instance: Instance) -> Mask:
    mask = np.zeros(size, dtype=np.bool_)
    for polygon in instance.polygons:
        mask |= rasterize_polygon(polygon, size)
    if instance.polygons:
        return mask
    try:
        return decode_rle(decompress_rle(instance.rle) if isinstance(instance.rle, str) else instance.rle, size)
    except InputError as error:
        raise InputError(f"{path}: {instance.name} of {image.name}: {error}") from error


def _parse_instance(path: Path, entry: dict[str, Any], value: int, size: tuple[int, int]) -> Instance:
    """An annotation with its numbers as arrays, which take a tenth of the memory: a real file has tens of millions."""
    name = f"annotation {entry.get('id')}"
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{path}: {name}: found {crowd!r:.60} as 'iscrowd'; expected 0 or 1")
    value = IGNORE if crowd else value
    shape = _require_field(path, name, entry, "segmentation", dict | list)
    if isinstance(shape, dict):
        if shape.get("size") != list(size):
            raise InputError(f"{path}: {name}: found a mask of size {shape.get('size')}; expected {list(size)}")
        counts = _require_field(path, name, shape, "counts", str | list)
        return Instance(
            value, name, (), counts if isinstance(counts, str) else _parse_numbers(path, name, counts, "iu")
        )
    if not shape:
        raise InputError(
            f"{path}: {name}: found no polygon in its segmentation; expected at least one: a bounding box alone says "
            "nothing of pixels",
            hint="export the annotations as polygons or masks",
        )
    return Instance(value, name, tuple(_parse_polygon(path, name, corners) for corners in shape), "")


def _parse_polygon(path: Path, name: str, corners: object) -> NDArray[Any]:
    flat = _parse_numbers(path, name, corners, "iuf").astype(np.float64)
    if len(flat) < 6 or len(flat) % 2 or not (np.abs(flat) < 1e6).all():
        raise InputError(
            f"{path}: {name}: found a polygon {flat.tolist()!r:.80}; expected three pairs of x and y or more, below 1e6"
        )
    return flat.reshape(-1, 2)


def _parse_numbers(path: Path, name: str, values: object, kinds: str) -> NDArray[Any]:
    """A list of the file as an array, if it holds numbers and nothing else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise InputError(f"{path}: {name}: found {values!r:.80} in its segmentation; expected a list of numbers")
    return array


def _require_field(path: Path, what: str, entry: Any, key: str, kind: Any) -> Any:
    """A value of the file, if it exists and is of the kind expected."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = getattr(kind, "__name__", kind)
        raise InputError(f"{path}: {what}: found {value!r:.60} as {key!r} in {entry!r:.80}; expected a {kinds}")
    return value


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


def write_instances_file(
    path: Path,
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    names: Iterable[tuple[int, str]],
) -> None:
    """Write an instances file; annotations are numbered from 1."""
    data = {
        "images": images,
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, 1)],
        "categories": [{"id": entry_id, "name": name, "supercategory": ""} for entry_id, name in names],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(data))
