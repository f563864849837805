"""YOLO's segmentation labels as Ultralytics and Roboflow have them: data.yaml, pictures, and polygons as text.

    data.yaml                          names, and where the pictures of train, val and test are
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

from dilated.data.formats import named
from dilated.data.formats.coding import Sample, checked
from dilated.data.formats.pairs import Pair
from dilated.data.formats.yaml_subset import Value, parse
from dilated.data.images import SUFFIXES, image_size, is_file, is_folder, pictures_in
from dilated.data.labels import Classes
from dilated.data.masks import fill, layered
from dilated.data.polygons import outlines
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
SPLITS = ("train", "val", "test")
FILES = ("data.yaml", "data.yml", "dataset.yaml")


def detect(root: Path) -> bool:
    """Whether there is a data.yaml with names, and labels that are no pictures."""
    path = _file(root)
    if path is None or b"names:" not in path.read_bytes():
        return False
    places = [root / name for name in ("labels", "labels/train", "labels/val", "train/labels", "valid/labels")]
    endings = {p.suffix.lower() for place in places if place.is_dir() for p in place.iterdir() if p.suffix}
    return ".txt" in endings or not endings.intersection(SUFFIXES)


def splits(root: Path) -> list[str]:
    table = _table(root)
    return [split for split in SPLITS if _entries(table, split)]


def classes(root: Path) -> Classes:
    """The background and the names of data.yaml.

    Raises:
        InputError: no names, or a file that cannot be read.
    """
    return named.coloured(named.with_background(_names(root)), str(_file(root)))


def notes(root: Path) -> list[str]:
    found = ["Pixels of no object are the class background; where objects overlap the smaller is on top."]
    for split in splits(root):
        try:
            missing = [pair for pair in load(root, split) if not pair.label.is_file()]
        except InputError:
            continue  # said by whoever asks for the pairs
        if missing:
            found.append(
                f"{split}: {len(missing)} pictures have no file of labels and are background alone, as in Ultralytics; "
                f"the first is {missing[0].image}."
            )
    if not (root / "classes.toml").is_file():
        found.append("YOLO has no colours: others are given, which differ; a classes.toml overrides them.")
    return found


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split, sorted by name; of a list file in its order.

    Raises:
        InputError: a folder that is missing, or one of pictures of which none has a file of labels, or where one has
            none and there are labels of no picture.
    """
    table = _table(root)
    names = _names(root)
    ids = named.ids(root, named.with_background(names), str(_file(root)))
    own = tuple(ids[name] for name in names)
    images = [image for entry in _entries(table, split) for image in _pictures(root, table, entry)]
    labels = [_label(image) for image in images]
    _orphans(images)
    if images and not any(label.is_file() for label in labels):
        raise InputError(
            f"{labels[0]}: no such file, nor any other of the {len(labels)} of {split}; expected the polygons of "
            f"{images[0]}"
        )
    return [
        Pair(image, label, Polygons(image, own, ids[named.BACKGROUND]))
        for image, label in zip(images, labels, strict=True)
    ]


@dataclass(frozen=True)
class Polygons:
    """Reads a file of polygons as a label map: `Pair.values`.

    Args:
        image: the picture, whose size is taken.
        ids: the id of each of YOLO's classes.
        ground: the id of the background.
    """

    image: Path
    ids: tuple[int, ...]
    ground: int

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """The label map (H, W).

        Raises:
            InputError: a line that is no polygon: a box, a class that is none, a corner outside.
        """
        height, width = size = image_size(self.image)
        masks = ((self.ids[value], fill(corners * (width, height), size)) for value, corners in self.objects(path))
        return layered(masks, size, self.ground)

    def objects(self, path: Path) -> list[tuple[int, NDArray[np.float64]]]:
        """The class and the corners (n, 2) of each line."""
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); expected a line of numbers an object") from error
        found = []
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words:
                continue
            here = f"{path}, line {number}"
            if len(words) == 5:
                raise InputError(
                    f"{here}: found five numbers, a bounding box, which says nothing of pixels; expected a polygon: "
                    "CLASS x1 y1 x2 y2 x3 y3 ... Export the data set for segmentation."
                )
            try:
                numbers = np.array([float(word) for word in words])
            except ValueError as error:
                raise InputError(f"{here}: found {line[:60]!r} ({error}); expected numbers") from error
            if len(words) < 7 or len(words) % 2 == 0:
                raise InputError(f"{here}: found {len(words)} numbers; expected a class and three corners at least")
            if numbers[0] not in range(len(self.ids)):
                raise InputError(f"{here}: found the class {words[0]}; expected 0 to {len(self.ids) - 1}")
            if not ((numbers[1:] >= 0) & (numbers[1:] <= 1)).all():
                worst = next(w for w, n in zip(words[1:], numbers[1:], strict=True) if not 0 <= n <= 1)
                raise InputError(f"{here}: found the corner {worst}; expected 0 to 1, shares of the width and height")
            found.append((int(numbers[0]), numbers[1:].reshape(-1, 2)))
        return found


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write a split that `load` reads back: images/SPLIT/NAME.png, labels/SPLIT/NAME.txt, and data.yaml.

    Each 4-connected region is a polygon along its pixels' edges; holes are joined to it by seams of no width.

    Args:
        classes: the background first.

    Raises:
        InputError: another split, ignored pixels, an id that the classes have not.
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    if len(classes) < 2 or classes.names[0] != named.BACKGROUND:
        raise InputError(f"{root}: found the classes {list(classes.names)}; expected background and at least one more")
    images, labels = root / "images" / split, root / "labels" / split
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for stem, image, ids in checked(samples):
        wrong = ids >= len(classes)
        if wrong.any():
            y, x = (int(v[0]) for v in np.nonzero(wrong))
            raise InputError(
                f"samples: {stem}: found {'ignored pixels' if ids[y, x] == 255 else f'the id {ids[y, x]}'} at x={x}, "
                f"y={y}; expected classes alone, for YOLO cannot express others"
            )
        height, width = ids.shape
        lines = []
        for outline in outlines(ids):
            if outline.value:
                corners = joined(outline.rings) / np.array([width, height], dtype=np.float64)
                lines.append(f"{outline.value - 1} {' '.join(map(repr, corners.ravel().tolist()))}\n")
        Image.fromarray(image).save(images / f"{stem}.png")
        (labels / f"{stem}.txt").write_text("".join(lines), encoding="utf-8")
    there = [s for s in SPLITS if (root / "images" / s).is_dir()]
    text = [f"{s}: images/{s}\n" for s in there] + ["names:\n"]
    text += [f"  {i}: {_quoted(root, name)}\n" for i, name in enumerate(classes.names[1:])]
    (root / "data.yaml").write_text("".join(text), encoding="utf-8")


