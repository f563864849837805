"""YOLO's segmentation labels as Ultralytics and Roboflow have them: data.yaml, images, and polygons as text.

    data.yaml                          names, and where the images of train, val and test are
    images/train/NAME.jpg              or train/images/NAME.jpg
    labels/train/NAME.txt              a line an object: CLASS x1 y1 x2 y2 x3 y3 ..., from 0 to 1 of width and height

Class 0 is the background, pixels of no object; YOLO's class k follows as k + 1 (a class called `background` is the
background). A pixel is an object's if its centre is in the polygon, even-odd. Where objects overlap the smaller is on
top, as in Ultralytics' masks, of equals the later in the file. No file or an empty one: background alone. YOLO has no
way to ignore pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.formats import _classes
from dilated.data.formats._colors import SampleArrays, validate_arrays
from dilated.data.formats.yaml_subset import Value, parse_yaml
from dilated.data.images import IMAGE_SUFFIXES, image_size, is_file, is_folder, list_image_files
from dilated.data.labels import Classes
from dilated.data.masks import merge_masks, rasterize_polygon
from dilated.data.polygons import trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
_SPLITS = ("train", "val", "test")
_CONFIG_FILES = ("data.yaml", "data.yml", "dataset.yaml")


def detect(root: Path) -> bool:
    """Whether there is a data.yaml with names, and labels that are no images."""
    path = _find_config(root)
    if path is None or b"names:" not in path.read_bytes():
        return False
    candidates = [root / name for name in ("labels", "labels/train", "labels/val", "train/labels", "valid/labels")]
    endings = {
        p.suffix.lower() for candidate in candidates if candidate.is_dir() for p in candidate.iterdir() if p.suffix
    }
    return ".txt" in endings or not endings.intersection(IMAGE_SUFFIXES)


def splits(root: Path) -> list[str]:
    table = _read_config(root)
    return [split for split in _SPLITS if _image_entries(table, split)]


def classes(root: Path) -> Classes:
    """The background and the names of data.yaml.

    Raises:
        InputError: no names, or a file that cannot be read.
    """
    return _classes.classes_from_names(_classes.prepend_background(_class_names(root)), str(_find_config(root)))


def notes(root: Path) -> list[str]:
    found = ["Pixels of no object are the class background; where objects overlap the smaller is on top."]
    for split in splits(root):
        try:
            missing = [sample for sample in load(root, split) if not sample.label.is_file()]
        except InputError:
            continue  # said by whoever asks for the pairs
        if missing:
            found.append(
                f"{split}: {len(missing)} images have no file of labels and are background alone, as in Ultralytics; "
                f"the first is {missing[0].image}."
            )
    if not (root / "classes.toml").is_file():
        found.append("YOLO has no colors: others are given, which differ; a classes.toml overrides them.")
    return found


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split, sorted by name; of a list file in its order.

    Raises:
        InputError: a folder that is missing, or one of images of which none has a file of labels, or where one has
            none and there are labels of no image.
    """
    table = _read_config(root)
    names = _class_names(root)
    ids = _classes.map_names_to_ids(root, _classes.prepend_background(names), str(_find_config(root)))
    yolo_ids = tuple(ids[name] for name in names)
    images = [image for entry in _image_entries(table, split) for image in _list_images(root, table, entry)]
    labels = [_label_path(image) for image in images]
    _require_no_orphans(images)
    if images and not any(label.is_file() for label in labels):
        raise InputError(
            f"{labels[0]}: no such file, nor any other of the {len(labels)} of {split}; expected the polygons of "
            f"{images[0]}"
        )
    return [
        Sample(image, label, _PolygonReader(image, yolo_ids, ids[_classes.BACKGROUND]))
        for image, label in zip(images, labels, strict=True)
    ]


