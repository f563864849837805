"""Files of the annotation tool labelme: NAME.json beside the images, in the data folder or in train/, val/, test/.

Shapes are drawn in the order of the file, later ones over earlier ones, as labelme2voc does: polygons, rectangles and
circles; a pixel is a shape's if its centre is. Other shapes are an error. Class 0 is `background`, pixels of no shape
and shapes called `_background_`; shapes called `__ignore__` are ignored. The other classes are those of labels.txt,
one a line as labelme2voc takes them, or where there is none the labels of all files, sorted. Images without a file
are not labelled and left out. Images inside the files (`imageData`) are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data import auto_split
from dilated.data.formats import _classes
from dilated.data.formats._colors import SampleArrays, validate_arrays
from dilated.data.images import image_size, is_file, list_image_files
from dilated.data.labels import IGNORE, Classes, make_size_error
from dilated.data.masks import Mask, rasterize_polygon
from dilated.data.polygons import compute_signed_area, trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_BACKGROUND_LABEL, _IGNORE_LABEL = "_background_", "__ignore__"


def detect(root: Path) -> bool:
    return any(_is_labelme_folder(folder) for folder in (root, *_find_split_folders(root).values()))


def splits(root: Path) -> list[str]:
    existing = [split for split, folder in _find_split_folders(root).items() if _is_labelme_folder(folder)]
    return existing or (auto_split.list_splits(root) if _is_labelme_folder(root) else [])


def has_no_splits(root: Path) -> bool:
    return _is_labelme_folder(root) and not any(
        _is_labelme_folder(folder) for folder in _find_split_folders(root).values()
    )


def classes(root: Path) -> Classes:
    """The background, and the names of labels.txt or of all files.

    Raises:
        InputError: a damaged file, or a label that labels.txt has not.
    """
    return _classes.classes_from_names(
        _class_names(root), str(root / "labels.txt") if (root / "labels.txt").is_file() else "labelme"
    )


def notes(root: Path) -> list[str]:
    lines = auto_split.describe_hash_split(root) if has_no_splits(root) else []
    for folder in [root] if has_no_splits(root) else _find_split_folders(root).values():
        if _is_labelme_folder(folder):
            unlabeled = [p for p in list_image_files(folder) if not p.with_suffix(".json").is_file()]
            if unlabeled:
                lines.append(f"{len(unlabeled)} images without a .json are left out, the first is {unlabeled[0]}.")
    lines.append("Pixels of no shape are the class background; later shapes are drawn over earlier ones.")
    if not (root / "classes.toml").is_file():
        lines.append("labelme's files have no colors: others are given, which differ; a classes.toml overrides them.")
    return lines


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split, in the order of the files' names.

    Raises:
        InputError: a split that is not there, a damaged file, a missing image, a label that is no class.
    """
    names = _class_names(root)
    ids = _classes.map_names_to_ids(root, names, "the data")
    if has_no_splits(root):
        return auto_split.select_split(root, _load_samples(root, ids), split)
    folder = _find_split_folders(root).get(split)
    if folder is None or not _is_labelme_folder(folder):
        raise InputError(f"{root}: found no folder {split}/ with labelme's files")
    return _load_samples(folder, ids)


