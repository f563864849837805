"""COCO's panoptic form: PNGs whose colors are the numbers of segments, and a file that says what each segment is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import classes_from_names, require_distinct_names
from dilated.data.formats._coco_file import Id, parse_crowd, require_id, require_side, sort_ids
from dilated.data.formats._format import Format, Parsed, require_field, save_pairs
from dilated.data.formats._image_finder import ImageFinder
from dilated.data.formats._match import SPLITS, UNDIVIDED, MatchResult, index_by_split
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.images import is_file, open_image
from dilated.data.labels import Classes, make_size_error
from dilated.data.raw_values import assert_raw_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, plural, read_json
from dilated.label_ids import LabelArray
from dilated.palettes import Color

_PREFIX = "panoptic_"


class COCOPanoptic(Format):
    """COCO's panoptic form: PNGs whose colors are the numbers of segments, and a file that says what each segment is.

        annotations/panoptic_SPLIT.json    train2017, val2017, or train, val, test, default
        annotations/panoptic_SPLIT/NAME.png or panoptic_SPLIT/NAME.png: segment R + 256 G + 65536 B
        SPLIT/NAME.jpg                     or images/SPLIT/, images/, or anywhere below the folder

    The classes are the categories in the order of their ids, things and stuff alike. Pixels of no segment (0) are
    ignored. A crowd is its class, unless `crowds = "ignore"` is in classes.toml. Images without an annotation are left
    out and counted.
    """

    name = "coco_panoptic"

    def detect(self) -> bool:
        return bool(self._paths)

    def parse(self) -> Parsed:
        splits = [split for split in (*SPLITS, UNDIVIDED) if split in self._paths]
        return Parsed(splits, self._match_file, self._read_classes, self._describe)

    @cached_property
    def _paths(self) -> dict[str, Path]:
        paths = sorted((self.root / "annotations").glob(f"{_PREFIX}*.json"))
        return index_by_split((_split_name(path), path) for path in paths)

    @cached_property
    def _files(self) -> dict[str, _PanopticFile]:
        """The file of each split."""
        files = {split: _PanopticFile.read(path) for split, path in self._paths.items()}
        first = next(iter(files.values()), None)
        for file in files.values():
            if first is not None and file.names != first.names:
                raise InputError(
                    f"{file.path}: its categories are not those of {first.path}", hint="give both the same categories"
                )
        return files

    def _read_classes(self) -> Classes:
        file = next(iter(self._files.values()), None)
        if file is None:
            raise InputError(f"{self.root}: found no annotations/{_PREFIX}SPLIT.json of train, val, test or default")
        names = tuple(file.names.values())
        classes = classes_from_names(names, str(file.path))
        if len({file.colors.get(name) for name in names} - {None}) < len(names):
            return classes
        return Classes(names, tuple(file.colors[name] for name in names), source=str(file.path))

    def _describe(self) -> list[str]:
        notes = ["Pixels of no segment are ignored."]
        for file in self._files.values():
            if count := len(file.images) - len(file.segments):
                notes.append(f"{file.path.name}: {plural(count, 'image')} without an annotation left out.")
            if file.crowds:
                rule = "ignored" if self._ignores_crowds else "their class"
                notes.append(f"{file.path.name}: {plural(file.crowds, 'segment')} with iscrowd = 1 read as {rule}.")
        return notes

    @property
    def _ignores_crowds(self) -> bool:
        return self.classes_file.object_rules.crowds == "ignore"

    def _match_file(self, split: str) -> MatchResult:
        """The samples in the order of the file's images."""
        file, finder = self._files[split], ImageFinder(self.root)
        ids = self.classes_file.map_names_to_ids(list(file.names.values()), str(file.path))
        ignored = self.classes.ignore_id
        stem = file.path.stem
        original = stem.removeprefix(_PREFIX)
        folders = [*(f"{above}{name}" for above in ("", "images/") for name in (original, split)), "images", ""]
        samples, problems = [], []
        for image_id, (label_name, segments) in file.segments.items():
            name, size = file.images[image_id]
            image = finder.find(name, folders)
            places = [folder / stem / label_name for folder in (self.root / "annotations", self.root)]
            label = next((place for place in places if is_file(place)), None)
            if image is None:
                problems.append(f"{file.path}: found no image {name!r} below {self.root}; expected it in {original}/")
            elif label is None:
                problems.append(f"{places[0]}: no such file, which {file.path.name} names")
            else:
                values = {
                    segment: ignored if crowd and self._ignores_crowds else ids[file.names[category]]
                    for segment, (category, crowd) in segments.items()
                }
                reader = _SegmentReader((0, *values), (ignored, *values.values()), size, file.path.name)
                samples.append(Sample(image, label, reader, stem=Path(name).stem))
        return MatchResult(samples, problems)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """Each class of an image is a segment, whose number is the class's id plus one."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []

        def encode(ids: LabelArray) -> LabelArray:
            number = len(images) + 1
            size = {"height": ids.shape[0], "width": ids.shape[1]}
            values, areas = np.unique(ids[ids != classes.ignore_id], return_counts=True)
            images.append({"id": number, **size})
            annotations.append({"image_id": number, "segments_info": list(map(_describe_segment, values, areas))})
            segments = np.where(ids == classes.ignore_id, 0, ids.astype(np.int64) + 1)
            return np.stack([segments & 255, segments >> 8, 0 * segments], axis=-1).astype(np.uint8)

        path = root / "annotations" / f"{_PREFIX}{split}.json"
        stems = save_pairs(samples, root / "images" / split, path.with_suffix(""), encode)
        for image, annotation, stem in zip(images, annotations, stems, strict=True):
            image["file_name"] = annotation["file_name"] = f"{stem}.png"
        entries = zip(classes.names, classes.colors, strict=True)
        categories = [
            {"id": i, "name": name, "supercategory": "", "isthing": 0, "color": list(color)}
            for i, (name, color) in enumerate(entries, 1)
        ]
        atomic_write(path, json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _describe_segment(value: np.integer, area: np.int64) -> dict[str, int]:
    number = int(value) + 1
    return {"id": number, "category_id": number, "area": int(area), "iscrowd": 0}


@dataclass(frozen=True)
class _PanopticFile:
    """The parts of a panoptic file that are used."""

    path: Path
    names: Mapping[Id, str]
    """Of the categories by id, in the order of the ids."""
    colors: Mapping[str, Color]
    images: Mapping[Id, tuple[str, tuple[int, int]]]
    """The name and the (H, W) of each image by id."""
    segments: Mapping[Id, tuple[str, dict[int, tuple[Id, bool]]]]
    """The PNG of each image by its id, and of each segment by its number the category, and whether it is a crowd."""
    crowds: int

    @classmethod
    def read(cls, path: Path) -> _PanopticFile:
        """Read a file.

        Raises:
            InputError: a file that is damaged, or names what it does not have.
        """
        data = read_json(path)
        entries = require_field(f"{path}: the file", data, "categories", list)
        names = {
            require_id(f"{path}: category", e, "id"): require_field(f"{path}: category", e, "name", str)
            for e in entries
        }
        if len(names) < max(len(entries), 1):
            raise InputError(f"{path}: has no categories, or two of one id")
        require_distinct_names(list(names.values()), f"{path}: categories")
        images: dict[Id, tuple[str, tuple[int, int]]] = {}
        file_names: set[str] = set()
        for entry in require_field(f"{path}: the file", data, "images", list):
            height, width = (require_side(f"{path}: image", entry, key) for key in ("height", "width"))
            name = require_field(f"{path}: image", entry, "file_name", str)
            image_id = require_id(f"{path}: image", entry, "id")
            if image_id in images or name in file_names:
                raise InputError(f"{path}: two images have the id {image_id}, or the file_name {name!r}")
            file_names.add(name)
            images[image_id] = name, (height, width)
        segments: dict[Id, tuple[str, dict[int, tuple[Id, bool]]]] = {}
        for entry in require_field(f"{path}: the file", data, "annotations", list):
            image_id = require_id(f"{path}: annotation", entry, "image_id")
            where = f"{path}: annotation of image {image_id}"
            if image_id not in images or image_id in segments:
                problem = "occurs twice" if image_id in segments else "is of no image that the file has"
                raise InputError(f"{where}: {problem}", hint="export the file again")
            label = require_field(where, entry, "file_name", str)
            if Path(label).name != label:
                raise InputError(f"{where}: its file_name is {label!r:.60}", hint="give a name without folders")
            segments[image_id] = label, _read_segments(where, entry, names)
        colors = {e["name"]: color for e in entries if (color := _read_color(e.get("color")))}
        crowds = sum(crowd for _, infos in segments.values() for _, crowd in infos.values())
        return cls(path, {key: names[key] for key in sort_ids(names)}, colors, images, segments, crowds)


def _read_segments(where: str, entry: dict[str, Any], names: Mapping[Id, str]) -> dict[int, tuple[Id, bool]]:
    segments: dict[int, tuple[Id, bool]] = {}
    for info in require_field(where, entry, "segments_info", list):
        number = require_field(f"{where}: segment", info, "id", int)
        category = require_id(f"{where}: segment {number}", info, "category_id")
        if category not in names:
            raise InputError(f"{where}: segment {number}: has the category_id {category}, which the file does not have")
        if number in segments or not 0 < number < 1 << 24:
            raise InputError(f"{where}: has the segment {number} twice, or out of range", hint="give each its own id")
        segments[number] = category, parse_crowd(f"{where}: segment {number}", info)
    return segments


def _read_color(value: object) -> Color | None:
    if isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part < 256 for part in value):
        return value[0], value[1], value[2]
    return None


def _split_name(path: Path) -> str:
    return path.stem.removeprefix(_PREFIX).removesuffix("2017").removesuffix("2018")


@dataclass(frozen=True)
class _SegmentReader:
    """Read a PNG of segments as values."""

    segments: tuple[int, ...]
    """Their numbers, and 0 for none."""
    values: tuple[int, ...]
    """Of each segment."""
    size: tuple[int, int]
    """(H, W) as the file has it."""
    source: str
    """The file's name, for messages."""

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The values (H, W).

        Raises:
            InputError: an unreadable file, another size, or a segment that the file does not have.
        """
        with open_image(path) as image:
            if image.mode not in ("RGB", "P"):
                raise InputError(
                    f"{path}: has the mode {image.mode!r}", hint="give a PNG of colors, R + 256 G + 65536 B"
                )
            assert_raw_values(image, path)
            colors = np.asarray(image.convert("RGB")).astype(np.int64)
        if colors.shape[:2] != self.size:
            raise make_size_error(path, colors.shape[:2], self.size)
        numbers = colors @ np.array([1, 1 << 8, 1 << 16])
        known = np.array(self.segments, dtype=np.int64)
        values = np.array(self.values, dtype=np.int64)
        order = np.argsort(known)
        places = order[np.searchsorted(known[order], numbers).clip(max=len(order) - 1)]
        unknown = known[places] != numbers
        if unknown.any():
            y, x = (int(v[0]) for v in np.nonzero(unknown))
            raise InputError(
                f"{path}: found the segment {int(numbers[y, x])} at x={x}, y={y}, which {self.source} does not have",
                hint="get both files from one export",
            )
        result: NDArray[np.int64] = values[places]
        return result
