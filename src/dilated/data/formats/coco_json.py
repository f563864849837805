"""Instances files of COCO's form with categories of one's own, as CVAT, Label Studio and Roboflow write them.

    annotations/instances_SPLIT.json   pictures in SPLIT/, images/SPLIT/, SPLIT2017/ or images/
    SPLIT/_annotations.coco.json       pictures beside it (Roboflow; its `valid` is val)

Class 0 is the background, pixels of no object; the categories follow in the order of their ids, which may have gaps. A
category called `background` is the background. Overlaps and crowds are drawn as `instances` has it: the smaller object
on top, a crowd is ignored. Pictures without objects are background. Where the one file is `instances_default.json`,
the pictures are parted into train and val. Roboflow's category 0 of the supercategory "none", whose name the others
have as theirs, is a heading and no class.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dilated.data.formats import instances, named, parting, voc
from dilated.data.formats.coding import Sample, checked
from dilated.data.formats.instances import Instances
from dilated.data.formats.pairs import Pair
from dilated.data.images import is_file
from dilated.data.labels import IGNORE, Classes
from dilated.data.polygons import outlines, regions
from dilated.errors import InputError

CLASSES = None
SOURCE = ""
SPLITS = ("train", "val", "test")
ALIASES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "default": "default"}
ROBOFLOW = "_annotations.coco.json"


def files(root: Path) -> dict[str, Path]:
    """The instances file of each split; `default` where a tool knows no splits.

    Raises:
        InputError: two files of one split.
    """
    found: dict[str, Path] = {}
    folder = root / "annotations"
    places = sorted(folder.glob("instances_*.json")) if folder.is_dir() else []
    for path in [*places, *(root / name / ROBOFLOW for name in ALIASES if (root / name / ROBOFLOW).is_file())]:
        split = ALIASES.get(_name(path).removesuffix("2017").removesuffix("2014").lower())
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
        (root / name / ROBOFLOW).is_file() for name in ALIASES
    )


def splits(root: Path) -> list[str]:
    there = files(root)
    return parting.splits(root) if unsplit(root) else [s for s in SPLITS if s in there]


def unsplit(root: Path) -> bool:
    return list(files(root)) == ["default"]


def classes(root: Path) -> Classes:
    """The background and the categories, which all files must share.

    Raises:
        InputError: a damaged file, files whose categories differ, or no category.
    """
    found: dict[Path, list[str]] = {}
    for path in files(root).values():
        found[path] = named.with_background(_kept(path, instances.read(path)).values())
        first = next(iter(found))
        if found[path] != found[first]:
            raise InputError(f"{path}: found the categories {found[path][1:]}; expected those of {first}, in its order")
    if not found:
        raise InputError(f"{root}: found no annotations/instances_SPLIT.json of train, val, test or default")
    return named.coloured(found[first], str(first))


def notes(root: Path) -> list[str]:
    found = parting.note(root) if unsplit(root) else []
    found.append("Pixels of no object are the class background; where objects overlap the smaller is on top.")
    if not (root / "classes.toml").is_file():
        found.append("COCO's form has no colours: others are given, which differ; a classes.toml overrides them.")
    return found


def load(root: Path, split: str) -> list[Pair]:
    """The pairs of one split, in the order of the file's pictures.

    Raises:
        InputError: a missing file or picture, a damaged file, or a classes.toml that lacks a category.
    """
    if unsplit(root):
        return parting.part(root, _pairs(root, files(root)["default"]), split)
    there = files(root)
    if split not in there:
        raise InputError(f"{root}: found no annotations/instances_{split}.json; found {', '.join(there) or 'none'}")
    return _pairs(root, there[split])


def save(root: Path, split: str, samples: Iterable[Sample], classes: Classes) -> None:
    """Write a split that `load` reads back: PNG pictures in images/SPLIT/, and the instances file, last.

    Each 4-connected region is an object: a polygon along its pixels' edges, or where it has holes compressed runs.
    Ignored regions are crowds of the first category, for COCO has no other way.

    Args:
        classes: the background first.

    Raises:
        InputError: another split, no class beside the background, an id that the classes have not.
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    if len(classes) < 2 or classes.names[0] != named.BACKGROUND:
        raise InputError(f"{root}: found the classes {list(classes.names)}; expected background and at least one more")
    folder = root / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (stem, image, ids) in enumerate(checked(samples), 1):
        classes.decode(ids, stem)
        Image.fromarray(image).save(folder / f"{stem}.png")
        images.append({"id": number, "file_name": f"{stem}.png", "height": ids.shape[0], "width": ids.shape[1]})
        region = regions(ids)[0]
        for i, outline in enumerate(outlines(ids)):
            if outline.value == 0:
                continue
            crowd = outline.value == IGNORE
            head = {"image_id": number, "category_id": 1 if crowd else outline.value, "iscrowd": int(crowd)}
            if crowd or len(outline.rings) > 1:
                annotations.append(instances.described(region == i, **head))
                continue
            ring = outline.rings[0].ravel().tolist()
            annotations.append({**head, "area": outline.area, "bbox": list(outline.box), "segmentation": [ring]})
    names = list(enumerate(classes.names))[1:]
    instances.write(root / "annotations" / f"instances_{split}.json", images, annotations, names)