@dataclass(frozen=True)
class _ShapeReader:
    """Reads a file of shapes as a label map: `Pair.values`.

    Args:
        image: the image, whose size is compared.
        ids: the classes' names and ids.
    """

    image: Path
    ids: tuple[tuple[str, int], ...]

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The label map (H, W).

        Raises:
            InputError: a file that is damaged or of an image of another size, a shape that is not known.
        """
        data = _read_file(path)
        size = image_size(self.image)
        stated_size = data.get("imageHeight"), data.get("imageWidth")
        if stated_size != (None, None) and stated_size != size:
            if not all(isinstance(side, int) for side in stated_size):
                raise InputError(f"{path}: found imageHeight and imageWidth {stated_size}; expected whole numbers")
            error = make_size_error(path, (int(stated_size[0] or 0), int(stated_size[1] or 0)), size)
            rotation_hint = " The image may have been turned since (EXIF)." if stated_size == size[::-1] else ""
            raise InputError(f"{error}{rotation_hint}")
        ids = dict(self.ids)
        label = np.full(size, ids[_classes.BACKGROUND], dtype=np.int64)
        for number, shape in enumerate(data["shapes"]):
            name = _class_name(shape["label"])
            where = f"{path}: shapes[{number}] {shape['label']!r}"
            if name != _IGNORE_LABEL and name not in ids:
                raise InputError(f"{where}: is no class; expected one of {', '.join(ids)}")
            label[_rasterize_shape(shape, size, where)] = IGNORE if name == _IGNORE_LABEL else ids[name]
        return label


def _rasterize_shape(shape: dict[str, Any], size: tuple[int, int], where: str) -> Mask:
    """The pixels of a shape whose centres it holds.

    Args:
        shape: with shape_type and points.
        size: (H, W) of the mask.

    Raises:
        InputError: a shape of another type, or without the points that it needs.

    Example:
        >>> _rasterize_shape({"shape_type": "rectangle", "points": [[2, 1], [0, 0]]}, (2, 3), "here").astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    kind = shape.get("shape_type") or "polygon"  # old files have none
    required_points = {"polygon": "three points or more", "rectangle": "two points", "circle": "two points"}
    if not isinstance(kind, str) or kind not in required_points:
        raise InputError(
            f"{where}: found a shape of the type {kind!r}; expected {', '.join(required_points)}. Draw it as one."
        )
    points = _parse_points(shape.get("points"))
    if points is None or (len(points) < 3 if kind == "polygon" else len(points) != 2):
        raise InputError(
            f"{where}: found the points {str(shape.get('points'))[:80]} of a {kind}; expected {required_points[kind]}"
        )
    if kind == "polygon":
        return rasterize_polygon(points, size)
    (x0, y0), (x1, y1) = points.tolist()
    if kind == "rectangle":
        return rasterize_polygon(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    mask: Mask = (x - x0) ** 2 + (y - y0) ** 2 <= (x1 - x0) ** 2 + (y1 - y0) ** 2
    return mask


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write SPLIT/NAME.png with SPLIT/NAME.json beside it, and labels.txt.

    Each 4-connected region is a polygon, larger ones first, so that what lies in a hole is drawn over what is around.

    Args:
        classes: the background first.

    Raises:
        InputError: another split, no background, a name that means something else, an id that the classes have not.
    """
    if split not in _SPLIT_FOLDERS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(_SPLIT_FOLDERS)}")
    invalid_names = [
        n for n in classes.names if n in (_BACKGROUND_LABEL, _IGNORE_LABEL) or n != n.strip() or not n.isprintable()
    ]
    if classes.names[0] != _classes.BACKGROUND or invalid_names:
        raise InputError(
            f"{root}: found the class {[*invalid_names, classes.names[0]][0]!r}; expected background, then others"
        )
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    names = [_BACKGROUND_LABEL, *classes.names[1:]]
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in [_IGNORE_LABEL, *names]), encoding="utf-8")
    for stem, image, ids in validate_arrays(samples):
        classes.decode(ids, stem)
        height, width = ids.shape
        rings = []
        for outline in trace_polygons(ids):
            left, top, box_width, box_height = outline.bbox
            is_interior = left > 0 and top > 0 and left + box_width < width and top + box_height < height
            if outline.value or is_interior:  # background at the border is in no hole
                rings.append((outline.rings[0], _IGNORE_LABEL if outline.value == IGNORE else names[outline.value]))
        rings.sort(key=lambda entry: compute_signed_area(entry[0]), reverse=True)
        data = {
            "version": "5.0.1",  # of the file's form
            "flags": {},
            "shapes": [
                {"label": name, "points": ring.tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
                for ring, name in rings
            ],
            "imagePath": f"{stem}.png",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        Image.fromarray(image).save(folder / f"{stem}.png")
        (folder / f"{stem}.json").write_text(json.dumps(data) + "\n", encoding="utf-8")


def adapt_classes(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return _classes.move_background_first(classes)


def _find_split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split that is there."""
    candidates = {split: [root / n for n in names if (root / n).is_dir()] for split, names in _SPLIT_FOLDERS.items()}
    return {split: existing[0] for split, existing in candidates.items() if existing}


def _list_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.json") if not p.name.startswith("."))


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


def _class_names(root: Path) -> list[str]:
    """The classes, the background first."""
    listing = root / "labels.txt"
    if listing.is_file():
        try:
            lines = [line.strip() for line in listing.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(f"{listing}: is no UTF-8 text ({error}); expected a class a line") from error
        return _classes.prepend_background(_class_name(line) for line in lines if line and line != _IGNORE_LABEL)
    folders = [root] if has_no_splits(root) else list(_find_split_folders(root).values())
    labels = {
        _class_name(shape["label"])
        for folder in folders
        for p in _list_files(folder)
        for shape in _read_file(p)["shapes"]
    }
    return _classes.prepend_background(sorted(labels - {_IGNORE_LABEL}))


def _class_name(label: str) -> str:
    return _classes.BACKGROUND if label == _BACKGROUND_LABEL else label


def _load_samples(folder: Path, ids: dict[str, int]) -> list[Sample]:
    samples = []
    for path in _list_files(folder):
        name = _read_file(path).get("imagePath")
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: imagePath: found {name!r}; expected the image's place from the file")
        image = path.parent / name.replace("\\", "/")  # as Windows has it
        if not is_file(image):
            sibling = path.parent / image.name
            if not is_file(sibling):
                raise InputError(f"{path}: imagePath: found {name!r}, and neither {image} nor {sibling} is there")
            image = sibling
        samples.append(Sample(image, path, _ShapeReader(image, tuple(ids.items())), stem=path.stem))
    return samples


def _read_file(path: Path) -> dict[str, Any]:
    """A file, with the parts that are used looked at."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no whole JSON file ({error}); expected one of labelme") from error
    shapes = data.get("shapes") if isinstance(data, dict) else None
    if not isinstance(shapes, list):
        raise InputError(f"{path}: found no list of shapes; expected a file of labelme")
    for number, shape in enumerate(shapes):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise InputError(f"{path}: shapes[{number}]: found {str(shape)[:80]}; expected a label and points")
    return data


def _parse_points(values: object) -> NDArray[np.float64] | None:
    """Points as (n, 2), if they are."""
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return points if points.ndim == 2 and points.shape[1] == 2 and (np.abs(points) < 1e6).all() else None
