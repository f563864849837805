"""Instances files of COCO's form with one's own categories, as CVAT, Label Studio and Roboflow write them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.auto_split import select_split
from dilated.data.formats._classes import (
    BACKGROUND,
    classes_from_names,
    move_background_first,
    prepend_background,
    require_background_first,
    require_distinct_names,
)
from dilated.data.formats._format import SPLIT_ALIASES, SPLITS, Format, SampleArrays, save_image
from dilated.data.formats._instances import (
    Instance,
    InstancesFile,
    make_annotation,
    parse_instances,
    rasterize_instances,
    read_instances_file,
    write_instances_file,
)
from dilated.data.formats._match import MatchResult, require_files
from dilated.data.images import is_file
from dilated.data.labels import IGNORE, Classes
from dilated.data.polygons import label_components, trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError

_ROBOFLOW_FILE = "_annotations.coco.json"
_SPLIT_ALIASES = {**SPLIT_ALIASES, "default": "default"}


class COCOInstances(Format):
    """Instances files of COCO's form with one's own categories, as CVAT, Label Studio and Roboflow write them.

        annotations/instances_SPLIT.json   images in SPLIT/, images/SPLIT/, SPLIT2017/ or images/
        SPLIT/_annotations.coco.json       images beside it (Roboflow; its `valid` is val)

    Class 0 is the background, pixels of no object; the categories follow in the order of their ids, which may have
    gaps. A category called `background` is the background. Where objects overlap, the smaller is on top; a crowd is
    ignored. Images without objects are background. Where the one file is `instances_default.json`, the images are split
    into train and val. Roboflow's category 0 of the supercategory "none", which is the supercategory of all others, is
    a heading and not a class.
    """

    name = "coco_json"

    def detect(self) -> bool:
        return any(path.is_file() for path in (self.root / "annotations").glob("instances_*.json")) or any(
            (self.root / folder / _ROBOFLOW_FILE).is_file() for folder in _SPLIT_ALIASES
        )

    @cached_property
    def has_no_splits(self) -> bool:
        return list(self._paths_by_split) == ["default"]

    def _list_splits(self) -> Iterable[str]:
        return self._splits_or_hash_splits(s for s in SPLITS if s in self._paths_by_split)

    def _own_classes(self) -> Classes:
        """The background and the categories, which all files must share."""
        names_by_path = {path: self._class_names(path) for path in self._paths_by_split.values()}
        if not names_by_path:
            raise InputError(f"{self.root}: found no annotations/instances_SPLIT.json of train, val, test or default")
        first_path, names = next(iter(names_by_path.items()))
        for path, other_names in names_by_path.items():
            if other_names != names:
                raise InputError(
                    f"{path}: found the categories {other_names[1:]}; expected those of {first_path}, in its order"
                )
        return classes_from_names(names, str(first_path))

    def _describe(self) -> list[str]:
        lines = super()._describe()
        lines.append("Pixels of no object are the class background; where objects overlap the smaller is on top.")
        if not self.classes_file.path.is_file():
            lines.append("COCO's form has no colors: others are given, which differ; a classes.toml overrides them.")
        return lines

    def _match(self, split: str) -> MatchResult:
        """The samples in the order of the file's images."""
        if self.has_no_splits:
            return MatchResult(select_split(self.root, self._default_samples, split), [])
        if split not in self._paths_by_split:
            raise InputError(
                f"{self.root}: found no annotations/instances_{split}.json; found "
                f"{', '.join(self._paths_by_split) or 'none'}"
            )
        return MatchResult(self._load_samples(self._paths_by_split[split]), [])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """Each 4-connected region is an object: a polygon along its pixels' edges, or where it has holes run lengths.

        Ignored regions are crowds of the first category, for COCO has no other way. The instances file is written last.
        """
        require_background_first(classes, root)
        folder = root / "images" / split
        folder.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, (stem, image, ids) in enumerate(samples, 1):
            save_image(image, folder / f"{stem}.png")
            images.append({"id": number, "file_name": f"{stem}.png", "height": ids.shape[0], "width": ids.shape[1]})
            annotations += _describe_regions(ids, number)
        names = list(enumerate(classes.names))[1:]
        write_instances_file(root / "annotations" / f"instances_{split}.json", images, annotations, names)

    @classmethod
    def adapt_classes(cls, classes: Classes) -> Classes:
        return move_background_first(classes)

    @cached_property
    def _paths_by_split(self) -> dict[str, Path]:
        """The instances file of each split; `default` where a tool has no splits.

        Raises:
            InputError: two files of one split.
        """
        folder = self.root / "annotations"
        paths = sorted(folder.glob("instances_*.json")) if folder.is_dir() else []
        roboflow_paths = (self.root / name / _ROBOFLOW_FILE for name in _SPLIT_ALIASES)
        paths += [path for path in roboflow_paths if path.is_file()]
        by_split: dict[str, Path] = {}
        for path in paths:
            split = _split_of(path)
            if split in by_split:
                raise InputError(
                    f"{path}: is a second file of {split}, beside {by_split[split]}; expected one",
                    hint="move one of them away",
                )
            if split is not None:
                by_split[split] = path
        return by_split

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
    def _default_samples(self) -> list[Sample]:
        return self._load_samples(self._paths_by_split["default"])

    def _load_samples(self, path: Path) -> list[Sample]:
        file = self._read(path)
        if any("segments_info" in entry for entry in file.annotations[:1]):
            raise InputError(
                f"{path}: found segments_info: a panoptic file; expected instances with a segmentation each"
            )
        categories = _class_categories(path, file)
        names = prepend_background(categories.values())
        ids = self.classes_file.map_names_to_ids(names, str(path))
        # Objects of the background are drawn, for they may be on top of others: every value is one more than its id,
        # which `_rasterize_with_background` undoes.
        values = {entry_id: ids[name] for entry_id, name in categories.items()}
        if max(values.values()) + 1 >= IGNORE:
            raise InputError(f"{path}: found {len(names)} classes with the background; expected at most {IGNORE - 1}")
        folder = _find_image_folder(self.root, path, file)
        images = {entry_id: folder / name for entry_id, (name, _) in file.images.items()}
        require_files(list(images.values()), path, "where the annotations are from")
        instances = parse_instances(path, file, {entry_id: value + 1 for entry_id, value in values.items()})
        return [
            Sample(
                images[entry_id],
                path,
                partial(
                    _rasterize_with_background,
                    image=images[entry_id],
                    size=size,
                    image_instances=tuple(instances.get(entry_id, ())),
                    background_id=ids[BACKGROUND],
                ),
                stem=_flat_stem(name),
            )
            for entry_id, (name, size) in file.images.items()
        ]


