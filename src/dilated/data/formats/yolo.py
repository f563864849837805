"""YOLO's segmentation labels as Ultralytics and Roboflow have them: data.yaml, images, and polygons as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import (
    BACKGROUND,
    OBJECTS_NOTE,
    classes_from_names,
    prepend_background,
    require_background_first,
)
from dilated.data.formats._format import Format, Parsed, make_folders, save_image
from dilated.data.formats._listed import locate_listed
from dilated.data.formats._match import SPLITS, UNDIVIDED, MatchResult
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.formats._yolo_config import CONFIG_FILES, find_config, parse_class_names, read_config
from dilated.data.images import IMAGE_SUFFIXES, image_size, is_file, is_folder, list_image_files
from dilated.data.labels import Classes
from dilated.data.masks import merge_masks, rasterize_polygon
from dilated.data.polygons import trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, plural, read_lines
from dilated.label_ids import LabelArray

_NAME_LIST = "classes.txt"
_MARGIN = 0.05  # of the image's side, by which rounding tools put corners outside of it
_COUNTED_FILES = 2000
_OUTSIDE = re.compile(rb"\s-\S|\s1\.0*[1-9]")


class YOLO(Format):
    """YOLO's segmentation labels as Ultralytics and Roboflow have them: data.yaml, images, and polygons as text.

        data.yaml                          names, and where the images of train, val and test are
        images/train/NAME.jpg              or train/images/NAME.jpg
        labels/train/NAME.txt              a line per object: CLASS x1 y1 x2 y2 x3 y3 ..., fractions of the image
        classes.txt  images/  labels/      Label Studio's form, without splits

    Class 0 is the background, pixels of no object; YOLO's class k follows as k + 1 (a class called `background` is the
    background). A pixel is an object's if its center is in the polygon, even-odd. Where objects overlap the smaller is
    on top, as in Ultralytics' masks, of equals the later in the file. No file or an empty one means background alone.
    Corners up to 5% outside the image are cut off at its border, and equal lines are one object; a note counts both.
    YOLO has no way to ignore pixels.
    """

    name = "yolo"
    keeps_image_files = True
    ignores_pixels = False
    draws_objects = True
    lacks_colors = "YOLO has"

    def detect(self) -> bool:
        """Whether there is a data.yaml with names, and labels that are not images."""
        try:
            if "names" not in self._config:
                return False
        except InputError:
            return self._config_path is not None and b"names:" in self._config_path.read_bytes()
        parents = (
            self.root / name for name in ("labels", "labels/train", "labels/val", "train/labels", "valid/labels")
        )
        suffixes = {p.suffix.lower() for parent in parents if parent.is_dir() for p in parent.iterdir() if p.suffix}
        if ".txt" in suffixes:
            return True
        return "masks_dir" not in self._config and not suffixes.intersection(IMAGE_SUFFIXES)

    def parse(self) -> Parsed:
        splits = [split for split in (*SPLITS, UNDIVIDED) if self._image_entries(split)]
        return Parsed(splits, self._match_images, self._read_classes, self._describe)

    def _read_classes(self) -> Classes:
        """The background and the names of data.yaml."""
        return classes_from_names(prepend_background(self._class_names), str(self._config_path))

    def _describe(self) -> list[str]:
        lines = [OBJECTS_NOTE]
        for split in self.splits:
            try:
                missing = [sample for sample in self.match_split(split).samples if not sample.label.is_file()]
            except InputError:
                continue  # reported when the samples are asked for
            lines += _describe_lines(split, [s.label for s in self.match_split(split).samples])
            if missing:
                lines.append(
                    f"{split}: {len(missing)} images have no file of labels and are background alone, as in "
                    f"Ultralytics; the first is {missing[0].image}."
                )
        return lines

    def _match_images(self, split: str) -> MatchResult:
        """The samples sorted by name; of a list file in its order.

        Images without a file of labels are background, unless none has one, or there are labels of no image.
        """
        names = self._class_names
        ids = self.classes_file.map_names_to_ids(prepend_background(names), str(self._config_path))
        yolo_ids = tuple(ids[name] for name in names)
        images = [image for entry in self._image_entries(split) for image in self._list_images(entry)]
        _require_no_orphans(images)
        samples = [
            Sample(image, _label_path(image), _PolygonReader(image, yolo_ids, ids[BACKGROUND])) for image in images
        ]
        if samples and not any(sample.label.is_file() for sample in samples):
            raise InputError(
                f"{samples[0].label}: no such file, nor any other of the {len(samples)} of {split}",
                hint=f"write the polygons of {images[0]} into it",
            )
        return MatchResult(samples)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """Each 4-connected region is a polygon along its pixels' edges; seams of no width join its holes to it."""
        require_background_first(classes, root)
        unprintable = [name for name in classes.names if not name.isprintable()]
        if unprintable:
            raise InputError(f"{root}: the class {unprintable[0]!r} does not fit on a line", hint="rename it")
        images, labels = root / "images" / split, root / "labels" / split
        make_folders(images, labels)
        for stem, image, ids in samples:
            save_image(image, images / f"{stem}.png")
            atomic_write(labels / f"{stem}.txt", _format_polygons(ids))
        existing_splits = [s for s in SPLITS if (root / "images" / s).is_dir()]
        text = [f"{s}: images/{s}\n" for s in existing_splits] + ["names:\n"]
        text += [f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(classes.names[1:])]
        atomic_write(root / "data.yaml", "".join(text))

    @cached_property
    def _config_path(self) -> Path | None:
        names = self.root / _NAME_LIST
        has_names = is_file(names) and any((self.root / "labels").glob("*.txt")) and is_folder(self.root / "images")
        return find_config(self.root) or (names if has_names else None)

    @cached_property
    def _config(self) -> dict[str, Any]:
        """The table of data.yaml; of Label Studio's export, which has none, what it would be."""
        if self._config_path is None:
            return {}
        if self._config_path.name == _NAME_LIST:
            return {"names": [line for _, line in read_lines(self._config_path)], UNDIVIDED: "images"}
        return read_config(self._config_path)

    @cached_property
    def _class_names(self) -> list[str]:
        """The names in the order of their numbers."""
        path = self._config_path
        if path is None:
            raise InputError(
                f"{self.root / CONFIG_FILES[0]}: no such file",
                hint="give the names and folders of a data set for YOLO",
            )
        return list(parse_class_names(self._config, path).values())

    def _image_entries(self, split: str) -> list[str]:
        """The folders and list files of a split's images."""
        key = "validation" if split == "val" and "val" not in self._config else split
        entry = self._config.get(key, "")
        entries = entry if isinstance(entry, list) else [] if entry in ("", "null", "~") else [entry]
        wrong = [entry for entry in entries if not isinstance(entry, str)]
        if wrong:
            raise InputError(f"{self._config_path}: {key}: found {wrong[0]!r:.60}", hint="give a folder of images")
        return entries

    def _list_images(self, entry: str) -> list[Path]:
        """The images of a folder, or of a list file."""
        base = self._config.get("path", "")
        if base and isinstance(base, str):
            candidates = [self.root / base / entry, self.root / entry]  # a data set that was moved has another path
        else:  # Roboflow has ../train/images for train/images
            candidates = [self.root / entry.removeprefix("../"), self.root / entry]
        existing = next((candidate for candidate in candidates if is_file(candidate) or is_folder(candidate)), None)
        if existing is None:
            raise InputError(
                f"{self._config_path}: found {entry!r}, and none of {', '.join(map(str, candidates))}",
                hint="give images",
            )
        if existing.is_dir():
            return list_image_files(existing)
        images = []
        for number, name in read_lines(existing):
            image = existing.parent / name
            if not is_file(image):  # a path from elsewhere, such as CVAT's data/images/train/a.jpg, or of Windows
                image = locate_listed(self.root, name) or image
            if not is_file(image) or image.suffix.lower() not in IMAGE_SUFFIXES:
                raise InputError(f"{existing}, line {number}: found {name!r}, and no such image")
            images.append(image)
        return images