@dataclass(frozen=True)
class _PolygonReader:
    """Reads a file of polygons as a label map: `Pair.values`.

    Args:
        image: the image, whose size is taken.
        ids: the id of each of YOLO's classes.
        ground: the id of the background.
    """

    image: Path
    ids: tuple[int, ...]
    background_id: int

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """The label map (H, W).

        Raises:
            InputError: a line that is no polygon: a box, a class that is none, a corner outside.
        """
        height, width = size = image_size(self.image)
        masks = (
            (self.ids[value], rasterize_polygon(corners * (width, height), size))
            for value, corners in self.read_polygons(path)
        )
        return merge_masks(masks, size, self.background_id)

    def read_polygons(self, path: Path) -> list[tuple[int, NDArray[np.float64]]]:
        """The class and the corners (n, 2) of each line."""
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); expected a line of numbers an object") from error
        found = []
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields:
                continue
            location = f"{path}, line {number}"
            if len(fields) == 5:
                raise InputError(
                    f"{location}: found five numbers, a bounding box, which says nothing of pixels; expected a polygon: "
                    "CLASS x1 y1 x2 y2 x3 y3 ... Export the data set for segmentation."
                )
            try:
                numbers = np.array([float(word) for word in fields])
            except ValueError as error:
                raise InputError(f"{location}: found {line[:60]!r} ({error}); expected numbers") from error
            if len(fields) < 7 or len(fields) % 2 == 0:
                raise InputError(
                    f"{location}: found {len(fields)} numbers; expected a class and three corners at least"
                )
            if numbers[0] not in range(len(self.ids)):
                raise InputError(f"{location}: found the class {fields[0]}; expected 0 to {len(self.ids) - 1}")
            if not ((numbers[1:] >= 0) & (numbers[1:] <= 1)).all():
                worst = next(w for w, n in zip(fields[1:], numbers[1:], strict=True) if not 0 <= n <= 1)
                raise InputError(
                    f"{location}: found the corner {worst}; expected 0 to 1, shares of the width and height"
                )
            found.append((int(numbers[0]), numbers[1:].reshape(-1, 2)))
        return found


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write a split that `load_checkpoint` reads back: images/SPLIT/NAME.png, labels/SPLIT/NAME.txt, and data.yaml.

    Each 4-connected region is a polygon along its pixels' edges; holes are joined to it by seams of no width.

    Args:
        classes: the background first.

    Raises:
        InputError: another split, ignored pixels, an id that the classes have not.
    """
    if split not in _SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(_SPLITS)}")
    if len(classes) < 2 or classes.names[0] != _classes.BACKGROUND:
        raise InputError(f"{root}: found the classes {list(classes.names)}; expected background and at least one more")
    images, labels = root / "images" / split, root / "labels" / split
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for stem, image, ids in validate_arrays(samples):
        wrong = ids >= len(classes)
        if wrong.any():
            y, x = (int(v[0]) for v in np.nonzero(wrong))
            raise InputError(
                f"samples: {stem}: found {'ignored pixels' if ids[y, x] == 255 else f'the id {ids[y, x]}'} at x={x}, "
                f"y={y}; expected classes alone, for YOLO cannot express others"
            )
        height, width = ids.shape
        lines = []
        for outline in trace_polygons(ids):
            if outline.value:
                corners = _join_rings(outline.rings) / np.array([width, height], dtype=np.float64)
                lines.append(f"{outline.value - 1} {' '.join(map(repr, corners.ravel().tolist()))}\n")
        Image.fromarray(image).save(images / f"{stem}.png")
        (labels / f"{stem}.txt").write_text("".join(lines), encoding="utf-8")
    there = [s for s in _SPLITS if (root / "images" / s).is_dir()]
    text = [f"{s}: images/{s}\n" for s in there] + ["names:\n"]
    text += [f"  {i}: {_quote_name(root, name)}\n" for i, name in enumerate(classes.names[1:])]
    (root / "data.yaml").write_text("".join(text), encoding="utf-8")


def adapt_classes(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return _classes.move_background_first(classes)


def _join_rings(rings: tuple[NDArray[np.int64], ...]) -> NDArray[np.int64]:
    """Rings as one, that runs from the outer ring's first corner to each hole and back: even-odd the same pixels.

    Example:
        >>> square = np.array([(0, 0), (3, 0), (3, 3), (0, 3)])
        >>> hole = np.array([(1, 2), (2, 2), (2, 1), (1, 1)])
        >>> rasterize_polygon(_join_rings((square, hole)).astype(float), (3, 3)).astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    if len(rings) == 1:
        return rings[0]
    outer, first_corner = rings[0], rings[0][:1]
    return np.concatenate(
        [outer, first_corner, *(np.concatenate([hole, hole[:1], first_corner]) for hole in rings[1:])]
    )


