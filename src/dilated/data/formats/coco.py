"""COCO as label maps of PASCAL VOC's classes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import PASCAL_CLASSES
from dilated.data.formats._coco_file import (
    COCO_CATEGORIES,
    make_annotation,
    parse_instances,
    read_instances_file,
    write_instances,
)
from dilated.data.formats._format import Format, Parsed
from dilated.data.formats._match import MatchResult, require_files
from dilated.data.formats._objects import ObjectCounts, ObjectReader
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.images import list_image_files
from dilated.data.labels import IGNORE, Classes, read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.label_ids import LabelArray

_SOURCE = "https://cocodataset.org/#download"
_YEARS = ("2017", "2014")
_SPLITS = ("train", "val")
_SCAN_BYTES = 1 << 18
_PERSON = 1
_CATEGORIES = COCO_CATEGORIES
_OTHER_CATEGORIES = {  # the rest of its 80 things
    *("truck", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "elephant", "bear", "zebra"),
    *("giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "wine glass", "cup"),
    *("fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog"),
    *("pizza", "donut", "cake", "bed", "toilet", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave"),
    *("oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
}
_VOC_IDS = {  # by the name of either
    **{name: value for value, name in enumerate(PASCAL_CLASSES.names) if value},
    **{name: value for value, (_, name) in enumerate(_CATEGORIES, 1)},
}
_VOC_VALUES = [(category - 1,) for category, _ in _CATEGORIES]
_PIXEL_MAP_CLASSES = replace(
    PASCAL_CLASSES,
    values=(tuple(sorted(set(range(182)).difference(*_VOC_VALUES))), *_VOC_VALUES),
    source="COCO-Stuff's pixel maps",
)


class COCO(Format):
    """COCO as label maps of PASCAL VOC's classes, drawn from its instances file when an image is read.

        annotations/instances_{train,val}{2014,2017}.json  {train,val}{2014,2017}/NAME.jpg (or below images/)

    Only images with at least one object of a class of VOC are given; other categories are background, and so is stuff.
    Where objects overlap, the smaller is on top; crowds are ignored, unless `crowds = "class"` is in classes.toml.
    All splits are of one year, since most of val2014 is in train2017: 2017 where its images and labels exist,
    otherwise 2014.

    Where there is no instances file, the pixel maps of COCO-Stuff, `stuffthingmaps/{train,val}2017/NAME.png`, or
    `annotations/stuff_*.json` are read. All maps are examined to find the images, which takes minutes.
    """

    name = "coco"
    fixed_classes = PASCAL_CLASSES
    source = _SOURCE
    writable_splits = expected_splits = _SPLITS
    takes_any_classes = False
    writes_jpeg = True

    def detect(self) -> bool:
        """Whether it is COCO itself: a file of the same form with other categories is `coco_json`'s."""
        folder = _find_folder(self.root)
        if folder is None:
            return False
        labels = [path for name in _split_names() if (path := _labels_path(folder, name))]
        return any(path.is_dir() or _has_coco_categories(path) for path in labels[:1])

    def parse(self) -> Parsed:
        places = {split: self._locate(split) for split in _SPLITS}
        splits = [split for split, (images, labels) in places.items() if labels or images.is_dir()]
        return Parsed(splits, self._match_labels, describe=self._describe)

    @cached_property
    def _tallies(self) -> dict[str, ObjectCounts]:
        """What each file that was read has besides objects, by its name."""
        return {}

    def _describe(self) -> list[str]:
        """Of files that were read; the others take minutes."""
        return [line for name, tally in self._tallies.items() for line in tally.describe(name)]

    def _match_labels(self, split: str) -> MatchResult:
        """The samples in the order of the file's images; of pixel maps in the order of names."""
        hint = f"see {_SOURCE}"
        images, labels = self._locate(split)
        if labels is None:
            path = _instances_path(self._folder, f"{split}{_year(self._folder)}")
            raise InputError(f"{path}: no such file, which has the labels of {images}", hint=hint)
        if not images.is_dir():
            raise InputError(f"{images}: no such folder, which has the images of {labels}", hint=hint)
        if labels.is_dir():
            return MatchResult(_load_pixel_maps(images, labels))
        self._tallies[labels.name] = tally = ObjectCounts(self.classes_file.object_rules)
        return MatchResult(_load_instances(images, labels, tally))

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """Write one mask per class.

        Ignored pixels are written as a crowd of persons, for COCO has no other way. An image with neither objects nor
        ignored pixels is written, but left out when the data is read, as any such image is.
        """
        data = cls(root)
        path = _instances_path(data._folder, f"{split}{_year(data._folder)}")
        write_instances(path, data._locate(split)[0], ".jpg", samples, dict(_CATEGORIES), _describe_masks)

    @cached_property
    def _folder(self) -> Path:
        """The folder that contains annotations/ and the images, or where they should be."""
        return _find_folder(self.root) or self.root

    def _locate(self, split: str) -> tuple[Path, Path | None]:
        """The folder of the images of a split, and its labels if they exist."""
        name = f"{split}{_year(self._folder)}"
        return _image_folder(self._folder, name), _labels_path(self._folder, name)


