"""Instances files of COCO's form with categories of one's own, as CVAT, Label Studio and Roboflow write them.

    annotations/instances_SPLIT.json   images in SPLIT/, images/SPLIT/, SPLIT2017/ or images/
    SPLIT/_annotations.coco.json       images beside it (Roboflow; its `read_mask` is val)

Class 0 is the background, pixels of no object; the categories follow in the order of their ids, which may have gaps. A
category called `background` is the background. Overlaps and crowds are drawn as `instances` has it: the smaller object
on top, a crowd is ignored. Images without objects are background. Where the one file is `instances_default.json`,
the images are parted into train and val. Roboflow's category 0 of the supercategory "none", whose name the others
have as theirs, is a heading and no class.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dilated.data import auto_split
from dilated.data.formats import _classes, _instances, voc
from dilated.data.formats._colors import SampleArrays, validate_arrays
from dilated.data.formats._instances import InstancesFile
from dilated.data.images import is_file
from dilated.data.labels import IGNORE, Classes
from dilated.data.polygons import label_components, trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
_SPLITS = ("train", "val", "test")
_SPLIT_ALIASES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "default": "default",
}
_ROBOFLOW_FILE = "_annotations.coco.json"


def _find_instances_files(root: Path) -> dict[str, Path]:
    """The instances file of each split; `default` where a tool knows no splits.

    Raises:
        InputError: two files of one split.
    """
    found: dict[str, Path] = {}
    folder = root / "annotations"
    candidates = sorted(folder.glob("instances_*.json")) if folder.is_dir() else []
    for path in [
        *candidates,
        *(root / name / _ROBOFLOW_FILE for name in _SPLIT_ALIASES if (root / name / _ROBOFLOW_FILE).is_file()),
    ]:
        split = _SPLIT_ALIASES.get(_split_name(path).removesuffix("2017").removesuffix("2014").lower())
        if split is None:
            continue
        if split in found:
            raise InputError(
                f"{path}: is a second file of {split}, beside {found[split]}; expected one. Move one away."
            )
        found[split] = path
    return found


def detect(root: Path) -> bool:
    return any(path.is_file() for path in (root / "annotations").glob("instances_*.json")) or any(
        (root / name / _ROBOFLOW_FILE).is_file() for name in _SPLIT_ALIASES
    )


def splits(root: Path) -> list[str]:
    files_by_split = _find_instances_files(root)
    return auto_split.list_splits(root) if has_no_splits(root) else [s for s in _SPLITS if s in files_by_split]


def has_no_splits(root: Path) -> bool:
    return list(_find_instances_files(root)) == ["default"]


def classes(root: Path) -> Classes:
    """The background and the categories, which all files must share.

    Raises:
        InputError: a damaged file, files whose categories differ, or no category.
    """
    found: dict[Path, list[str]] = {}
    for path in _find_instances_files(root).values():
        found[path] = _classes.prepend_background(
            _class_categories(path, _instances.read_instances_file(path)).values()
        )
        first = next(iter(found))
        if found[path] != found[first]:
            raise InputError(f"{path}: found the categories {found[path][1:]}; expected those of {first}, in its order")
    if not found:
        raise InputError(f"{root}: found no annotations/instances_SPLIT.json of train, val, test or default")
    return _classes.classes_from_names(found[first], str(first))


def notes(root: Path) -> list[str]:
    found = auto_split.describe_hash_split(root) if has_no_splits(root) else []
    found.append("Pixels of no object are the class background; where objects overlap the smaller is on top.")
    if not (root / "classes.toml").is_file():
        found.append("COCO's form has no colors: others are given, which differ; a classes.toml overrides them.")
    return found


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split, in the order of the file's images.

    Raises:
        InputError: a missing file or image, a damaged file, or a classes.toml that lacks a category.
    """
    if has_no_splits(root):
        return auto_split.select_split(root, _load_samples(root, _find_instances_files(root)["default"]), split)
    files_by_split = _find_instances_files(root)
    if split not in files_by_split:
        raise InputError(
            f"{root}: found no annotations/instances_{split}.json; found {', '.join(files_by_split) or 'none'}"
        )
    return _load_samples(root, files_by_split[split])


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write a split that `load_checkpoint` reads back: PNG images in images/SPLIT/, and the instances file, last.

    Each 4-connected region is an object: a polygon along its pixels' edges, or where it has holes compressed runs.
    Ignored regions are crowds of the first category, for COCO has no other way.

    Args:
        classes: the background first.

    Raises:
        InputError: another split, no class beside the background, an id that the classes have not.
    """
    if split not in _SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(_SPLITS)}")
    if len(classes) < 2 or classes.names[0] != _classes.BACKGROUND:
        raise InputError(f"{root}: found the classes {list(classes.names)}; expected background and at least one more")
    folder = root / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (stem, image, ids) in enumerate(validate_arrays(samples), 1):
        classes.decode(ids, stem)
        Image.fromarray(image).save(folder / f"{stem}.png")
        images.append({"id": number, "file_name": f"{stem}.png", "height": ids.shape[0], "width": ids.shape[1]})
        region = label_components(ids)[0]
        for i, outline in enumerate(trace_polygons(ids)):
            if outline.value == 0:
                continue
            crowd = outline.value == IGNORE
            fields = {"image_id": number, "category_id": 1 if crowd else outline.value, "iscrowd": int(crowd)}
            if crowd or len(outline.rings) > 1:
                annotations.append(_instances.make_annotation(region == i, **fields))
                continue
            ring = outline.rings[0].ravel().tolist()
            annotations.append({**fields, "area": outline.area, "bbox": list(outline.bbox), "segmentation": [ring]})
    names = list(enumerate(classes.names))[1:]
    _instances.write_instances_file(root / "annotations" / f"instances_{split}.json", images, annotations, names)


def adapt_classes(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return _classes.move_background_first(classes)


def _split_name(path: Path) -> str:
    return path.parent.name if path.name == _ROBOFLOW_FILE else path.stem.removeprefix("instances_")


def _class_categories(path: Path, data: InstancesFile) -> dict[int, str]:
    """The categories that are classes, in the order of their ids.

    Raises:
        InputError: none, or two of one name.
    """
    categories = dict(sorted(data.categories.items()))
    heading = categories.get(0)
    others = [data.parents.get(i) for i in categories if i]
    if path.name == _ROBOFLOW_FILE and data.parents.get(0) == "none" and others and set(others) == {heading}:
        del categories[0]
    names = list(categories.values())
    duplicates = [name for i, name in enumerate(names) if name in names[:i]]
    if duplicates or not names:
        raise InputError(
            f"{path}: found {f'the category {duplicates[0]!r} twice' if duplicates else 'no categories'}; expected categories "
            "whose names differ"
        )
    return categories


def _load_samples(root: Path, path: Path) -> list[Sample]:
    data = _instances.read_instances_file(path)
    if any("segments_info" in entry for entry in data.annotations[:1]):
        raise InputError(f"{path}: found segments_info: a panoptic file; expected instances with a segmentation each")
    categories = _class_categories(path, data)
    names = _classes.prepend_background(categories.values())
    ids = _classes.map_names_to_ids(root, names, str(path))
    # Objects of the background are drawn, for they may be on top of others: as one more value, put back by `Drawn`.
    values = {entry_id: ids[name] for entry_id, name in categories.items()}
    if max(values.values()) + 1 >= IGNORE:
        raise InputError(f"{path}: found {len(names)} classes with the background; expected at most {IGNORE - 1}")
    folder = _find_image_folder(root, path, data)
    images = {entry_id: folder / name for entry_id, (name, _) in data.images.items()}
    voc.require_files(list(images.values()), path, "where the annotations are from")
    found = _instances.parse_instances(path, data, {entry_id: value + 1 for entry_id, value in values.items()})
    background_id = ids[_classes.BACKGROUND]
    return [
        Sample(
            images[entry_id],
            path,
            partial(
                _rasterize_with_background,
                image=images[entry_id],
                size=size,
                image_instances=tuple(found.get(entry_id, ())),
                background_id=background_id,
            ),
            stem=_flat_stem(name),
        )
        for entry_id, (name, size) in data.images.items()
    ]


def _rasterize_with_background(
    path: Path, image: Path, size: tuple[int, int], image_instances: tuple[_instances.Instance, ...], background_id: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The label map of one image, of which the objects' values are one more than their ids.

    Args:
        ground: the id of the background.

    Raises:
        InputError: an image of another size, or a mask that is damaged.
    """
    label = _instances.rasterize_instances(path, image, size, image_instances).astype(np.int64)
    return np.where(label == IGNORE, IGNORE, np.where(label == 0, background_id, label - 1))


def _flat_stem(name: str) -> str:
    """An image's name for messages and copies; with its folders, which may hold images of one name."""
    return Path(name).with_suffix("").as_posix().replace("/", "__")


def _find_image_folder(root: Path, path: Path, data: InstancesFile) -> Path:
    """The folder that the images' names start from: the first that has the first image.

    Raises:
        InputError: none has.
    """
    if path.name == _ROBOFLOW_FILE:
        return path.parent
    name = _split_name(path)
    split = _SPLIT_ALIASES[name.removesuffix("2017").removesuffix("2014").lower()]
    names = dict.fromkeys([name, f"{split}2017", split])
    candidates = (
        [root / folder_name for folder_name in names]
        + [root / "images" / folder_name for folder_name in names]
        + [root / "images"]
    )
    first = next(iter(data.images.values()), ("", (0, 0)))[0]
    found = next((candidate for candidate in candidates if is_file(candidate / first)), None)
    if found is None:
        raise InputError(
            f"{path}: its first image {first!r} is in none of {', '.join(str(p.relative_to(root)) for p in candidates)}; "
            "expected the images in one of them"
        )
    return found