@dataclass(frozen=True)
class _PolygonReader:
    """Read a file of polygons as a label map."""

    image: Path
    """The image, whose size is taken."""
    ids: tuple[int, ...]
    """The id of each of YOLO's classes."""
    background_id: int

    def __call__(self, path: Path) -> LabelArray:
        """The label map (H, W)."""
        height, width = size = image_size(self.image)
        lines = read_lines(path) if path.exists() else []
        polygons = (self._parse_polygon(f"{path}, line {number}", line) for number, line in lines)
        masks = ((self.ids[k], rasterize_polygon(corners * (width, height), size)) for k, corners in polygons)
        return merge_masks(masks, size, self.background_id)

    def _parse_polygon(self, location: str, line: str) -> tuple[int, NDArray[np.float64]]:
        fields = line.split()
        if len(fields) == 5:
            raise InputError(
                f"{location}: found five numbers, a bounding box, which says nothing of pixels; expected a polygon: "
                "CLASS x1 y1 x2 y2 x3 y3 ...",
                hint="export the data set for segmentation",
            )
        try:
            numbers = np.array([float(word) for word in fields])
        except ValueError as error:
            raise InputError(f"{location}: found {line[:60]!r} ({error})", hint="give numbers") from error
        if len(fields) < 7 or len(fields) % 2 == 0:
            confidence = ", without a confidence at the end" if len(fields) > 7 else ""
            raise InputError(
                f"{location}: found {len(fields)} numbers", hint=f"give a class and at least three corners{confidence}"
            )
        if numbers[0] not in range(len(self.ids)):
            raise InputError(f"{location}: found the class {fields[0]}", hint=f"give 0 to {len(self.ids) - 1}")
        corners = numbers[1:]
        if not ((corners >= -_MARGIN) & (corners <= 1 + _MARGIN)).all():
            outside = next(w for w, n in zip(fields[1:], corners, strict=True) if not -_MARGIN <= n <= 1 + _MARGIN)
            raise InputError(
                f"{location}: found the corner {outside}", hint="give 0 to 1, fractions of width and height, not pixels"
            )
        return int(numbers[0]), numbers[1:].reshape(-1, 2)