def _describe_masks(ids: LabelArray) -> list[dict[str, Any]]:
    return [
        make_annotation(
            ids == value,
            category_id=_PERSON if value == IGNORE else _CATEGORIES[value - 1][0],
            iscrowd=int(value == IGNORE),
        )
        for value in np.unique(ids[ids > 0]).tolist()
    ]


def _find_folder(root: Path) -> Path | None:
    folders = (root / "coco", root)
    return next((f for f in folders if any(_labels_path(f, name) for name in _split_names())), None)


def _has_coco_categories(file: Path) -> bool:
    """Whether the categories of an instances file are COCO's: looked for at both ends of it, for it may be huge."""
    with file.open("rb") as stream:
        head = stream.read(_SCAN_BYTES)
        stream.seek(max(0, file.stat().st_size - _SCAN_BYTES))
        tail = stream.read()
    for text in (head.decode(errors="replace"), tail.decode(errors="replace")):
        start = text.rfind('"categories"')
        if start < 0:
            continue
        try:
            categories, _ = json.JSONDecoder().raw_decode(text, text.index("[", start))
            known = {(entry["id"], entry["name"]) for entry in categories}
        except (ValueError, LookupError, TypeError):
            continue
        return (
            known.issuperset(_CATEGORIES)
            and {name for _, name in known} <= {n for _, n in _CATEGORIES} | _OTHER_CATEGORIES
        )
    return False


def _read_pixel_map(path: Path) -> NDArray[np.uint8]:
    """A pixel map of COCO-Stuff as class ids (H, W): things of VOC's classes, 0 for other things and stuff."""
    return _PIXEL_MAP_CLASSES.decode(read_values(path), str(path))


def _load_pixel_maps(images: Path, labels: Path) -> list[Sample]:
    image_paths = list_image_files(images)
    maps = [labels / f"{image.stem}.png" for image in image_paths]
    require_files(maps, images, _SOURCE)
    with ThreadPoolExecutor() as pool:
        kept = list(pool.map(_has_object, maps))
    return [Sample(p, m, _read_pixel_map) for p, m, keep in zip(image_paths, maps, kept, strict=True) if keep]


def _has_object(path: Path) -> bool:
    ids = _read_pixel_map(path)
    return bool(((ids > 0) & (ids < IGNORE)).any())


def _load_instances(images: Path, path: Path, tally: ObjectCounts) -> list[Sample]:
    file = read_instances_file(path, _SOURCE)
    values = {category: _VOC_IDS[name] for category, name in file.categories.items() if name in _VOC_IDS}
    if not values:
        raise InputError(f"{path}: has no category that VOC has", hint=f"get an instances file from {_SOURCE}")
    instances = parse_instances(path, file, values, tally)
    kept = {image_id: (images / name, size) for image_id, (name, size) in file.images.items() if image_id in instances}
    require_files([image for image, _ in kept.values()], path, _SOURCE)
    return [
        Sample(image, path, ObjectReader(image, size, tuple(instances[image_id])))
        for image_id, (image, size) in kept.items()
    ]


def _split_names() -> list[str]:
    return [f"{split}{year}" for year in _YEARS for split in _SPLITS]


def _year(folder: Path) -> str:
    """The first year with images and labels of a split, otherwise that with labels of one, otherwise the first."""
    labeled_splits = [name for name in _split_names() if _labels_path(folder, name)]
    complete_splits = [name for name in labeled_splits if _image_folder(folder, name).is_dir()]
    return [*complete_splits, *labeled_splits, _YEARS[0]][0][-4:]


def _image_folder(folder: Path, name: str) -> Path:
    nested_folder = folder / "images" / name
    return nested_folder if nested_folder.is_dir() else folder / name


def _instances_path(folder: Path, name: str) -> Path:
    return folder / "annotations" / f"instances_{name}.json"


def _labels_path(folder: Path, name: str) -> Path | None:
    """The labels of a split: objects, otherwise pixel maps, otherwise stuff."""
    candidates = (
        _instances_path(folder, name),
        folder / "stuffthingmaps" / name,
        folder / "annotations" / f"stuff_{name}.json",
    )
    return next((candidate for candidate in candidates if candidate.exists()), None)
