"""Mapillary Vistas: config.json with the labels, and palette masks in training/ and validation/.

    config.json (or config_v1.2.json, config_v2.0.json)
    {training,validation}/images/NAME.jpg
    {training,validation}/labels/NAME.png                      v1.1, v1.2 in its first form
    {training,validation}/v1.2/labels/NAME.png                 and v2.0/labels, with the config of that version

Neuhold et al., "The Mapillary Vistas dataset for semantic understanding of street scenes", 2017. A mask's index is the
place of its label in the config; where there is no labels/ but instances/, its 16-bit values divided by 256 are. Labels
with `evaluate` false are ignored. With both versions there, v2.0 is read, and said so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.formats._colors import SampleArrays, validate_arrays
from dilated.data.formats._match import MatchResult, list_images, match_labels
from dilated.data.images import open_image
from dilated.data.labels import IGNORE, Classes, read_values
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = None
SOURCE = "https://www.mapillary.com/dataset/vistas"
_SPLIT_FOLDERS = {"train": "training", "val": "validation"}
_CONFIG_FILES = ("config_v2.0.json", "config_v1.2.json", "config.json")


def detect(root: Path) -> bool:
    return _find_config(root) is not None and any(
        (root / folder / "images").is_dir() for folder in _SPLIT_FOLDERS.values()
    )


def splits(root: Path) -> list[str]:
    return [s for s, folder in _SPLIT_FOLDERS.items() if (root / folder / "images").is_dir()]


def classes(root: Path) -> Classes:
    """The evaluated labels of the config, by their `name`; the others are ignored.

    Raises:
        InputError: a config that is damaged, or has none.
    """
    path, labels = _read_config_labels(root)
    names, colors, values, ignore = [], [], [], []
    for index, label in enumerate(labels):
        name, color, evaluate = (label.get(key) for key in ("name", "color", "evaluate"))
        if not isinstance(name, str) or not isinstance(color, list) or not isinstance(evaluate, bool):
            raise InputError(f"{path}: labels[{index}]: found {label!r:.80}; expected name, color and evaluate")
        if evaluate:
            names.append(name)
            colors.append(tuple(color))
            values.append((index,))
        else:
            ignore.append(index)
    return Classes(tuple(names), tuple(colors), tuple(values), tuple(ignore), source=str(path))


def notes(root: Path) -> list[str]:
    existing_configs = [name for name in _CONFIG_FILES if (root / name).is_file()]
    if len(existing_configs) < 2:
        return []
    return [
        f"The labels are those of {existing_configs[0]}; to read those of {existing_configs[1]}, move {existing_configs[0]} elsewhere."
    ]


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one split.

    Raises:
        InputError: a split that is none of these, a missing folder, image or label.
    """
    return match_split(root, split).require_complete()


def match_split(root: Path, split: str) -> MatchResult:
    """The pairs of one split, and what is missing."""
    if split not in _SPLIT_FOLDERS:
        return MatchResult([], [f"{root}: found the split {split!r}; expected train or val, for test has no labels"])
    folder = root / _SPLIT_FOLDERS[split]
    config = _find_config(root)
    version = config.stem.removeprefix("config").lstrip("_") if config else ""
    label_root = folder / version if version and (folder / version).is_dir() else folder
    kind = "instances" if not (label_root / "labels").is_dir() and (label_root / "instances").is_dir() else "labels"
    images, image_problems = list_images(folder / "images", "the images")
    labels, label_problems = list_images(label_root / kind, "their labels, palette images")
    if image_problems or label_problems:
        return MatchResult([], image_problems + label_problems)
    return match_labels(
        images, labels, label_root / kind, values=read_values if kind == "labels" else _read_instance_labels
    )


def _read_instance_labels(path: Path) -> NDArray[np.int64]:
    """The labels (H, W) of a 16-bit image of instances: its values divided by 256.

    Raises:
        InputError: an unreadable file, or one of 8 bits.
    """
    with open_image(path) as image:
        if image.mode not in ("I;16", "I;16B", "I"):
            raise InputError(f"{path}: found an image of mode {image.mode!r}; expected 16 bits, 256 * label + number")
    return read_values(path) // 256


def save(root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
    """Write a split that `load_checkpoint` reads back: PNG images, palette labels, and config.json.

    Ignored pixels are a last label that is not evaluated.

    Raises:
        InputError: another split, an id that the classes have not, a stem that is no file name or comes twice.
    """
    if split not in _SPLIT_FOLDERS:
        raise InputError(f"{root}: found the split {split!r}; expected train or val")
    if len(classes) > 254:
        raise InputError(f"{root}: found {len(classes)} classes; expected at most 254 beside the ignored label")
    folder = root / _SPLIT_FOLDERS[split]
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    entries = [*zip(classes.names, classes.colors, strict=True), ("void--unlabeled", (0, 0, 0))]
    labels = [
        {"color": list(color), "evaluate": i < len(classes), "instances": False, "name": name, "readable": name}
        for i, (name, color) in enumerate(entries)
    ]
    config = {"labels": labels, "version": "1.1", "folder_structure": "{split}/{content}/{image_id}.{extension}"}
    (root / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    for stem, image, ids in validate_arrays(samples):
        if ((ids >= len(classes)) & (ids != IGNORE)).any():
            raise InputError(f"samples: {stem}: found an id that is none of 0 to {len(classes) - 1}, nor {IGNORE}")
        Image.fromarray(image).save(folder / "images" / f"{stem}.png")
        label = Image.fromarray(np.where(ids == IGNORE, len(classes), ids).astype(np.uint8))
        label.putpalette([value for _, color in entries for value in color])
        label.save(folder / "labels" / f"{stem}.png")


def adapt_classes(classes: Classes) -> Classes:
    """The classes as this format keeps them."""
    return Classes(classes.names, classes.colors, ignore=(len(classes),) if len(classes) < 255 else ())


def _find_config(root: Path) -> Path | None:
    return next((root / name for name in _CONFIG_FILES if (root / name).is_file()), None)


def _read_config_labels(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    path = _find_config(root)
    if path is None:
        raise InputError(f"{root}: found no config.json; expected that of Mapillary Vistas, which names the labels")
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no whole JSON file ({error}); expected Mapillary's config") from error
    labels = data.get("labels") if isinstance(data, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
        raise InputError(f"{path}: found no list of labels; expected Mapillary's config")
    return path, labels