def arranged(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return named.background_first(classes)


def _name(path: Path) -> str:
    return path.parent.name if path.name == ROBOFLOW else path.stem.removeprefix("instances_")


def _kept(path: Path, data: Instances) -> dict[int, str]:
    """The categories that are classes, in the order of their ids.

    Raises:
        InputError: none, or two of one name.
    """
    kept = dict(sorted(data.categories.items()))
    heading = kept.get(0)
    others = [data.parents.get(i) for i in kept if i]
    if path.name == ROBOFLOW and data.parents.get(0) == "none" and others and set(others) == {heading}:
        del kept[0]
    names = list(kept.values())
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice or not names:
        raise InputError(
            f"{path}: found {f'the category {twice[0]!r} twice' if twice else 'no categories'}; expected categories "
            "whose names differ"
        )
    return kept


def _pairs(root: Path, path: Path) -> list[Pair]:
    data = instances.read(path)
    if any("segments_info" in entry for entry in data.annotations[:1]):
        raise InputError(f"{path}: found segments_info: a panoptic file; expected instances with a segmentation each")
    kept = _kept(path, data)
    names = named.with_background(kept.values())
    ids = named.ids(root, names, str(path))
    # Objects of the background are drawn, for they may be on top of others: as one more value, put back by `Drawn`.
    values = {identity: ids[name] for identity, name in kept.items()}
    if max(values.values()) + 1 >= IGNORE:
        raise InputError(f"{path}: found {len(names)} classes with the background; expected at most {IGNORE - 1}")
    folder = _folder(root, path, data)
    images = {identity: folder / name for identity, (name, _) in data.pictures.items()}
    voc.present(list(images.values()), path, "where the annotations are from")
    found = instances.things(path, data, {identity: value + 1 for identity, value in values.items()})
    ground = ids[named.BACKGROUND]
    return [
        Pair(
            images[identity],
            path,
            partial(drawn, image=images[identity], size=size, things=tuple(found.get(identity, ())), ground=ground),
            stem=_stem(name),
        )
        for identity, (name, size) in data.pictures.items()
    ]


def drawn(
    path: Path, image: Path, size: tuple[int, int], things: tuple[instances.Thing, ...], ground: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The label map of one picture, of which the objects' values are one more than their ids.

    Args:
        ground: the id of the background.

    Raises:
        InputError: a picture of another size, or a mask that is damaged.
    """
    label = instances.draw(path, image, size, things).astype(np.int64)
    return np.where(label == IGNORE, IGNORE, np.where(label == 0, ground, label - 1))


def _stem(name: str) -> str:
    """A picture's name for messages and copies; with its folders, which may hold pictures of one name."""
    return Path(name).with_suffix("").as_posix().replace("/", "__")


def _folder(root: Path, path: Path, data: Instances) -> Path:
    """The folder that the pictures' names start from: the first that has the first picture.

    Raises:
        InputError: none has.
    """
    if path.name == ROBOFLOW:
        return path.parent
    name = _name(path)
    split = ALIASES[name.removesuffix("2017").removesuffix("2014").lower()]
    names = dict.fromkeys([name, f"{split}2017", split])
    places = [root / one for one in names] + [root / "images" / one for one in names] + [root / "images"]
    first = next(iter(data.pictures.values()), ("", (0, 0)))[0]
    found = next((place for place in places if is_file(place / first)), None)
    if found is None:
        raise InputError(
            f"{path}: its first picture {first!r} is in none of {', '.join(str(p.relative_to(root)) for p in places)}; "
            "expected the pictures in one of them"
        )
    return found
