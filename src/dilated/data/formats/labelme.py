"""Files of the annotation tool labelme: NAME.json beside the pictures, in the data folder or in train/, val/, test/.

Shapes are drawn in the order of the file, later ones over earlier ones, as labelme2voc does: polygons, rectangles and
circles; a pixel is a shape's if its centre is. Other shapes are an error. Class 0 is `background`, pixels of no shape
and shapes called `_background_`; shapes called `__ignore__` are ignored. The other classes are those of labels.txt,
one a line as labelme2voc takes them, or where there is none the labels of all files, sorted. Pictures without a file
are not labelled and left out. Pictures inside the files (`imageData`) are not read.
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

from dilated.data.formats import named, parting
from dilated.data.formats.coding import Sample, checked
from dilated.data.formats.pairs import Pair
from dilated.data.images import image_size, is_file, pictures_in
from dilated.data.labels import IGNORE, Classes, wrong_size
from dilated.data.masks import Mask, fill
from dilated.data.polygons import outlines, signed_area
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
GROUND, IGNORED = "_background_", "__ignore__"


def detect(root: Path) -> bool:
    return any(_looks(folder) for folder in (root, *_folders(root).values()))


def splits(root: Path) -> list[str]:
    there = [split for split, folder in _folders(root).items() if _looks(folder)]
    return there or (parting.splits(root) if _looks(root) else [])


def unsplit(root: Path) -> bool:
    return _looks(root) and not any(_looks(folder) for folder in _folders(root).values())


def classes(root: Path) -> Classes:
    """The background, and the names of labels.txt or of all files.

    Raises:
        InputError: a damaged file, or a label that labels.txt has not.
    """
    return named.coloured(_names(root), str(root / "labels.txt") if (root / "labels.txt").is_file() else "labelme")


def notes(root: Path) -> list[str]:
    found = parting.note(root) if unsplit(root) else []
    for folder in [root] if unsplit(root) else _folders(root).values():
        if _looks(folder):
            bare = [p for p in pictures_in(folder) if not p.with_suffix(".json").is_file()]
            if bare:
                found.append(f"{len(bare)} pictures without a .json are left out, the first is {bare[0]}.")
    found.append("Pixels of no shape are the class background; later shapes are drawn over earlier ones.")
    if not (root / "classes.toml").is_file():
        found.append("labelme's files have no colours: others are given, which differ; a classes.toml overrides them.")
    return found


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split, in the order of the files' names.

    Raises:
        InputError: a split that is not there, a damaged file, a missing picture, a label that is no class.
    """
    names = _names(root)
    ids = named.ids(root, names, "the data")
    if unsplit(root):
        return parting.part(root, _pairs(root, ids), split)
    folder = _folders(root).get(split)
    if folder is None or not _looks(folder):
        raise InputError(f"{root}: found no folder {split}/ with labelme's files")
    return _pairs(folder, ids)


