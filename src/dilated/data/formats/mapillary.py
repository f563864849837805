"""Mapillary Vistas: config.json with the labels, and palette masks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import make_palette_image
from dilated.data.formats._format import Format, Parsed, require_field, save_pairs
from dilated.data.formats._match import MatchResult, match_folders
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.images import open_image
from dilated.data.labels import IGNORE, Classes, read_values
from dilated.errors import InputError
from dilated.files import atomic_write, read_json

_SPLIT_FOLDERS = {"train": "training", "val": "validation"}
_CONFIG_FILES = ("config_v2.0.json", "config_v1.2.json", "config.json")


class Mapillary(Format):
    """Mapillary Vistas: config.json with the labels, and palette masks in training/ and validation/.

        config.json (or config_v1.2.json, config_v2.0.json)
        {training,validation}/images/NAME.jpg
        {training,validation}/labels/NAME.png                      v1.1, v1.2 in its first form
        {training,validation}/v1.2/labels/NAME.png                 and v2.0/labels, with the config of that version

    Neuhold et al., "The Mapillary Vistas dataset for semantic understanding of street scenes", 2017. A mask's index is
    that of its label in the config; where there is no labels/ but instances/, its 16-bit values divided by 256 are.
    Labels with `evaluate` false are ignored. Where both versions exist, v2.0 is read, which a note says.
    """

    name = "mapillary"
    most_classes = 254  # beside the ignored label
    source = "https://www.mapillary.com/dataset/vistas"
    writable_splits = expected_splits = tuple(_SPLIT_FOLDERS)

    def detect(self) -> bool:
        return bool(self._configs) and bool(self.splits)

    def parse(self) -> Parsed:
        splits = [s for s, folder in _SPLIT_FOLDERS.items() if (self.root / folder / "images").is_dir()]
        return Parsed(splits, self._match_folders, self._read_classes, self._describe)

    @cached_property
    def _configs(self) -> list[Path]:
        """The configs of the versions that exist, the newest first."""
        return [self.root / name for name in _CONFIG_FILES if (self.root / name).is_file()]

    def _match_folders(self, split: str) -> MatchResult:
        folder = self.root / _SPLIT_FOLDERS[split]
        version = self._configs[0].stem.removeprefix("config").lstrip("_") if self._configs else ""
        label_root = folder / version if version and (folder / version).is_dir() else folder
        has_instances_alone = not (label_root / "labels").is_dir() and (label_root / "instances").is_dir()
        return match_folders(
            folder / "images",
            label_root / ("instances" if has_instances_alone else "labels"),
            ("the images", "their labels, palette images"),
            label_reader=_read_instance_labels if has_instances_alone else read_values,
        )

    def _read_classes(self) -> Classes:
        """The evaluated labels of the config, by their `name`; the others are ignored."""
        if not self._configs:
            raise InputError(f"{self.root}: has no config.json of Mapillary Vistas, which names the labels")
        path = self._configs[0]
        names, colors, values, ignore = [], [], [], []
        for index, label in enumerate(require_field(f"{path}: the file", read_json(path), "labels", list)):
            where = f"{path}: labels[{index}]"
            if require_field(where, label, "evaluate", bool):
                names.append(require_field(where, label, "name", str))
                colors.append(tuple(require_field(where, label, "color", list)))
                values.append((index,))
            else:
                ignore.append(index)
        return Classes(tuple(names), tuple(colors), tuple(values), tuple(ignore), source=str(path))

    def _describe(self) -> list[str]:
        names = [path.name for path in self._configs]
        if len(names) < 2:
            return []
        return [f"The labels are those of {names[0]}; to read those of {names[1]}, move {names[0]} elsewhere."]

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """Ignored pixels are a last label that is not evaluated."""
        entries = [*zip(classes.names, classes.colors, strict=True), ("void--unlabeled", (0, 0, 0))]
        colors = [color for _, color in entries]
        labels = [
            {"color": list(color), "evaluate": i < len(classes), "instances": False, "name": name, "readable": name}
            for i, (name, color) in enumerate(entries)
        ]
        config = {"labels": labels, "version": "1.1", "folder_structure": "{split}/{content}/{image_id}.{extension}"}
        folder = root / _SPLIT_FOLDERS[split]
        save_pairs(
            samples,
            folder / "images",
            folder / "labels",
            lambda ids: make_palette_image(np.where(ids == IGNORE, len(classes), ids).astype(np.uint8), colors),
        )
        atomic_write(root / "config.json", json.dumps(config, indent=1))

    @classmethod
    def adapt_classes(cls, classes: Classes) -> Classes:
        return Classes(classes.names, classes.colors, ignore=(len(classes),) if len(classes) < 255 else ())


def _read_instance_labels(path: Path) -> NDArray[np.int64]:
    """The labels (H, W) of a 16-bit image of instances: its values divided by 256."""
    with open_image(path) as image:
        if image.mode not in ("I;16", "I;16B", "I"):
            raise InputError(
                f"{path}: found an image of mode {image.mode!r}", hint="give 16 bits, 256 * label + number"
            )
    return read_values(path) // 256
