"""Datumaro's format: annotations/SUBSET.json, as datumaro and CVAT write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dilated.data.formats._annotations import AnnotatedImage, AnnotationFormat, Annotations, NamedObject
from dilated.data.formats._format import require_field
from dilated.data.formats._objects import ColumnRuns, ObjectCounts, Polygons, Shape
from dilated.data.formats._scan import holds_words
from dilated.data.formats._shapes import Ellipse, make_box, parse_number, parse_points
from dilated.errors import InputError
from dilated.files import plural, read_json
from dilated.palettes import Color

_WITHOUT_AREA = {"polyline": "polylines", "points": "points", "cuboid_3d": "cuboids", "skeleton": "skeletons"}
_ABOUT_IMAGES = {"label", "caption"}
_WORDS = (b'"categories"', b'"items"', b'"annotations"')


class Datumaro(AnnotationFormat):
    """Datumaro's format, as datumaro and CVAT ("Datumaro 1.0") write it.

        annotations/SUBSET.json            label_categories and items; SUBSET is train, val, test or default
        images/SUBSET/NAME.jpg             or images/NAME.jpg, or anywhere below the folder

    Polygons, masks, boxes (filled, turned by their attribute `rotation`) and ellipses are drawn by their z_order, of
    equals the later in the file over the earlier. Class 0 is `background`, pixels of no object; the labels follow in
    the order of their ids, and a label called `background` is the background. All files must have the same labels.

    Polylines, points, cuboids and skeletons have no area: they are an error, unless `objects_without_mask = "skip"` in
    classes.toml leaves them out. Labels and captions of whole images are not read.
    """

    name = "datumaro"
    title = "Datumaro"

    def detect(self) -> bool:
        return bool(self._paths)

    @cached_property
    def _paths(self) -> list[Path]:
        paths = sorted((self.root / "annotations").glob("*.json"))
        names = (".", "instances_")  # COCO's, which are huge and opened once
        return [path for path in paths if not path.name.startswith(names) and holds_words(path, b"{", _WORDS)]

    def _read(self) -> Annotations:
        names: list[str] | None = None
        colors: dict[str, Color] = {}
        images: list[AnnotatedImage] = []
        counts, kinds = ObjectCounts(self.classes_file.object_rules), Counter[str]()
        for path in self._paths:
            data = read_json(path)
            file_names = _read_names(path, data)
            if names is not None and file_names != names:
                raise InputError(
                    f"{path}: its labels are {file_names}", hint=f"give those of {self._paths[0].name}, in its order"
                )
            names = file_names
            colors |= _read_colors(data, names)
            for item in require_field(f"{path}: the file", data, "items", list):
                images.append(_read_item(path, item, names, counts, kinds))
        notes = counts.describe(self.title)
        if kinds["bbox"]:
            notes.append(f"{plural(kinds['bbox'], 'box')} drawn as filled boxes.")
        return Annotations(names or [], images, colors, notes)


def _read_names(path: Path, data: object) -> list[str]:
    """The names of the labels in the order of their ids."""
    categories = require_field(f"{path}: the file", data, "categories", dict)
    labels = require_field(f"{path}: categories: label", categories.get("label", {"labels": []}), "labels", list)
    return [require_field(f"{path}: label {number}", entry, "name", str) for number, entry in enumerate(labels)]


def _read_colors(data: dict[str, Any], names: Sequence[str]) -> dict[str, Color]:
    """The colors of the labels that have one; anything else in the color map is left alone."""
    mask = data["categories"].get("mask")
    entries = mask.get("colormap") if isinstance(mask, dict) else None
    colors: dict[str, Color] = {}
    for entry in entries if isinstance(entries, list) else []:
        fields = entry if isinstance(entry, dict) else {}
        values: list[Any] = [fields.get(key) for key in ("label_id", "r", "g", "b")]
        if all(type(value) is int and 0 <= value < 256 for value in values) and values[0] < len(names):
            colors[names[values[0]]] = (values[1], values[2], values[3])
    return colors


def _read_item(
    path: Path, item: object, names: Sequence[str], counts: ObjectCounts, kinds: Counter[str]
) -> AnnotatedImage:
    name = require_field(f"{path}: item", item, "id", str)
    where = f"{path}: item {name}"
    image = require_field(where, item, "image", dict)
    file_name = image.get("path") or name
    sides = image.get("size")
    if sides is not None and not (
        isinstance(sides, list)
        and len(sides) == 2
        and all(type(side) is int and 0 < side < 1_000_000 for side in sides)
    ):
        raise InputError(f"{where}: the size of its image is {sides!r:.60}", hint="give height and width")
    entries = require_field(where, item, "annotations", list)
    size = (sides[0], sides[1]) if sides else _mask_size(entries)
    objects: list[tuple[float, NamedObject]] = []
    for number, entry in enumerate(entries):
        kind = require_field(f"{where}: annotation {number}", entry, "type", str)
        if kind in _ABOUT_IMAGES:
            continue
        place = f"{where}: annotation {number} ({kind})"
        label = entry.get("label_id")
        if kind in _WITHOUT_AREA:
            counts.skip(place, _WITHOUT_AREA[kind], f"a {kind} has no area")
        elif label is None:
            counts.skip(place, "objects without a label", "has no label")
        elif type(label) is not int or not 0 <= label < len(names):
            raise InputError(f"{place}: has the label_id {label!r:.60}", hint=f"give 0 to {len(names) - 1}")
        else:
            kinds[kind] += 1
            shape = _read_shape(place, entry, kind, size)
            order = parse_number(place, entry.get("z_order") or 0, "z_order")
            objects.append((order, NamedObject(names[label], f"annotation {number} ({kind})", shape)))
    objects.sort(key=lambda pair: pair[0])
    return AnnotatedImage(str(file_name), path, size, [entry for _, entry in objects], path.stem)


def _mask_size(entries: Sequence[object]) -> tuple[int, int] | None:
    """(H, W) as the first mask of an item says it, where the item does not; the others are compared with it."""
    for entry in entries:
        mask = entry.get("rle") if isinstance(entry, dict) else None
        match mask.get("size") if isinstance(mask, dict) else None:
            case [int(height), int(width)]:
                return height, width
    return None


def _read_shape(where: str, entry: dict[str, Any], kind: str, size: tuple[int, int] | None) -> Shape:
    """What draws an object that has an area."""

    def pairs(values: Iterable[Any]) -> list[tuple[Any, Any]]:
        flat = list(values)
        if len(flat) % 2:
            raise InputError(f"{where}: its points are {len(flat)} numbers", hint="give pairs of x and y")
        return list(zip(flat[::2], flat[1::2], strict=True))

    match kind:
        case "polygon":
            return Polygons((parse_points(where, pairs(require_field(where, entry, "points", list)), 3, "polygon"),))
        case "bbox":
            box = parse_points(where, pairs(require_field(where, entry, "bbox", list)), 2, "bbox")
            (left, top), (width, height) = box[:2].tolist()
            attributes = entry.get("attributes")
            angle = attributes.get("rotation") or 0 if isinstance(attributes, dict) else 0
            return make_box(left, top, width, height, parse_number(where, angle, "its rotation"))
        case "ellipse":
            corners = parse_points(where, pairs(require_field(where, entry, "points", list)), 2, "ellipse")
            center, radii = corners[:2].mean(axis=0).tolist(), (np.ptp(corners[:2], axis=0) / 2).tolist()
            if not min(radii) > 0:
                raise InputError(f"{where}: its points are {corners.tolist()}", hint="give two corners of its box")
            return Ellipse((center[0], center[1]), (radii[0], radii[1]))
        case "mask":
            mask = require_field(where, entry, "rle", dict)
            if size is not None and mask.get("size") != list(size):
                raise InputError(f"{where}: its mask has the size {mask.get('size')!r:.60}, and its image {list(size)}")
            return ColumnRuns(require_field(where, mask, "counts", str))
        case _:
            raise InputError(
                f"{where}: is of an unknown kind; polygon, mask, bbox and ellipse are read",
                hint="convert it to a mask with datumaro's transforms",
            )