def arranged(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return named.background_first(classes)


def joined(rings: tuple[NDArray[np.int64], ...]) -> NDArray[np.int64]:
    """Rings as one, that runs from the outer ring's first corner to each hole and back: even-odd the same pixels.

    Example:
        >>> square = np.array([(0, 0), (3, 0), (3, 3), (0, 3)])
        >>> hole = np.array([(1, 2), (2, 2), (2, 1), (1, 1)])
        >>> fill(joined((square, hole)).astype(float), (3, 3)).astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    if len(rings) == 1:
        return rings[0]
    outer, start = rings[0], rings[0][:1]
    return np.concatenate([outer, start, *(np.concatenate([hole, hole[:1], start]) for hole in rings[1:])])


def _quoted(root: Path, name: str) -> str:
    if not name.isprintable():
        raise InputError(f"{root}: found the class {name!r}; expected a name that fits on a line")
    return json.dumps(name, ensure_ascii=False)


def _file(root: Path) -> Path | None:
    return next((root / name for name in FILES if (root / name).is_file()), None)


def _table(root: Path) -> dict[str, Value]:
    path = _file(root)
    if path is None:
        raise InputError(f"{root / FILES[0]}: no such file; expected the names and folders of a data set for YOLO")
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text ({error}); expected YAML") from error


def _names(root: Path) -> list[str]:
    """The names in the order of their numbers."""
    names = _table(root).get("names")
    path = _file(root)
    if not isinstance(names, list | dict) or not names:
        raise InputError(f"{path}: names: found {names!r}; expected a list of the classes, or a map from 0 on")
    if isinstance(names, dict):
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise InputError(f"{path}: names: found the keys {list(names)[:20]}; expected 0 to {len(names) - 1}")
        names = [names[str(i)] for i in range(len(names))]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise InputError(f"{path}: names: found {twice[0]!r} twice; expected names that differ")
    return names


def _entries(table: dict[str, Value], split: str) -> list[str]:
    entry = table.get("validation" if split == "val" and "val" not in table else split, "")
    return entry if isinstance(entry, list) else [entry] if isinstance(entry, str) and entry not in ("", "null") else []


def _pictures(root: Path, table: dict[str, Value], entry: str) -> list[Path]:
    """The pictures of a folder, or of a list file.

    Raises:
        InputError: neither is there.
    """
    base = table.get("path", "")
    if base and isinstance(base, str):
        places = [root / base / entry, root / entry]  # a data set that was moved has another path
    else:
        places = [root / entry.removeprefix("../"), root / entry]  # Roboflow has ../train/images for train/images
    place = next((place for place in places if is_file(place) or is_folder(place)), None)
    if place is None:
        raise InputError(
            f"{_file(root)}: found {entry!r}, and none of {', '.join(map(str, places))}; expected pictures"
        )
    if place.is_dir():
        return pictures_in(place)
    images = []
    for number, line in enumerate(place.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name = line.strip()
        if name:
            image = place.parent / name
            if not is_file(image) or image.suffix.lower() not in SUFFIXES:
                raise InputError(f"{place}, line {number}: found {name!r}, and no such picture")
            images.append(image)
    return images


def _orphans(images: list[Path]) -> None:
    """Raise where a picture would be background alone because its labels have another name.

    Raises:
        InputError: a label without a picture in a folder in which another is missing.
    """
    bare = [image for image in images if not _label(image).is_file()]
    for image in {image.parent: image for image in reversed(bare)}.values():
        first = _label(image)
        expected = {_label(p).name for p in pictures_in(image.parent)} | {"classes.txt"}  # which labelImg writes
        there = sorted(first.parent.iterdir()) if first.parent.is_dir() else []
        orphans = [p for p in there if p.suffix.lower() == ".txt" and p.name not in expected]
        if orphans:
            raise InputError(
                f"{orphans[0]}: has no picture, and {first} is missing ({len(orphans)} such labels); expected "
                "the stem of their picture and the ending .txt. Rename them, or remove those that are of no picture."
            )


def _label(image: Path) -> Path:
    """Where Ultralytics looks for a picture's labels: the last images/ in its path is labels/."""
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")
