"""Files of the annotation tool labelme: NAME.json beside the images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import (
    BACKGROUND,
    classes_from_names,
    prepend_background,
)
from dilated.data.formats._format import (
    Format,
    Parsed,
    SampleArrays,
    make_folders,
    require_field,
    require_writable_names,
    save_image,
)
from dilated.data.formats._match import SPLIT_ALIASES, SPLITS, UNDIVIDED, MatchResult
from dilated.data.images import image_size, is_file, list_image_files
from dilated.data.labels import IGNORE, Classes, LabelArray, make_size_error
from dilated.data.masks import Mask, merge_masks, rasterize_polygon
from dilated.data.polygons import compute_signed_area, trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, read_json, read_lines

_BACKGROUND_LABEL, _IGNORE_LABEL = "_background_", "__ignore__"


class LabelMe(Format):
    """Files of the annotation tool labelme: NAME.json beside the images, in the data folder or in train/, val/, test/.

    Shapes are drawn in the order of the file, later ones over earlier ones, as labelme2voc does: polygons, rectangles
    and circles; a pixel is a shape's if its center is. Other shapes are an error. Class 0 is `background`, pixels of no
    shape and shapes called `_background_`; shapes called `__ignore__` are ignored. The other classes are those of
    labels.txt, one per line as labelme2voc takes them, or where there is none the labels of all files, sorted. Images
    without a file are not labeled and left out. Images inside the files (`imageData`) are not read.
    """

    name = "labelme"
    draws_objects = True
    lacks_colors = "labelme's files have"

    def detect(self) -> bool:
        return bool(self._folders)

    def parse(self) -> Parsed:
        return Parsed(self._folders, self._match_folder, self._read_classes, self._describe)

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """The folder of each split that has files of labelme, otherwise the data folder."""
        folders: dict[str, Path] = {}
        for name, split in SPLIT_ALIASES.items():
            if (self.root / name).is_dir():
                folders.setdefault(split, self.root / name)
        existing = {s: folders[s] for s in SPLITS if s in folders and _is_labelme_folder(folders[s])}
        return existing or ({UNDIVIDED: self.root} if _is_labelme_folder(self.root) else {})

    @cached_property
    def _files(self) -> dict[str, list[_File]]:
        """The files of each split."""
        return {
            split: [_File.read(path) for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
            for split, folder in self._folders.items()
        }

    @cached_property
    def _class_names(self) -> list[str]:
        """The classes, the background first."""
        listing = self.root / "labels.txt"
        if listing.is_file():
            return prepend_background(_class_name(line) for _, line in read_lines(listing) if line != _IGNORE_LABEL)
        labels = {_class_name(label) for files in self._files.values() for file in files for label in file.labels}
        return prepend_background(sorted(labels - {_IGNORE_LABEL}))

    def _read_classes(self) -> Classes:
        listing = self.root / "labels.txt"
        return classes_from_names(self._class_names, str(listing) if listing.is_file() else "labelme")

    def _match_folder(self, split: str) -> MatchResult:
        """The samples in the order of the files' names."""
        ids = tuple(self.classes_file.map_names_to_ids(self._class_names, "the data").items())
        samples = []
        for file in self._files[split]:
            image = file.find_image()
            samples.append(Sample(image, file.path, _ShapeReader(image, ids), stem=file.path.stem))
        return MatchResult(samples)

    def _describe(self) -> list[str]:
        lines = []
        for folder in self._folders.values():
            unlabeled = [p for p in list_image_files(folder) if not p.with_suffix(".json").is_file()]
            if unlabeled:
                lines.append(f"{len(unlabeled)} images without a .json are left out, the first is {unlabeled[0]}.")
        return [*lines, "Pixels of no shape are the class background; later shapes are drawn over earlier ones."]

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """Each 4-connected region is a polygon, larger ones first, so that what lies in a hole is drawn on top."""
        if classes.names[0] != BACKGROUND:
            raise InputError(f"{root}: the first class is {classes.names[0]!r}", hint="give background, then others")
        require_writable_names(classes, root, reserved=(_BACKGROUND_LABEL, _IGNORE_LABEL))
        folder = root / split
        make_folders(folder)
        names = [_BACKGROUND_LABEL, *classes.names[1:]]
        atomic_write(root / "labels.txt", "".join(f"{name}\n" for name in [_IGNORE_LABEL, *names]))
        for stem, image, ids in samples:
            save_image(image, folder / f"{stem}.png")
            data = {
                "version": "5.0.1",  # of the file's form
                "flags": {},
                "shapes": _describe_shapes(ids, names),
                "imagePath": f"{stem}.png",
                "imageData": None,
                "imageHeight": ids.shape[0],
                "imageWidth": ids.shape[1],
            }
            atomic_write(folder / f"{stem}.json", json.dumps(data) + "\n")