def _describe_lines(split: str, labels: list[Path]) -> list[str]:
    """How many lines of the first files have corners outside the image, and how many are there twice."""
    outside = repeated = 0
    examined = labels[:_COUNTED_FILES]
    for label in examined:
        try:
            content = label.read_bytes()
        except OSError:
            continue  # it is missing or reported when it is read
        entries = [line.strip() for line in content.splitlines() if line.strip()]
        outside += sum(_OUTSIDE.search(line) is not None for line in entries)
        repeated += len(entries) - len(set(entries))
    scope = f"{split}: " if len(examined) == len(labels) else f"{split}, the first {len(examined)} files: "
    notes = []
    if outside:
        notes.append(f"{scope}{plural(outside, 'object')} with corners outside the image, cut off at its border.")
    if repeated:
        notes.append(f"{scope}{plural(repeated, 'line')} given twice, read once.")
    return notes


def _format_polygons(ids: LabelArray) -> str:
    scale = np.array(ids.shape[::-1], dtype=np.float64)
    lines = []
    for outline in trace_polygons(ids):
        if outline.value:
            corners = (_join_rings(outline.rings) / scale).ravel().tolist()
            lines.append(f"{outline.value - 1} {' '.join(map(repr, corners))}\n")
    return "".join(lines)


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


def _require_no_orphans(images: list[Path]) -> None:
    """Raise where an image would be background alone because its labels have another name."""
    unlabeled = [image for image in images if not _label_path(image).is_file()]
    for image in {image.parent: image for image in reversed(unlabeled)}.values():
        missing_label = _label_path(image)
        expected = {_label_path(p).name for p in list_image_files(image.parent)}
        expected.add("classes.txt")  # which labelImg writes
        label_files = sorted(missing_label.parent.iterdir()) if missing_label.parent.is_dir() else []
        orphans = [p for p in label_files if p.suffix.lower() == ".txt" and p.name not in expected]
        if orphans:
            raise InputError(
                f"{orphans[0]}: has no image, and {missing_label} is missing ({len(orphans)} such labels); expected "
                "the stem of their image and the suffix .txt",
                hint="rename them, or remove those of no image",
            )


def _label_path(image: Path) -> Path:
    """Where Ultralytics looks for an image's labels: the last images/ in its path is labels/."""
    parts = list(image.parts)
    positions = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if positions:
        parts[positions[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")
