"""CVAT's "CVAT for images 1.1": one annotations.xml with the shapes of each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from dilated.data.formats._annotations import AnnotatedImage, AnnotationFormat, Annotations, NamedObject
from dilated.data.formats._match import UNDIVIDED
from dilated.data.formats._objects import ObjectCounts, Polygons, Shape
from dilated.data.formats._shapes import (
    Ellipse,
    RowRuns,
    make_box,
    parse_hex_color,
    parse_number,
    parse_points,
    parse_whole_numbers,
)
from dilated.data.formats._xml import begins_with_element, read_xml
from dilated.errors import InputError
from dilated.files import plural
from dilated.palettes import Color

_FILE = "annotations.xml"
_WITHOUT_AREA = {"polyline": "polylines", "points": "points", "cuboid": "cuboids", "skeleton": "skeletons"}
_NO_SHAPES = {"tag", "attribute"}


class CVATImages(AnnotationFormat):
    """CVAT's export "CVAT for images 1.1": one annotations.xml with the shapes of each image.

        annotations.xml                    or any one .xml file of this form
        images/NAME.jpg                    or images/SUBSET/NAME.jpg, or anywhere below the folder

    Polygons, masks, boxes (filled) and ellipses are drawn by their z_order, of equals the later in the file over the
    earlier. Class 0 is `background`, pixels of no shape; the labels follow in the order of the file, and a label called
    `background` is the background. Subsets called train, val (or validation) and test are the splits. An export without
    images is read where the images lie beside it.

    Polylines, points, cuboids and skeletons have no area: they are an error, unless `objects_without_mask = "skip"` in
    classes.toml leaves them out. Tags are not read. "CVAT for video 1.1" is another export, and an error.
    """

    name = "cvat_images"
    title = "CVAT for images 1.1"

    def detect(self) -> bool:
        return self._path is not None

    @cached_property
    def _path(self) -> Path | None:
        """The file, which begins with CVAT's element, whatever it is called."""
        paths = sorted(self.root.glob("*.xml"), key=lambda path: (path.name != _FILE, path.name))
        return next((path for path in paths if begins_with_element(path, "annotations")), None)

    def _read(self) -> Annotations:
        if self._path is None:
            return Annotations([], [])
        path, counts = self._path, ObjectCounts(self.classes_file.object_rules)
        tree = read_xml(path, self.title)
        _require_images(path, tree)
        colors = _read_labels(path, tree)
        kinds: Counter[str] = Counter()
        images = [_read_image(path, element, colors, counts, kinds) for element in tree.iter("image")]
        _require_distinct_images(path, images)
        notes = [f"{path.name}: {plural(kinds['box'], 'box')} drawn as filled boxes."] if kinds["box"] else []
        known_colors = {name: color for name, color in colors.items() if color}
        return Annotations(list(colors), images, known_colors, [*notes, *counts.describe(path.name)])


def _require_images(path: Path, tree: ElementTree.Element) -> None:
    if tree.find("image") is None:
        is_video = tree.find("track") is not None
        problem = "is the export CVAT for video 1.1, with tracks" if is_video else "has no images"
        raise InputError(f"{path}: {problem}", hint="export the task as CVAT for images 1.1")


def _read_labels(path: Path, tree: ElementTree.Element) -> dict[str, Color | None]:
    """The labels in the file's order, with their colors; parts of skeletons are none."""
    labels: dict[str, Color | None] = {}
    for element in tree.findall("meta//label"):
        name = (element.findtext("name") or "").strip()
        if element.findtext("parent"):
            continue
        if not name or name in labels:
            raise InputError(f"{path}: a label is called {name!r}", hint="give each label a name of its own")
        labels[name] = parse_hex_color(element.findtext("color"))
    if labels:
        return labels
    names = {shape.get("label", "") for image in tree.iter("image") for shape in image if shape.tag not in _NO_SHAPES}
    return dict.fromkeys(sorted(names - {""}))


def _require_distinct_images(path: Path, images: Sequence[AnnotatedImage]) -> None:
    counts = Counter((image.subset, image.name) for image in images)
    (_, name), count = counts.most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: has {count} images of the name {name!r}", hint="export each task for itself")


def _read_image(
    path: Path,
    element: ElementTree.Element,
    labels: dict[str, Color | None],
    counts: ObjectCounts,
    kinds: Counter[str],
) -> AnnotatedImage:
    name = element.get("name", "").replace("\\", "/")
    if not name:
        raise InputError(f"{path}: the image with the id {element.get('id')!r} has no name")
    sides = parse_whole_numbers(
        f"{path}: image {name}", [element.get("height", ""), element.get("width", "")], "its size"
    ).tolist()
    if not all(0 < side < 1_000_000 for side in sides):
        raise InputError(f"{path}: image {name}: its size is {sides[1]}x{sides[0]}")
    objects: list[tuple[float, NamedObject]] = []
    for number, entry in enumerate(entry for entry in element if entry.tag not in _NO_SHAPES):
        where = f"{path}: image {name}: shape {number} ({entry.tag})"
        label = entry.get("label", "").strip()
        if label not in labels:
            raise InputError(f"{where}: has the label {label!r}", hint=f"give one of {', '.join(labels)}")
        if entry.tag in _WITHOUT_AREA:
            counts.skip(where, _WITHOUT_AREA[entry.tag], f"a {entry.tag} has no area")
            continue
        kinds[entry.tag] += 1
        order = parse_number(where, entry.get("z_order", "0"), "z_order")
        objects.append((order, NamedObject(label, f"shape {number} ({entry.tag})", _read_shape(where, entry))))
    objects.sort(key=lambda pair: pair[0])
    drawn = [entry for _, entry in objects]
    return AnnotatedImage(name, path, (sides[0], sides[1]), drawn, element.get("subset") or UNDIVIDED)


def _read_shape(where: str, element: ElementTree.Element) -> Shape:
    """What draws a shape that has an area."""

    def number(name: str, default: str | None = None) -> float:
        return parse_number(where, element.get(name, default), name)

    match element.tag:
        case "polygon":
            pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
            return Polygons((parse_points(where, pairs, 3, "polygon"),))
        case "box":
            left, top, right, bottom = (number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
            return make_box(left, top, right - left, bottom - top, number("rotation", "0"))
        case "ellipse":
            radii = number("rx"), number("ry")
            if not min(radii) > 0:
                raise InputError(f"{where}: rx and ry are {radii}", hint="give numbers above 0")
            return Ellipse((number("cx"), number("cy")), radii, number("rotation", "0"))
        case "mask":
            box = parse_whole_numbers(
                where, [element.get(name) for name in ("left", "top", "width", "height")], "its box"
            )
            if (box[2:] <= 0).any() or (np.abs(box) >= 1_000_000).any():
                raise InputError(f"{where}: its box is {box.tolist()}", hint="give left, top, width and height")
            left, top, width, height = box.tolist()
            counts = parse_whole_numbers(where, element.get("rle", "").split(","), "its rle")
            return RowRuns(counts, (left, top, width, height))
        case _:
            raise InputError(
                f"{where}: is of an unknown kind; {CVATImages.title} has polygon, mask, box and ellipse",
                hint="remove it, or tell us about it",
            )