@dataclass(frozen=True)
class _File:
    """What is kept of a file of labelme while the data set is read; the shapes are read again with the image."""

    path: Path
    image_path: object
    labels: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> _File:
        data = _read_shapes(path)
        return cls(path, data.get("imagePath"), tuple(dict.fromkeys(shape["label"] for shape in data["shapes"])))

    def find_image(self) -> Path:
        """The image, where `imagePath` says or beside the file."""
        name = self.image_path
        if not isinstance(name, str) or not name:
            raise InputError(f"{self.path}: imagePath: found {name!r}", hint="give the image's path from the file")
        image = self.path.parent / name.replace("\\", "/")  # as Windows has it
        sibling = self.path.parent / image.name
        existing = next((path for path in (image, sibling) if is_file(path)), None)
        if existing is None:
            raise InputError(f"{self.path}: imagePath: found {name!r}, but neither {image} nor {sibling} exists")
        return existing


@dataclass(frozen=True)
class _ShapeReader:
    """Read a file of shapes as a label map."""

    image: Path
    """The image, whose size is compared."""
    ids: tuple[tuple[str, int], ...]
    """The classes' names and ids."""

    def __call__(self, path: Path) -> LabelArray:
        """The label map (H, W)."""
        data = _read_shapes(path)
        size = image_size(self.image)
        _require_size(path, (data.get("imageHeight"), data.get("imageWidth")), size)
        ids = {**dict(self.ids), _IGNORE_LABEL: IGNORE}
        masks = self._rasterize_shapes(path, data["shapes"], ids, size)
        return merge_masks(masks, size, ids[BACKGROUND], smaller_on_top=False)

    def _rasterize_shapes(
        self, path: Path, shapes: list[dict[str, Any]], ids: dict[str, int], size: tuple[int, int]
    ) -> Iterator[tuple[int, Mask]]:
        for number, shape in enumerate(shapes):
            name = _class_name(shape["label"])
            where = f"{path}: shapes[{number}] {shape['label']!r}"
            if name not in ids:
                raise InputError(f"{where}: is no class", hint=f"give one of {', '.join(dict(self.ids))}")
            yield ids[name], _rasterize_shape(shape, size, where)


def _require_size(path: Path, stated_size: tuple[Any, Any], size: tuple[int, int]) -> None:
    """Raise where a file states another (H, W) than its image has."""
    if stated_size in ((None, None), size):
        return
    if not all(isinstance(side, int) for side in stated_size):
        raise InputError(f"{path}: found imageHeight and imageWidth {stated_size}", hint="give whole numbers")
    error = make_size_error(path, stated_size, size)
    if stated_size == size[::-1]:
        raise InputError(f"{error} The image may have been turned since (EXIF).")
    raise error


def _rasterize_shape(shape: dict[str, Any], size: tuple[int, int], where: str) -> Mask:
    """The pixels whose centers a shape contains, (H, W)."""
    kind = shape.get("shape_type") or "polygon"  # old files have none
    required_points = {"polygon": "three points or more", "rectangle": "two points", "circle": "two points"}
    if not isinstance(kind, str) or kind not in required_points:
        raise InputError(
            f"{where}: found a shape of the type {kind!r}; expected {', '.join(required_points)}",
            hint="draw it as one of these",
        )
    points = _parse_points(shape.get("points"))
    if points is None or (len(points) < 3 if kind == "polygon" else len(points) != 2):
        raise InputError(
            f"{where}: found the points {str(shape.get('points'))[:80]} of a {kind}",
            hint=f"give {required_points[kind]}",
        )
    if kind == "polygon":
        return rasterize_polygon(points, size)
    (x0, y0), (x1, y1) = points.tolist()
    if kind == "rectangle":
        return rasterize_polygon(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    mask: Mask = (x - x0) ** 2 + (y - y0) ** 2 <= (x1 - x0) ** 2 + (y1 - y0) ** 2
    return mask


def _describe_shapes(ids: NDArray[np.uint8], names: list[str]) -> list[dict[str, Any]]:
    """The shapes of a label map (H, W), in the order in which they are drawn."""
    height, width = ids.shape
    rings = []
    for outline in trace_polygons(ids):
        left, top, box_width, box_height = outline.bbox
        is_interior = left > 0 and top > 0 and left + box_width < width and top + box_height < height
        if outline.value or is_interior:  # background at the border is in no hole
            rings.append((outline.rings[0], _IGNORE_LABEL if outline.value == IGNORE else names[outline.value]))
    rings.sort(key=lambda entry: compute_signed_area(entry[0]), reverse=True)
    return [
        {"label": name, "points": ring.tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
        for ring, name in rings
    ]


def _is_labelme_folder(folder: Path) -> bool:
    """Whether the first JSON file of a folder begins as labelme's do."""
    first = min(folder.glob("*.json"), default=None)
    if first is None:
        return False
    try:
        with first.open("rb") as file:
            return b'"shapes"' in file.read(4096)
    except OSError:  # a folder, or a link to nothing
        return False


def _class_name(label: str) -> str:
    return BACKGROUND if label == _BACKGROUND_LABEL else label


def _read_shapes(path: Path) -> dict[str, Any]:
    """A file, with the parts that are used checked."""
    data: dict[str, Any] = read_json(path)
    for number, shape in enumerate(require_field(f"{path}: the file", data, "shapes", list)):
        require_field(f"{path}: shapes[{number}]", shape, "label", str)
    return data


def _parse_points(values: object) -> NDArray[np.float64] | None:
    """Points as (n, 2), if they are."""
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return points if points.ndim == 2 and points.shape[1] == 2 and (np.abs(points) < 1e6).all() else None
