"""Instances files of COCO's form: images, categories and the objects of each image as polygons or run-length masks.

Where objects overlap, the smaller is on top, of equals the later in the file. The pixels of crowds (`iscrowd`) are
ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import (
    BACKGROUND,
    OBJECTS_NOTE,
    classes_from_names,
    prepend_background,
    require_background_first,
    require_distinct_names,
)
from dilated.data.formats._format import (
    Format,
    Parsed,
    SampleArrays,
    make_folders,
    require_field,
    save_image,
)
from dilated.data.formats._match import SPLIT_ALIASES, SPLITS, UNDIVIDED, MatchResult, index_by_split, require_files
from dilated.data.images import image_size, is_file
from dilated.data.labels import IGNORE, Classes, LabelArray, make_size_error
from dilated.data.masks import (
    Mask,
    compress_rle,
    decode_rle,
    decompress_rle,
    encode_rle,
    merge_masks,
    rasterize_polygon,
)
from dilated.data.polygons import label_components, trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, read_json

_ROBOFLOW_FILE = "_annotations.coco.json"
_HEADING_ID = 0  # of a category of Roboflow that is no class


class COCOInstances(Format):
    """Instances files of COCO's form with one's own categories, as CVAT, Label Studio and Roboflow write them.

        annotations/instances_SPLIT.json   images in SPLIT/, images/SPLIT/, SPLIT2017/ or images/
        SPLIT/_annotations.coco.json       images beside it (Roboflow; its `valid` is val)

    Class 0 is the background, pixels of no object; the categories follow in the order of their ids, which may have
    gaps. A category called `background` is the background. Where objects overlap, the smaller is on top; a crowd is
    ignored. Images without objects are background. Where the one file is `instances_default.json`, the images are split
    into train and val. Roboflow's category 0 of the supercategory "none", which is the supercategory of all others, is
    a heading and not a class.
    """

    name = "coco_json"
    draws_objects = True
    lacks_colors = "COCO's form has"

    def detect(self) -> bool:
        roboflow_files = (self.root / folder / _ROBOFLOW_FILE for folder in SPLIT_ALIASES)
        return any(path.is_file() for path in (*(self.root / "annotations").glob("instances_*.json"), *roboflow_files))

    def parse(self) -> Parsed:
        splits = [split for split in (*SPLITS, UNDIVIDED) if split in self._paths]
        return Parsed(splits, self._match_file, self._read_classes, lambda: [OBJECTS_NOTE])

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """The instances file of each split."""
        paths = sorted((self.root / "annotations").glob("instances_*.json"))
        paths += [p for s in SPLIT_ALIASES if (p := self.root / s / _ROBOFLOW_FILE).is_file()]
        return index_by_split((_split_name(path).removesuffix("2017").removesuffix("2014"), path) for path in paths)

    def _read_classes(self) -> Classes:
        """The background and the categories, which all files must share."""
        names_by_path = {path: self._class_names(path) for path in self._paths.values()}
        if not names_by_path:
            raise InputError(f"{self.root}: found no annotations/instances_SPLIT.json of train, val, test or default")
        first_path, names = next(iter(names_by_path.items()))
        for path, other_names in names_by_path.items():
            if other_names != names:
                raise InputError(
                    f"{path}: found the categories {other_names[1:]}", hint=f"give those of {first_path}, in its order"
                )
        return classes_from_names(names, str(first_path))

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        require_background_first(classes, root)
        path = root / "annotations" / f"instances_{split}.json"
        categories = dict(enumerate(classes.names[1:], 1))
        write_instances(path, root / "images" / split, ".png", samples, categories, _describe_regions)

    @cached_property
    def _files(self) -> dict[Path, InstancesFile]:
        return {}

    def _read(self, path: Path) -> InstancesFile:
        """The contents of a file, read when first asked for."""
        if path not in self._files:
            self._files[path] = read_instances_file(path)
        return self._files[path]

    def _class_names(self, path: Path) -> list[str]:
        return prepend_background(_class_categories(path, self._read(path)).values())

    def _match_file(self, split: str) -> MatchResult:
        """The samples in the order of the file's images."""
        path = self._paths[split]
        file = self._read(path)
        if any("segments_info" in entry for entry in file.annotations[:1]):
            raise InputError(
                f"{path}: is a panoptic file, with segments_info", hint="give instances with a segmentation each"
            )
        ids = self.classes_file.map_names_to_ids(self._class_names(path), str(path))
        folder = _find_image_folder(self.root, path, file)
        images = {image_id: folder / name for image_id, (name, _) in file.images.items()}
        require_files(list(images.values()), path, "where the annotations are from")
        values = {category: ids[name] for category, name in _class_categories(path, file).items()}
        instances = parse_instances(path, file, values)
        samples = []
        for image_id, (name, size) in file.images.items():
            reader = InstanceReader(images[image_id], size, tuple(instances.get(image_id, ())), ids[BACKGROUND])
            stem = Path(name).with_suffix("").as_posix().replace("/", "__")  # folders may hold images of one name
            samples.append(Sample(images[image_id], path, reader, stem=stem))
        return MatchResult(samples)


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
    supercategories: dict[int, str]
    """The `supercategory` of each category that has one."""
    images: dict[int, tuple[str, tuple[int, int]]]
    """The name and the (H, W) of each image by id."""
    annotations: list[dict[str, Any]]
    """The objects as the file has them."""


