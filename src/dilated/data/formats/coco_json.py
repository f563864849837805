"""Instances files of COCO's form with one's own categories, wherever a tool puts them.

Where objects overlap, the smaller is on top, of equals the later in the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from dilated.data.formats._classes import (
    BACKGROUND,
    OBJECTS_NOTE,
    class_name,
    classes_from_names,
    prepend_background,
    require_background_first,
    require_distinct_names,
)
from dilated.data.formats._coco_file import (
    Id,
    InstancesFile,
    make_annotation,
    parse_instances,
    read_instances_file,
    sort_ids,
    write_instances,
)
from dilated.data.formats._format import Format, Parsed
from dilated.data.formats._match import SPLIT_ALIASES, SPLITS, UNDIVIDED, MatchResult, index_by_split, require_files
from dilated.data.formats._objects import DrawnObject, ObjectCounts, ObjectReader
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.images import is_file
from dilated.data.labels import Classes
from dilated.data.polygons import label_components, trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.label_ids import LabelArray, ignore_id_of

_ROBOFLOW_FILE = "_annotations.coco.json"
_HEADING_ID = 0  # of a category of Roboflow that is no class
_OTHER_FILES = ("captions_", "person_keypoints_", "panoptic_", "image_info_", ".")  # what their names begin with
_SCAN_BYTES = 1 << 16


class COCOInstances(Format):
    """Instances files of COCO's form with one's own categories, as CVAT, Label Studio and Roboflow write them.

        annotations/instances_SPLIT.json   images in SPLIT/, images/SPLIT/, SPLIT2017/ or images/
        SPLIT/_annotations.coco.json       images beside it (Roboflow; its `valid` is val)
        result.json                        images in images/ (Label Studio), or any one file of this form at the top
                                           or in annotations/, such as annotations.json, train.json or stuff_SPLIT.json

    Class 0 is the background, pixels of no object; the categories follow in the order of their ids, which may have
    gaps. A category called `background` is the background. Where objects overlap, the smaller is on top. Images without
    objects are background. Where the one file names no split, the images are split into train and val. Roboflow's
    category 0 of the supercategory "none", which is the supercategory of all others, is a heading and not a class.

    A crowd (`iscrowd` 1) is its class, for CVAT and other tools write every mask so; in COCO's own files, and those
    that are written here, it is ignored. `crowds = "class"` or `"ignore"` in classes.toml decides otherwise. An object
    without a polygon or mask is an error; `objects_without_mask = "skip"` in classes.toml leaves such objects out.
    """

    name = "coco_json"
    draws_objects = True
    lacks_colors = "COCO's form has"

    def detect(self) -> bool:
        return bool(self._candidates)

    def parse(self) -> Parsed:
        splits = [split for split in (*SPLITS, UNDIVIDED) if split in self._paths]
        return Parsed(splits, self._match_file, self._read_classes, self._describe)

    @cached_property
    def _candidates(self) -> list[Path]:
        """The instances files: those at the places that COCO and Roboflow have, otherwise any of the form."""
        paths = sorted((self.root / "annotations").glob("instances_*.json"))
        paths += [p for s in SPLIT_ALIASES if (p := self.root / s / _ROBOFLOW_FILE).is_file()]
        if paths:
            return paths
        others = (path for folder in (self.root, self.root / "annotations") for path in sorted(folder.glob("*.json")))
        return [path for path in others if not path.name.startswith(_OTHER_FILES) and _has_coco_form(path)]

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """The instances file of each split."""
        return index_by_split((_split_name(path), path) for path in self._candidates)

    def _read_classes(self) -> Classes:
        """The background and the categories, which all files must share."""
        names_by_path = {path: self._class_names(path) for path in self._paths.values()}
        if not names_by_path:
            raise InputError(f"{self.root}: found no annotations/instances_SPLIT.json of train, val, test or default")
        first_path, names = next(iter(names_by_path.items()))
        for path, other_names in names_by_path.items():
            if other_names != names:
                raise InputError(
                    f"{path}: found the categories {other_names[1:]}", hint=f"give those of {first_path}, in its order"
                )
        return classes_from_names(names, str(first_path))

    def _describe(self) -> list[str]:
        """How overlaps are read, and what is in the files besides objects of a class."""
        notes = [OBJECTS_NOTE]
        for split in self._paths:
            notes += self._parse_split(split)[1].describe(self._paths[split].name)
        return notes

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        require_background_first(classes, root)
        path = root / "annotations" / f"instances_{split}.json"
        categories = dict(enumerate(classes.names[1:], 1))
        write_instances(path, root / "images" / split, ".png", samples, categories, _describe_regions)

    @cached_property
    def _files(self) -> dict[Path, InstancesFile]:
        return {}

    def _read(self, path: Path) -> InstancesFile:
        """The contents of a file, read when first asked for."""
        if path not in self._files:
            self._files[path] = read_instances_file(path)
        return self._files[path]

    def _class_names(self, path: Path) -> list[str]:
        return prepend_background(_class_categories(path, self._read(path)).values())

    @cached_property
    def _parsed_splits(self) -> dict[str, tuple[dict[Id, list[DrawnObject]], ObjectCounts]]:
        return {}

    def _parse_split(self, split: str) -> tuple[dict[Id, list[DrawnObject]], ObjectCounts]:
        """The objects of each image by its id, and what else there is, parsed when first asked for."""
        if split not in self._parsed_splits:
            path = self._paths[split]
            file = self._read(path)
            if any("segments_info" in entry for entry in file.annotations[:1] if isinstance(entry, dict)):
                raise InputError(
                    f"{path}: is a panoptic file, with segments_info", hint="call it annotations/panoptic_SPLIT.json"
                )
            ids = self.classes_file.map_names_to_ids(self._class_names(path), str(path))
            values = {category: ids[name] for category, name in _class_categories(path, file).items()}
            tally = ObjectCounts(self.classes_file.object_rules, self.classes.ignore_id)
            self._parsed_splits[split] = parse_instances(path, file, values, tally), tally
        return self._parsed_splits[split]

    def _match_file(self, split: str) -> MatchResult:
        """The samples in the order of the file's images."""
        path = self._paths[split]
        file = self._read(path)
        instances, _ = self._parse_split(split)
        ids = self.classes_file.map_names_to_ids(self._class_names(path), str(path))
        images = _find_images(self.root, path, file)
        require_files(list(images.values()), path, "where the annotations are from")
        samples = []
        for image_id, (name, size) in file.images.items():
            reader = ObjectReader(images[image_id], size, tuple(instances.get(image_id, ())), ids[BACKGROUND])
            samples.append(Sample(images[image_id], path, reader, stem=_stem(name)))
        return MatchResult(samples)