def _split_of(path: Path) -> str | None:
    return _SPLIT_ALIASES.get(_split_name(path).removesuffix("2017").removesuffix("2014").lower())


def _split_name(path: Path) -> str:
    return path.parent.name if path.name == _ROBOFLOW_FILE else path.stem.removeprefix("instances_")


def _class_categories(path: Path, file: InstancesFile) -> dict[int, str]:
    """The categories that are classes, in the order of their ids.

    Raises:
        InputError: none, or two of one name.
    """
    categories = dict(sorted(file.categories.items()))
    heading = categories.get(0)
    others = [file.supercategories.get(i) for i in categories if i]
    if path.name == _ROBOFLOW_FILE and file.supercategories.get(0) == "none" and others and set(others) == {heading}:
        del categories[0]
    if not categories:
        raise InputError(f"{path}: found no categories; expected at least one")
    require_distinct_names(list(categories.values()), f"{path}: categories")
    return categories


def _rasterize_with_background(
    path: Path, image: Path, size: tuple[int, int], image_instances: tuple[Instance, ...], background_id: int
) -> NDArray[np.int64]:
    """The label map of an image whose objects' values are one more than their ids.

    Raises:
        InputError: an image of another size, or a mask that is damaged.
    """
    label = rasterize_instances(path, image, size, image_instances).astype(np.int64)
    return np.where(label == IGNORE, IGNORE, np.where(label == 0, background_id, label - 1))


def _describe_regions(ids: NDArray[np.uint8], image_id: int) -> list[dict[str, Any]]:
    """The annotations of a label map (H, W)."""
    annotations = []
    region = label_components(ids)[0]
    for i, outline in enumerate(trace_polygons(ids)):
        if outline.value == 0:
            continue
        is_crowd = outline.value == IGNORE
        fields = {"image_id": image_id, "category_id": 1 if is_crowd else outline.value, "iscrowd": int(is_crowd)}
        if is_crowd or len(outline.rings) > 1:
            annotations.append(make_annotation(region == i, **fields))
        else:
            ring = outline.rings[0].ravel().tolist()
            annotations.append({**fields, "area": outline.area, "bbox": list(outline.bbox), "segmentation": [ring]})
    return annotations


def _flat_stem(name: str) -> str:
    """An image's name for messages and copies; with its folders, which may contain images of one name."""
    return Path(name).with_suffix("").as_posix().replace("/", "__")


def _find_image_folder(root: Path, path: Path, file: InstancesFile) -> Path:
    """The folder that the images' names start from: the first that contains the first image.

    Raises:
        InputError: none does.
    """
    if path.name == _ROBOFLOW_FILE:
        return path.parent
    split = _split_of(path)
    names = dict.fromkeys([_split_name(path), f"{split}2017", str(split)])
    candidates = [*(root / name for name in names), *(root / "images" / name for name in names), root / "images"]
    first_name = next(iter(file.images.values()), ("", (0, 0)))[0]
    image_folder = next((candidate for candidate in candidates if is_file(candidate / first_name)), None)
    if image_folder is None:
        raise InputError(
            f"{path}: its first image {first_name!r} is in none of "
            f"{', '.join(str(p.relative_to(root)) for p in candidates)}; expected the images in one of them"
        )
    return image_folder