@dataclass(frozen=True, eq=False)
class InstanceReader:
    """Read an image's label map: it is drawn from the objects, and the file is named in errors alone."""

    image: Path
    size: tuple[int, int]
    """(H, W) as the instances file has it."""
    instances: tuple[Instance, ...]
    background: int = 0
    """The value where there is no object."""

    def __call__(self, path: Path) -> LabelArray:
        """The label map (H, W), 255 in a crowd.

        Raises:
            InputError: an image of another size, or a mask that is damaged.
        """
        if (actual_size := image_size(self.image)) != self.size:
            raise make_size_error(f"{path}, {self.image.name}", self.size, actual_size)
        masks = ((instance.value, self._decode_mask(path, instance)) for instance in self.instances)
        return merge_masks(masks, self.size, self.background)

    def _decode_mask(self, path: Path, instance: Instance) -> Mask:
        if instance.polygons:
            return np.logical_or.reduce([rasterize_polygon(polygon, self.size) for polygon in instance.polygons])
        try:
            runs = decompress_rle(instance.rle) if isinstance(instance.rle, str) else instance.rle
            return decode_rle(runs, self.size)
        except InputError as error:
            raise InputError(f"{path}: {instance.name} of {self.image.name}: {error}") from error


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
    for entry in require_field(f"{path}: the file", data, "categories", list):
        category, name = (require_field(f"{path}: category", entry, k, t) for k, t in (("id", int), ("name", str)))
        if category in categories:
            raise InputError(f"{path}: two categories have the id {category}")
        categories[category] = name
        if isinstance(entry.get("supercategory"), str):
            supercategories[category] = entry["supercategory"]
    images: dict[int, tuple[str, tuple[int, int]]] = {}
    names: set[str] = set()
    for entry in require_field(f"{path}: the file", data, "images", list):
        height, width, image_id = (
            require_field(f"{path}: image", entry, key, int) for key in ("height", "width", "id")
        )
        name = require_field(f"{path}: image", entry, "file_name", str)
        if image_id in images:
            raise InputError(f"{path}: two images have the id {image_id}")
        if name in names:
            raise InputError(f"{path}: two images have the file_name {name!r}")
        names.add(name)
        images[image_id] = name, (height, width)
    return InstancesFile(
        categories, supercategories, images, require_field(f"{path}: the file", data, "annotations", list)
    )


def parse_instances(path: Path, file: InstancesFile, values: Mapping[int, int]) -> dict[int, list[Instance]]:
    """The objects of each image that has one, by the image's id, in the order of the file.

    Args:
        values: what is drawn for each category; objects of other categories are left out.

    Raises:
        InputError: an object of an unknown image or category, or without a polygon or mask.
    """
    instances: dict[int, list[Instance]] = {}
    for entry in file.annotations:
        image_id, category = (
            require_field(f"{path}: annotation", entry, key, int) for key in ("image_id", "category_id")
        )
        where = f"{path}: annotation {entry.get('id')}"
        if image_id not in file.images or category not in file.categories:
            missing = f"image_id {image_id}" if image_id not in file.images else f"category_id {category}"
            raise InputError(f"{where}: has {missing}, which the file does not have")
        if category in values:
            instance = _parse_instance(where, entry, values[category], file.images[image_id][1])
            instances.setdefault(image_id, []).append(instance)
    return instances