def _describe_regions(ids: LabelArray) -> list[dict[str, Any]]:
    """Each 4-connected region is an object: a polygon along its pixels' edges, or where it has holes run lengths.

    Ignored regions are crowds of the first category, for COCO has no other way.
    """
    annotations = []
    region = label_components(ids)[0]
    for i, outline in enumerate(trace_polygons(ids)):
        if outline.value == 0:
            continue
        is_crowd = outline.value == ignore_id_of(ids)
        fields = {"category_id": 1 if is_crowd else outline.value, "iscrowd": int(is_crowd)}
        if is_crowd or len(outline.rings) > 1:
            annotations.append(make_annotation(region == i, **fields))
        else:
            ring = outline.rings[0].ravel().tolist()
            annotations.append({**fields, "area": outline.area, "bbox": list(outline.bbox), "segmentation": [ring]})
    return annotations


def _split_name(path: Path) -> str:
    """The split that the name of an instances file says, "default" for none."""
    if path.name == _ROBOFLOW_FILE:
        return path.parent.name if path.parent.name.lower() in SPLIT_ALIASES else UNDIVIDED
    words = path.stem.replace("-", "_").split("_")
    if words[0] == "instances" and len(words) > 1:
        return "_".join(words[1:]).removesuffix("2017").removesuffix("2014")
    splits = {s for word in words if (s := SPLIT_ALIASES.get(word.lower().removesuffix("2017").removesuffix("2014")))}
    return splits.pop() if len(splits) == 1 else UNDIVIDED


def _has_coco_form(path: Path) -> bool:
    """Whether a JSON file has images, annotations and categories at the top: looked for, as it may be huge."""
    try:
        with path.open("rb") as file:
            if file.read(1) not in (b"{", b"\xef", b" ", b"\n"):
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                keys = [text.find(key) for key in (b'"images"', b'"annotations"', b'"categories"')]
    except (OSError, ValueError):  # a folder, a link to nothing, an empty file
        return False
    return min(keys) >= 0


def _find_images(root: Path, path: Path, file: InstancesFile) -> dict[Id, Path]:
    """The image of each id, in the first folder that contains the first image.

    Raises:
        InputError: no folder does.
    """
    names = {image_id: name for image_id, (name, _) in file.images.items()}
    first_name = next(iter(names.values()), "")
    folders = list(_candidate_folders(root, path))
    for shorten in (lambda name: name, lambda name: PurePosixPath(name).name):
        for folder in folders:
            if _is_below(shorten(first_name)) and is_file(folder / shorten(first_name)):
                images = {image_id: folder / shorten(name) for image_id, name in names.items()}
                outside = next((name for name in names.values() if not _is_below(shorten(name))), None)
                if outside is not None:
                    raise InputError(f"{path}: the image {outside!r} is not below {folder}", hint="put all there")
                return images
    raise InputError(
        f"{path}: its first image {first_name!r} is in none of {', '.join(str(p.relative_to(root)) for p in folders)}",
        hint="put the images into one of them",
    )


def _candidate_folders(root: Path, path: Path) -> Iterator[Path]:
    """The folders that the images' names may start from."""
    if path.name == _ROBOFLOW_FILE:
        yield path.parent
        return
    name = _split_name(path)
    split = SPLIT_ALIASES.get(name.lower(), UNDIVIDED)
    original = path.stem.removeprefix("instances_")
    names = dict.fromkeys([original, name, f"{split}2017", split])
    yield from (root / name for name in names)
    yield from (root / "images" / name for name in names)
    yield from (root / "images", root / "JPEGImages", root)


def _is_below(name: str) -> bool:
    """Whether a file's name stays in its folder."""
    return bool(name) and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


def _stem(name: str) -> str:
    """The sample's name: the image's without its suffix, with its folders, which may hold images of one name."""
    parts = PurePosixPath(name).with_suffix("").parts if _is_below(name) else (PurePosixPath(name).stem,)
    return "__".join(parts[1:] if parts[0] in ("images", "JPEGImages") and len(parts) > 1 else parts)


def _class_categories(path: Path, file: InstancesFile) -> dict[Id, str]:
    """The categories that are classes, in the order of their ids."""
    categories = {key: class_name(file.categories[key]) for key in sort_ids(file.categories)}
    parents = {file.supercategories.get(i) for i in categories if i != _HEADING_ID}
    is_heading = file.supercategories.get(_HEADING_ID) == "none" and parents == {categories.get(_HEADING_ID)}
    if path.name == _ROBOFLOW_FILE and is_heading:
        del categories[_HEADING_ID]
    if not categories:
        raise InputError(f"{path}: has no categories")
    require_distinct_names(list(categories.values()), f"{path}: categories")
    return categories