def _quote_name(root: Path, name: str) -> str:
    if not name.isprintable():
        raise InputError(f"{root}: found the class {name!r}; expected a name that fits on a line")
    return json.dumps(name, ensure_ascii=False)


def _find_config(root: Path) -> Path | None:
    return next((root / name for name in _CONFIG_FILES if (root / name).is_file()), None)


def _read_config(root: Path) -> dict[str, Value]:
    path = _find_config(root)
    if path is None:
        raise InputError(
            f"{root / _CONFIG_FILES[0]}: no such file; expected the names and folders of a data set for YOLO"
        )
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text ({error}); expected YAML") from error


def _class_names(root: Path) -> list[str]:
    """The names in the order of their numbers."""
    names = _read_config(root).get("names")
    path = _find_config(root)
    if not isinstance(names, list | dict) or not names:
        raise InputError(f"{path}: names: found {names!r}; expected a list of the classes, or a map from 0 on")
    if isinstance(names, dict):
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise InputError(f"{path}: names: found the keys {list(names)[:20]}; expected 0 to {len(names) - 1}")
        names = [names[str(i)] for i in range(len(names))]
    duplicates = [name for i, name in enumerate(names) if name in names[:i]]
    if duplicates:
        raise InputError(f"{path}: names: found {duplicates[0]!r} twice; expected names that differ")
    return names


def _image_entries(table: dict[str, Value], split: str) -> list[str]:
    entry = table.get("validation" if split == "val" and "val" not in table else split, "")
    return entry if isinstance(entry, list) else [entry] if isinstance(entry, str) and entry not in ("", "null") else []


def _list_images(root: Path, table: dict[str, Value], entry: str) -> list[Path]:
    """The images of a folder, or of a list file.

    Raises:
        InputError: neither is there.
    """
    base = table.get("path", "")
    if base and isinstance(base, str):
        candidates = [root / base / entry, root / entry]  # a data set that was moved has another path
    else:
        candidates = [root / entry.removeprefix("../"), root / entry]  # Roboflow has ../train/images for train/images
    candidate = next((candidate for candidate in candidates if is_file(candidate) or is_folder(candidate)), None)
    if candidate is None:
        raise InputError(
            f"{_find_config(root)}: found {entry!r}, and none of {', '.join(map(str, candidates))}; expected images"
        )
    if candidate.is_dir():
        return list_image_files(candidate)
    images = []
    for number, line in enumerate(candidate.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name = line.strip()
        if name:
            image = candidate.parent / name
            if not is_file(image) or image.suffix.lower() not in IMAGE_SUFFIXES:
                raise InputError(f"{candidate}, line {number}: found {name!r}, and no such image")
            images.append(image)
    return images


def _require_no_orphans(images: list[Path]) -> None:
    """Raise where an image would be background alone because its labels have another name.

    Raises:
        InputError: a label without an image in a folder in which another is missing.
    """
    unlabeled = [image for image in images if not _label_path(image).is_file()]
    for image in {image.parent: image for image in reversed(unlabeled)}.values():
        first = _label_path(image)
        expected = {_label_path(p).name for p in list_image_files(image.parent)} | {
            "classes.txt"
        }  # which labelImg writes
        there = sorted(first.parent.iterdir()) if first.parent.is_dir() else []
        orphans = [p for p in there if p.suffix.lower() == ".txt" and p.name not in expected]
        if orphans:
            raise InputError(
                f"{orphans[0]}: has no image, and {first} is missing ({len(orphans)} such labels); expected "
                "the stem of their image and the ending .txt. Rename them, or remove those that are of no image."
            )


def _label_path(image: Path) -> Path:
    """Where Ultralytics looks for an image's labels: the last images/ in its path is labels/."""
    parts = list(image.parts)
    candidates = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if candidates:
        parts[candidates[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")
