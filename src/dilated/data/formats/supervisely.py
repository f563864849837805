"""Supervisely's format: meta.json with the classes, and a file for each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dilated.data.formats._annotations import AnnotatedImage, AnnotationFormat, Annotations, NamedObject
from dilated.data.formats._bitmaps import EncodedPNG
from dilated.data.formats._format import require_field
from dilated.data.formats._match import SPLIT_ALIASES, UNDIVIDED
from dilated.data.formats._objects import ObjectCounts, Polygons, Shape
from dilated.data.formats._shapes import make_box, parse_hex_color, parse_points, parse_whole_numbers
from dilated.data.images import is_file, list_image_files
from dilated.errors import InputError
from dilated.files import plural, read_json
from dilated.palettes import Color

_META = "meta.json"
_WITHOUT_AREA = {"line": "lines", "point": "points", "graph": "graphs", "cuboid": "cuboids", "cuboid_2d": "cuboids"}


class Supervisely(AnnotationFormat):
    """Supervisely's format: meta.json with the classes, and a file for each image.

        meta.json                          the classes with their colors
        DATASET/ann/NAME.jpg.json          one per image (older ones are NAME.json)
        DATASET/img/NAME.jpg               DATASET may be nested, as DATASET/datasets/DATASET

    Bitmaps, polygons with holes and rectangles (filled) are drawn in the order of the file, later ones over earlier
    ones. Class 0 is `background`, pixels of no object; the classes of meta.json follow in its order, and a class called
    `background` is the background. Datasets called train, val
    (validation) and test are the splits. Images without a file are left out; masks_machine/ and masks_human/ are not
    read.

    Lines, points, graphs and cuboids have no area: they are an error, unless `objects_without_mask = "skip"` in
    classes.toml leaves them out.
    """

    name = "supervisely"
    title = "Supervisely"

    def detect(self) -> bool:
        return (self.root / _META).is_file() and bool(self._datasets)

    @cached_property
    def _datasets(self) -> list[Path]:
        """The folders that have ann/, with those nested in them."""

        def below(folder: Path) -> Iterator[Path]:
            for path in sorted(p for p in folder.glob("*") if (p / "ann").is_dir() or (p / "datasets").is_dir()):
                if (path / "ann").is_dir():
                    yield path
                yield from below(path / "datasets")

        return [self.root] if (self.root / "ann").is_dir() else list(below(self.root))

    def _read(self) -> Annotations:
        path = self.root / _META
        if not path.is_file():
            return Annotations([], [])
        colors = _read_classes(path)
        counts, kinds = ObjectCounts(self.classes_file.object_rules), Counter[str]()
        images = []
        for dataset in self._datasets:
            files = sorted(p for p in (dataset / "ann").glob("*.json") if not p.name.startswith("."))
            images += [self._read_file(file, colors, counts, kinds) for file in files]
        known_colors = {name: color for name, color in colors.items() if color}
        notes = [*self._describe_unlabeled(images), *counts.describe(self.title)]
        if kinds["rectangle"]:
            notes.append(f"{plural(kinds['rectangle'], 'rectangle')} drawn as filled rectangles.")
        return Annotations(list(colors), images, known_colors, notes)

    def _read_file(
        self, path: Path, classes: dict[str, Color | None], counts: ObjectCounts, kinds: Counter[str]
    ) -> AnnotatedImage:
        data = read_json(path)
        size = require_field(f"{path}: the file", data, "size", dict)
        height, width = (require_field(f"{path}: size", size, side, int) for side in ("height", "width"))
        objects = []
        for number, entry in enumerate(require_field(f"{path}: the file", data, "objects", list)):
            where = f"{path}: object {number}"
            name = require_field(where, entry, "classTitle", str)
            if name not in classes:
                raise InputError(
                    f"{where}: has the class {name!r}, which {_META} lacks", hint="export the project again"
                )
            kind = entry.get("geometryType") or entry.get("shape") or ("bitmap" if entry.get("bitmap") else "polygon")
            if not isinstance(kind, str):
                raise InputError(f"{where}: its geometryType is {kind!r:.60}", hint="export the project again")
            if kind in _WITHOUT_AREA:
                counts.skip(f"{where} ({kind})", _WITHOUT_AREA[kind], f"a {kind} has no area")
                continue
            kinds[kind] += 1
            shapes = _read_shapes(f"{where} ({kind})", entry, kind)
            objects += [NamedObject(name, f"object {number} ({kind})", shape) for shape in shapes]
        dataset = path.parent.parent
        subset = dataset.name if SPLIT_ALIASES.get(dataset.name.lower()) else UNDIVIDED
        return AnnotatedImage(f"img/{path.name.removesuffix('.json')}", path, (height, width), objects, subset)

    def _find_image(self, image: AnnotatedImage) -> Path | None:
        """The image in img/ beside ann/, and nowhere else: masks_machine/ has images of the same names."""
        folder = image.source.parent.parent / "img"
        name = Path(image.name).name
        if is_file(folder / name):
            return folder / name
        return self._images_by_stem.get(folder / name)

    @cached_property
    def _images_by_stem(self) -> dict[Path, Path]:
        """The images by their paths without suffixes, as older files name them; none where two would have one."""
        folders = [dataset / "img" for dataset in self._datasets if (dataset / "img").is_dir()]
        paths = [path for folder in folders for path in list_image_files(folder)]
        counts = Counter(path.with_suffix("") for path in paths)
        return {stem: path for path in paths if counts[stem := path.with_suffix("")] == 1}

    def _describe_missing(self, image: AnnotatedImage) -> str:
        folder = image.source.parent.parent / "img"
        return f"{image.source}: {self.title}: found no image {Path(image.name).name!r} in {folder}"

    def _name_sample(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        datasets = [part for part in parts[:-1] if part not in ("img", "datasets")]
        return "__".join([*(datasets if len(self._datasets) > 1 else []), parts[-1]])

    def _describe_unlabeled(self, images: Sequence[AnnotatedImage]) -> list[str]:
        """A line for images that no file describes."""
        labeled = {(image.source.parent.parent, Path(image.name).name) for image in images}
        unlabeled = [
            path
            for dataset in self._datasets
            if (dataset / "img").is_dir()
            for path in list_image_files(dataset / "img")
            if not {(dataset, path.name), (dataset, path.stem)} & labeled
        ]
        if not unlabeled:
            return []
        count = plural(len(unlabeled), "image")
        return [f"{count} without a file in ann/ left out, the first is {unlabeled[0]}."]


def _read_classes(path: Path) -> dict[str, Color | None]:
    classes: dict[str, Color | None] = {}
    for entry in require_field(f"{path}: the file", read_json(path), "classes", list):
        name = require_field(f"{path}: class", entry, "title", str)
        if name in classes:
            raise InputError(f"{path}: two classes are called {name!r}", hint="give each class a name of its own")
        classes[name] = parse_hex_color(entry.get("color"))
    return classes


def _read_shapes(where: str, entry: dict[str, Any], kind: str) -> list[Shape]:
    """What draws an object that has an area: the parts of a multipolygon one by one."""
    match kind:
        case "bitmap":
            bitmap = require_field(where, entry, "bitmap", dict)
            origin = parse_whole_numbers(where, require_field(where, bitmap, "origin", list), "its origin")
            if len(origin) != 2 or (np.abs(origin) >= 1_000_000).any():
                raise InputError(f"{where}: its origin is {origin.tolist()}", hint="give left and top")
            left, top = origin.tolist()
            return [EncodedPNG(require_field(where, bitmap, "data", str), (left, top))]
        case "polygon":
            return [_read_polygon(where, require_field(where, entry, "points", dict))]
        case "multipolygon":
            return [_read_polygon(where, part) for part in require_field(where, entry, "parts", list)]
        case "rectangle":
            corners = parse_points(where, require_field(where, entry, "points", dict).get("exterior"), 2, "rectangle")
            (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
            return [make_box(left, top, right - left, bottom - top)]
        case _:
            raise InputError(
                f"{where}: is of an unknown kind; bitmap, polygon, multipolygon and rectangle are read",
                hint="convert it to a bitmap in Supervisely",
            )


def _read_polygon(where: str, points: object) -> Polygons:
    outline = parse_points(where, require_field(where, points, "exterior", list), 3, "polygon")
    holes = points.get("interior") or [] if isinstance(points, dict) else []
    if not isinstance(holes, list):
        raise InputError(f"{where}: its interior is {holes!r:.60}", hint="give a list of holes")
    return Polygons((outline,), tuple(parse_points(where, hole, 3, "hole") for hole in holes))
