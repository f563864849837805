"""The healthy data sets that `fuzz_data.py` damages: one in each layout that is written, and in all arrangements.

    sets = Sets(Path("templates"))
    one = sets.copy("folders, lists", Path("data"))      # 4 images to train on, 2 to validate with

Labels are drawn, with three classes and where the layout has it a corner that counts nowhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fuzz_exports import EXPORTS, Samples
from PIL import Image

from dilated.data.formats import FORMATS
from dilated.data.formats._classes import reset_values
from dilated.data.images import IMAGE_SUFFIXES
from dilated.data.labels import Classes, save_classes

CLASSES = Classes(("background", "disc", "bar"), ((0, 0, 0), (220, 60, 60), (60, 60, 220)), ignore=(9,))
MOVED = (
    "folders, outside",
    "folders, lists",
    "folders, unsplit",
    "folders, masks",
    "folders, 16 bits",
    "coco, default",
)
NO_IGNORE = ("yolo", "cvat")
LAYOUTS = (
    *("folders", "voc", "camvid", "cityscapes", "kitti2018", "coco_json", "yolo", "labelme", "cvat", "colors"),
    *("mapillary", "ade20k", "tiff_pages", "coco_panoptic"),
)

NUMBER = {"train": 4, "val": 2}
MAKERS: dict[str, Callable[[Path, Samples], None]] = dict(EXPORTS)
"""What writes a set by its name where the program does not; `fuzz_data.py` adds more."""


@dataclass(frozen=True)
class Set:
    """A data set on disk: its images, its labels where they are images, and its other files, as first written."""

    root: Path
    layout: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    texts: tuple[Path, ...]

    def files(self) -> list[Path]:
        return [*self.images, *self.labels, *self.texts]


def draw(seed: int, ignored: bool) -> tuple[np.ndarray, np.ndarray]:
    """An image (40, 56, 3) and its ids."""
    random = np.random.default_rng(seed)
    height, width = 40, 56
    y, x = np.mgrid[:height, :width]
    label = np.zeros((height, width), dtype=np.uint8)
    bar = int(random.integers(2, height - 8))
    label[bar : bar + 5] = 2
    row, column = random.integers(9, height - 9), random.integers(9, width - 9)
    label[(y - row) ** 2 + (x - column) ** 2 < 40] = 1
    if ignored:
        label[:3, :3] = 255
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    image = smooth // 2 + np.array(CLASSES.colors)[np.minimum(label, 2)] // 2
    return (image + random.integers(-9, 10, image.shape)).clip(0, 255).astype(np.uint8), label


class Sets:
    """The healthy sets, each made once in a folder and copied from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def copy(self, name: str, root: Path) -> Set:
        """A copy of the set of this name."""
        source = self.folder / name.replace(", ", "-")
        if not source.is_dir():
            make(name, source)
        shutil.copytree(source, root, symlinks=True)
        layout = layout_of(name)
        files = sorted(p for p in root.rglob("*") if p.is_file())
        drawn = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
        images = [p for p in drawn if not is_label(p.relative_to(root))]
        return Set(
            root,
            layout,
            tuple(images),
            tuple(p for p in drawn if p not in images),
            tuple(p for p in files if p not in drawn),
        )


def layout_of(name: str) -> str:
    """The layout of the set of this name."""
    return "coco_json" if name == "coco, default" else name.split(",")[0]


def is_label(path: Path) -> bool:
    """Whether an image is a label, by the folder or the name that its layout gives it."""
    marks = ("stuffthingmaps", "labels", "masks", "annotations", "SegmentationClass", "gtFine", "semantic")
    return (
        path.stem == "labels"
        or path.stem.endswith(("_mask", "_seg"))
        or path.name.startswith("task-")
        or any(part in marks or part.endswith(("annot", "_labels")) for part in path.parts[:-1])
    )


def make(name: str, root: Path) -> None:
    """Write the set of this name."""
    layout = layout_of(name)
    if name in MAKERS:
        numbers = [(split, i) for split, number in NUMBER.items() for i in range(number)]
        root.mkdir(parents=True)
        MAKERS[name](root, {f"{split}{i}": draw(i + 10 * (split == "val"), False) for split, i in numbers})
        return
    form = FORMATS[layout]
    classes = form.adapt_classes(CLASSES)
    if form.fixed_classes is None and classes == reset_values(CLASSES):
        classes = replace(classes, ignore=(9,))
    root.mkdir(parents=True)
    for split, number in NUMBER.items():
        samples = []
        for i in range(number):
            image, ids = draw(i + 10 * (split == "val"), layout not in NO_IGNORE)
            stem = f"{split}{i}" if layout != "cityscapes" else f"{split}_{i:06}_000019"
            samples.append((stem, image, ids))
        form.save(root, split, samples, classes)
    if form.takes_any_classes:
        save_classes(classes, root / "classes.toml")
    if layout in ("mapillary", "ade20k", "cvat", "yolo", "labelme") or name == "coco, default":
        (root / "classes.toml").unlink()
    arrange(name, root)


def arrange(name: str, root: Path) -> None:
    """Move the files of plain folders, and of COCO's form, into another arrangement."""
    kinds = [(split, kind) for split in NUMBER for kind in ("images", "labels")]
    if name == "folders, outside":
        for split, kind in kinds:
            (root / split).mkdir(exist_ok=True)
            (root / kind / split).rename(root / split / kind)
        for kind in ("images", "labels"):
            (root / kind).rmdir()
    elif name in ("folders, lists", "folders, unsplit"):
        for split, kind in kinds:
            stems = sorted(p.stem for p in (root / kind / split).iterdir())
            for path in sorted((root / kind / split).iterdir()):
                path.rename(root / kind / path.name)
            (root / kind / split).rmdir()
            if name == "folders, lists":
                (root / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    elif name == "folders, masks":
        (root / "labels").rename(root / "masks")
        for path in sorted(root.glob("masks/*/*.png")):
            path.rename(path.with_name(f"{path.stem}_mask.png"))
    elif name == "folders, 16 bits":
        for path in sorted(root.glob("labels/*/*.png")):
            values = np.asarray(Image.open(path)).astype(np.uint16)
            Image.fromarray(np.where(values < 9, values + 1000, values).astype(np.uint16)).save(path)
        values = tuple((1000 + i,) for i in range(len(CLASSES)))
        save_classes(replace(CLASSES, values=values, ignore=(9,)), root / "classes.toml")
    elif name == "coco, default":
        import json

        parts = [json.loads((root / f"annotations/instances_{s}.json").read_text()) for s in NUMBER]
        whole = parts[0]
        for entry in parts[1]["images"]:
            whole["images"].append({**entry, "id": entry["id"] + 100})
        for entry in parts[1]["annotations"]:
            whole["annotations"].append({**entry, "id": entry["id"] + 1000, "image_id": entry["image_id"] + 100})
        for split in NUMBER:
            (root / f"annotations/instances_{split}.json").unlink()
            for path in (root / "images" / split).iterdir():
                path.rename(root / "images" / path.name)
            (root / "images" / split).rmdir()
        (root / "annotations/instances_default.json").write_text(json.dumps(whole))