@dataclass(frozen=True)
class Shapes:
    """Reads a file of shapes as a label map: `Pair.values`.

    Args:
        image: the picture, whose size is compared.
        ids: the classes' names and ids.
    """

    image: Path
    ids: tuple[tuple[str, int], ...]

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The label map (H, W).

        Raises:
            InputError: a file that is damaged or of a picture of another size, a shape that is not known.
        """
        data = _read(path)
        size = image_size(self.image)
        stated = data.get("imageHeight"), data.get("imageWidth")
        if stated != (None, None) and stated != size:
            if not all(isinstance(side, int) for side in stated):
                raise InputError(f"{path}: found imageHeight and imageWidth {stated}; expected whole numbers")
            error = wrong_size(path, (int(stated[0] or 0), int(stated[1] or 0)), size)
            turned = " The picture may have been turned since (EXIF)." if stated == size[::-1] else ""
            raise InputError(f"{error}{turned}")
        ids = dict(self.ids)
        label = np.full(size, ids[named.BACKGROUND], dtype=np.int64)
        for number, shape in enumerate(data["shapes"]):
            name = _class(shape["label"])
            where = f"{path}: shapes[{number}] {shape['label']!r}"
            if name != IGNORED and name not in ids:
                raise InputError(f"{where}: is no class; expected one of {', '.join(ids)}")
            label[mask_of(shape, size, where)] = IGNORE if name == IGNORED else ids[name]
        return label


def mask_of(shape: dict[str, Any], size: tuple[int, int], where: str) -> Mask:
    """The pixels of a shape whose centres it holds.

    Args:
        shape: with shape_type and points.
        size: (H, W) of the mask.

    Raises:
        InputError: a shape of another type, or without the points that it needs.

    Example:
        >>> mask_of({"shape_type": "rectangle", "points": [[2, 1], [0, 0]]}, (2, 3), "here").astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    kind = shape.get("shape_type") or "polygon"  # old files have none
    needs = {"polygon": "three points or more", "rectangle": "two points", "circle": "two points"}
    if not isinstance(kind, str) or kind not in needs:
        raise InputError(f"{where}: found a shape of the type {kind!r}; expected {', '.join(needs)}. Draw it as one.")
    points = _points(shape.get("points"))
    if points is None or (len(points) < 3 if kind == "polygon" else len(points) != 2):
        raise InputError(
            f"{where}: found the points {str(shape.get('points'))[:80]} of a {kind}; expected {needs[kind]}"
        )
    if kind == "polygon":
        return fill(points, size)
    (x0, y0), (x1, y1) = points.tolist()
    if kind == "rectangle":
        return fill(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    mask: Mask = (x - x0) ** 2 + (y - y0) ** 2 <= (x1 - x0) ** 2 + (y1 - y0) ** 2
    return mask


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write SPLIT/NAME.png with SPLIT/NAME.json beside it, and labels.txt.

    Each 4-connected region is a polygon, larger ones first, so that what lies in a hole is drawn over what is around.

    Args:
        classes: the background first.

    Raises:
        InputError: another split, no background, a name that means something else, an id that the classes have not.
    """
    if split not in FOLDERS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(FOLDERS)}")
    odd = [n for n in classes.names if n in (GROUND, IGNORED) or n != n.strip() or not n.isprintable()]
    if classes.names[0] != named.BACKGROUND or odd:
        raise InputError(f"{root}: found the class {[*odd, classes.names[0]][0]!r}; expected background, then others")
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    names = [GROUND, *classes.names[1:]]
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in [IGNORED, *names]), encoding="utf-8")
    for stem, image, ids in checked(samples):
        classes.decode(ids, stem)
        height, width = ids.shape
        rings = []
        for outline in outlines(ids):
            left, top, across, down = outline.box
            inside = left > 0 and top > 0 and left + across < width and top + down < height
            if outline.value or inside:  # background at the border is in no hole
                rings.append((outline.rings[0], IGNORED if outline.value == IGNORE else names[outline.value]))
        rings.sort(key=lambda entry: signed_area(entry[0]), reverse=True)
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


def arranged(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return named.background_first(classes)


def _folders(root: Path) -> dict[str, Path]:
    """The folder of each split that is there."""
    places = {split: [root / n for n in names if (root / n).is_dir()] for split, names in FOLDERS.items()}
    return {split: there[0] for split, there in places.items() if there}


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.json") if not p.name.startswith("."))


def _looks(folder: Path) -> bool:
    """Whether the first JSON file of a folder begins as labelme's do."""
    first = min(folder.glob("*.json"), default=None)
    if first is None:
        return False
    try:
        with first.open("rb") as file:
            return b'"shapes"' in file.read(4096)
    except OSError:  # a folder, or a link to nothing
        return False


def _names(root: Path) -> list[str]:
    """The classes, the background first."""
    listing = root / "labels.txt"
    if listing.is_file():
        try:
            lines = [line.strip() for line in listing.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(f"{listing}: is no UTF-8 text ({error}); expected a class a line") from error
        return named.with_background(_class(line) for line in lines if line and line != IGNORED)
    folders = [root] if unsplit(root) else list(_folders(root).values())
    used = {_class(shape["label"]) for folder in folders for p in _files(folder) for shape in _read(p)["shapes"]}
    return named.with_background(sorted(used - {IGNORED}))


def _class(label: str) -> str:
    return named.BACKGROUND if label == GROUND else label


def _pairs(folder: Path, ids: dict[str, int]) -> list[Pair]:
    pairs = []
    for path in _files(folder):
        name = _read(path).get("imagePath")
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: imagePath: found {name!r}; expected the picture's place from the file")
        image = path.parent / name.replace("\\", "/")  # as Windows has it
        if not is_file(image):
            beside = path.parent / image.name
            if not is_file(beside):
                raise InputError(f"{path}: imagePath: found {name!r}, and neither {image} nor {beside} is there")
            image = beside
        pairs.append(Pair(image, path, Shapes(image, tuple(ids.items())), stem=path.stem))
    return pairs


def _read(path: Path) -> dict[str, Any]:
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


def _points(values: object) -> NDArray[np.float64] | None:
    """Points as (n, 2), if they are."""
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return points if points.ndim == 2 and points.shape[1] == 2 and (np.abs(points) < 1e6).all() else None
