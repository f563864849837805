"""Small data sets with nothing wrong, like streets seen from a car and like cells under a microscope."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.labels import Classes, save_classes

STREET = Classes(
    ("sky", "building", "pole", "road", "car"),
    ((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (64, 0, 128)),
    ignore=(11,),
)
CELLS = Classes(("background", "cell"), ((0, 0, 0), (220, 60, 60)))


def street(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (72, 96, 3) and its label."""
    random = np.random.default_rng(seed)
    label = np.zeros((72, 96), np.uint8)
    roofs = np.repeat(random.integers(8, 40, 8), 12)
    label[np.arange(72)[:, None] >= roofs] = 1
    label[int(random.integers(44, 56)) :] = 3
    for _ in range(3):
        row, column = random.integers(40, 60), random.integers(0, 80)
        label[row : row + 9, column : column + 14] = 4
    pole = random.integers(4, 92)
    label[10:60, pole : pole + 2] = 2
    label[70:, :5] = 11
    shades = random.integers(20, 236, (12, 3))
    image = shades[label] + random.integers(-12, 13, (72, 96, 3))
    return image.clip(0, 255).astype(np.uint8), label


def cells(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark image (64, 64, 3) with bright discs, and its label."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    label = np.zeros((64, 64), np.uint8)
    for _ in range(9):
        row, column = random.integers(0, 64, 2)
        label[(y - row) ** 2 + (x - column) ** 2 < random.integers(9, 40)] = 1
    image = np.where(label, 140, 12) + random.integers(-6, 7, (64, 64))
    return np.repeat(image.astype(np.uint8)[:, :, None], 3, axis=2), label


def save(root: Path, classes: Classes, samples: Iterable[tuple[np.ndarray, np.ndarray]], suffix: str = ".png") -> Path:
    """Plain folders: every fourth sample is val."""
    for i, (image, label) in enumerate(samples):
        split = "val" if i % 4 == 3 else "train"
        for kind, pixels, ending in (("images", image, suffix), ("labels", label, ".png")):
            folder = root / kind / split
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"s{i}{ending}")
    save_classes(classes, root / "classes.toml")
    return root


def streets(root: Path, number: int = 8) -> Path:
    return save(root, STREET, (street(i) for i in range(number)))


def labels_of(root: Path) -> list[Path]:
    return sorted((root / "labels").glob("*/*.png"))
