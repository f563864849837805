"""Plain folders of images and labels, written in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.labels import Classes, save_classes

CLASSES = Classes(("sky", "road"), ((0, 0, 255), (128, 64, 128)))


def tree(root: Path, *files: str, classes: Classes = CLASSES) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 1).save(path)
    save_classes(classes, root / "classes.toml")
    return root


def saved_masks(root: Path, *masks: object) -> Path:
    """Images without splits, and their masks: arrays, or images of pillow."""
    for i, mask in enumerate(masks):
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(np.asarray(mask, np.uint8))
        Image.new("RGB", image.size).save(root / "images" / f"{i}.png")
        image.save(root / "masks" / f"{i}.png")
    return root


def read_all(root: Path) -> dict[str, list[list[int]]]:
    data = open_dataset(root)
    return {sample.name: sample.read_label().tolist() for split in data.splits for sample in data.samples(split)}