def _parse_instance(where: str, entry: dict[str, Any], value: int, size: tuple[int, int]) -> Instance:
    """An annotation with its numbers as arrays, which take a tenth of the memory: a real file has tens of millions."""
    name = f"annotation {entry.get('id')}"
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{where}: 'iscrowd' is {crowd!r:.60}", hint="give 0 or 1")
    value = IGNORE if crowd else value
    shape = require_field(where, entry, "segmentation", dict | list)
    if isinstance(shape, dict):
        if shape.get("size") != list(size):
            raise InputError(f"{where}: its mask has the size {shape.get('size')}, and its image {list(size)}")
        counts = require_field(where, shape, "counts", str | list)
        return Instance(value, name, (), counts if isinstance(counts, str) else _parse_numbers(where, counts, "iu"))
    if not shape:
        raise InputError(
            f"{where}: its segmentation has no polygon, and a bounding box alone says nothing of pixels",
            hint="export the annotations as polygons or masks",
        )
    polygons = []
    for corners in shape:
        flat = _parse_numbers(where, corners, "iuf").astype(np.float64)
        if len(flat) < 6 or len(flat) % 2 or not (np.abs(flat) < 1e6).all():
            raise InputError(
                f"{where}: cannot draw the polygon {flat.tolist()!r:.80}",
                hint="give three pairs of x and y or more, below 1e6",
            )
        polygons.append(flat.reshape(-1, 2))
    return Instance(value, name, tuple(polygons), "")


def _parse_numbers(where: str, values: object, kinds: str) -> NDArray[Any]:
    """A list of the file as an array, if it holds numbers and nothing else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in kinds:
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
    atomic_write(path, json.dumps({"images": images, "annotations": annotations, "categories": entries}))


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


def _describe_regions(ids: LabelArray) -> list[dict[str, Any]]:
    """Each 4-connected region is an object: a polygon along its pixels' edges, or where it has holes run lengths.

    Ignored regions are crowds of the first category, for COCO has no other way.
    """
    annotations = []
    region = label_components(ids)[0]
    for i, outline in enumerate(trace_polygons(ids)):
        if outline.value == 0:
            continue
        is_crowd = outline.value == IGNORE
        fields = {"category_id": 1 if is_crowd else outline.value, "iscrowd": int(is_crowd)}
        if is_crowd or len(outline.rings) > 1:
            annotations.append(make_annotation(region == i, **fields))
        else:
            ring = outline.rings[0].ravel().tolist()
            annotations.append({**fields, "area": outline.area, "bbox": list(outline.bbox), "segmentation": [ring]})
    return annotations


def _split_name(path: Path) -> str:
    return path.parent.name if path.name == _ROBOFLOW_FILE else path.stem.removeprefix("instances_")


def _class_categories(path: Path, file: InstancesFile) -> dict[int, str]:
    """The categories that are classes, in the order of their ids."""
    categories = dict(sorted(file.categories.items()))
    parents = {file.supercategories.get(i) for i in categories if i != _HEADING_ID}
    is_heading = file.supercategories.get(_HEADING_ID) == "none" and parents == {categories.get(_HEADING_ID)}
    if path.name == _ROBOFLOW_FILE and is_heading:
        del categories[_HEADING_ID]
    if not categories:
        raise InputError(f"{path}: has no categories")
    require_distinct_names(list(categories.values()), f"{path}: categories")
    return categories


def _find_image_folder(root: Path, path: Path, file: InstancesFile) -> Path:
    """The folder that the images' names start from: the first that contains the first image."""
    if path.name == _ROBOFLOW_FILE:
        return path.parent
    name = _split_name(path)
    split = SPLIT_ALIASES.get(name.removesuffix("2017").removesuffix("2014").lower(), UNDIVIDED)
    names = dict.fromkeys([name, f"{split}2017", split])
    candidates = [*(root / name for name in names), *(root / "images" / name for name in names), root / "images"]
    first_name = next(iter(file.images.values()), ("", (0, 0)))[0]
    image_folder = next((candidate for candidate in candidates if is_file(candidate / first_name)), None)
    if image_folder is None:
        raise InputError(
            f"{path}: its first image {first_name!r} is in none of "
            f"{', '.join(str(p.relative_to(root)) for p in candidates)}",
            hint="put the images into one of them",
        )
    return image_folder
