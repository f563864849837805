"""Healthy data sets that tools and releases write as masks: tables of classes, bands, Windows lists, ADE20K in full.

RELEASES["folders, roboflow"](Path("data"), {"train0": (image, ids)})   # ids (H, W) of background, disc and bar
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_bands import write_deep_png, write_dicom, write_tiff
from fuzz_exports import Samples, bar_rows, compress, mask_box, run_lengths, save
from PIL import Image

from dilated.data.formats import FORMATS

NAMES = ("background", "disc", "bar")
COLORS = ((0, 0, 0), (220, 60, 60), (60, 60, 220))
TOML = "\n".join(
    f'[[class]]\nname = "{name}"\ncolor = {list(color)}\nvalues = [{i}]\n'
    for i, (name, color) in enumerate(zip(NAMES, COLORS, strict=True))
)
DEEP = 4  # how many bits of 16 are below those of an image of 8


def _split(stem: str) -> str:
    return stem.rstrip("0123456789")


def write_roboflow(root: Path, samples: Samples) -> None:
    """Roboflow's "semantic segmentation masks": image and mask side by side, a table in each split."""
    for stem, (image, ids) in samples.items():
        folder = root / {"train": "train", "val": "valid"}[_split(stem)]
        save(image, folder / f"{stem}_png.rf.0a1b2c.jpg")
        save(ids, folder / f"{stem}_png.rf.0a1b2c_mask.png")
        rows = "".join(f"{i}, {name}\n" for i, name in enumerate(NAMES))
        (folder / "_classes.csv").write_text("Pixel Value, Class\n" + rows)


def write_masks_dir(root: Path, samples: Samples) -> None:
    """Ultralytics' data sets of masks."""
    for stem, (image, ids) in samples.items():
        save(image, root / "images" / _split(stem) / f"{stem}.jpg")
        save(ids, root / "masks" / _split(stem) / f"{stem}.png")
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nmasks_dir: masks\nnames:\n{names}")


def write_class_dict(root: Path, samples: Samples) -> None:
    """Masks of colors with the table that Kaggle's data sets have."""
    palette = np.array(COLORS, np.uint8)
    for stem, (image, ids) in samples.items():
        save(image, root / _split(stem) / f"{stem}.png")
        save(palette[ids], root / f"{_split(stem)}_labels" / f"{stem}.png")
    rows = "".join(f"{name},{','.join(map(str, color))}\n" for name, color in zip(NAMES, COLORS, strict=True))
    (root / "class_dict.csv").write_text("name,r,g,b\n" + rows)


def write_value_table(root: Path, samples: Samples) -> None:
    """Masks of other values, which a table names."""
    values = np.array([10, 40, 90], np.uint8)
    for stem, (image, ids) in samples.items():
        save(image, root / "images" / _split(stem) / f"{stem}.png")
        save(values[ids], root / "labels" / _split(stem) / f"{stem}.png")
    rows = "".join(f"{value},{name}\n" for value, name in zip(values.tolist(), NAMES, strict=True))
    (root / "labelmap.csv").write_text("id,name\n" + rows)


def write_labelme2voc(root: Path, samples: Samples) -> None:
    """What labelme2voc writes: masks with a palette, views, and the names with labelme's two of its own."""
    for stem, (image, ids) in samples.items():
        save(image, root / "JPEGImages" / f"{stem}.jpg")
        mask = Image.fromarray(ids)
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        (root / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(root / "SegmentationClass" / f"{stem}.png")
        save(image // 2, root / "SegmentationClassVisualization" / f"{stem}.jpg")
    (root / "class_names.txt").write_text("_background_\ndisc\nbar")


def write_windows_lists(root: Path, samples: Samples) -> None:
    """Lists of pairs as a tool on Windows writes them: backslashes, CRLF and a byte order mark."""
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for stem, (image, ids) in samples.items():
        save(image, root / "images" / f"{stem}.png")
        save(ids, root / "labels" / f"{stem}.png")
        lines[_split(stem)].append(f"C:\\data\\set\\images\\{stem}.png C:\\data\\set\\labels\\{stem}.png\r\n")
    for split, pairs in lines.items():
        (root / f"{split}.txt").write_bytes("".join(pairs).encode("utf-8-sig"))
    (root / "classes.toml").write_text(TOML)


def write_ade20k_full(root: Path, samples: Samples) -> None:
    """ADE20K's release of 2021, of which classes.toml chooses three classes."""
    numbers = np.array([774, 1735, 2978])
    for i, (stem, (image, ids)) in enumerate(samples.items()):
        split = {"train": "training", "val": "validation"}[_split(stem)]
        folder = root / "images" / "ADE" / split / "urban" / "street"
        name = f"ADE_{split[:5]}_{i:08}"
        save(image, folder / f"{name}.jpg")
        value = numbers[ids]
        mask = np.stack([value // 256 * 10, value % 256, (ids > 0) * 7], axis=2).astype(np.uint8)
        save(mask, folder / f"{name}_seg.png")
        entries = [{"name_ndx": int(n), "name": f"{word}, x"} for n, word in zip(numbers, NAMES, strict=True)]
        (folder / f"{name}.json").write_text(json.dumps({"annotation": {"object": entries}}))
    text = TOML
    for i, number in enumerate(numbers.tolist()):
        text = text.replace(f"values = [{i}]", f"values = [{number}]")
    (root / "classes.toml").write_text("ignore = [0]\n" + text)


def write_bands(root: Path, samples: Samples, kind: str) -> None:
    """Images of four bands of 16 bits, of three in a PNG of 16 bits, or of one in DICOM."""
    for stem, (image, ids) in samples.items():
        fourth = np.where(ids > 0, 200, 30).astype(np.uint8)[..., None]
        values = (np.concatenate([image, fourth], axis=2).astype(np.uint16) << DEEP) + 1
        folder = root / "images" / _split(stem)
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "npy":
            np.save(folder / f"{stem}.npy", values)
        elif kind == "float":
            np.save(folder / f"{stem}.npy", (values / 4096).astype(np.float32))
        elif kind == "tif":
            write_tiff(folder / f"{stem}.tif", values)
        elif kind == "dcm":
            write_dicom(folder / f"{stem}.dcm", values[..., 3:] + 100)
        else:
            write_deep_png(folder / f"{stem}.png", values[..., :3])
        save(ids, root / "labels" / _split(stem) / f"{stem}.png")
    (root / "classes.toml").write_text(TOML)


def write_labelme_shapes(root: Path, samples: Samples) -> None:
    """labelme's newer shapes, with the image inside the file too: a mask, a circle and four corners."""
    for stem, (image, ids) in samples.items():
        folder = root / _split(stem)
        save(image, folder / f"{stem}.png")
        left, top, right, bottom = mask_box(ids == 1)
        stream = io.BytesIO()
        Image.fromarray((ids == 1)[top:bottom, left:right]).save(stream, "PNG")
        first, last = bar_rows(ids)
        width = ids.shape[1]
        corners = [[0, first], [width, first], [width, last], [0, last]]
        text = base64.b64encode(stream.getvalue()).decode()
        common: dict[str, Any] = {"group_id": None, "description": "", "flags": {}}
        shapes = [
            {**common, "label": "bar", "points": corners, "shape_type": "rectangle", "mask": None},
            {**common, "label": "disc", "points": [[30.0, 20.0], [33.5, 20.0]], "shape_type": "circle", "mask": None},
            {
                **common,
                "label": "disc",
                "points": [[left, top], [right - 1, bottom - 1]],
                "shape_type": "mask",
                "mask": text,
            },
        ]
        size = {"imageHeight": ids.shape[0], "imageWidth": width}
        data = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{stem}.png",
            "imageData": None,
            **size,
        }
        (folder / f"{stem}.json").write_text(json.dumps(data, indent=1))


def write_label_studio_coco(root: Path, samples: Samples) -> None:
    """Label Studio's COCO export, and the run lengths of CVAT's: names with backslashes, ids from 0, crowds."""
    images, annotations = [], []
    for i, (stem, (image, ids)) in enumerate(samples.items()):
        name = f"0a1b2c3{i}-{stem}.png"
        save(image, root / "images" / name)
        height, width = ids.shape
        images.append({"width": width, "height": height, "id": i, "file_name": f"images\\{name}"})
        first, last = bar_rows(ids)
        outline = [0.0, first, width, first, width, last, 0.0, last]
        runs = {"counts": run_lengths((ids == 1).ravel(order="F")), "size": [height, width]}
        shapes: tuple[tuple[int, Any], ...] = ((1, [outline]), (0, runs))
        if i % 2:
            shapes = ((1, [outline]), (0, {**runs, "counts": compress(runs["counts"])}))
        for category, shape in shapes:
            annotations.append({"id": len(annotations), "image_id": i, "category_id": category, "segmentation": shape})
            annotations[-1] |= {"bbox": [0, 0, 1, 1], "ignore": 0, "iscrowd": 0, "area": 1}
    data = {"images": images, "categories": [{"id": 0, "name": "disc"}, {"id": 1, "name": "bar"}]}
    (root / "result.json").write_text(json.dumps({**data, "annotations": annotations, "info": {}}, indent=1))


def _bands(kind: str) -> Callable[[Path, Samples], None]:
    return lambda root, samples: write_bands(root, samples, kind)


def write_coco(root: Path, samples: Samples) -> None:
    """COCO's instances of two of its 80 categories, with its names and numbers."""
    for split in ("train", "val"):
        FORMATS["coco"].save(root, split, [(n, *sample) for n, sample in samples.items() if n.startswith(split)])


def write_coco_stuff(root: Path, samples: Samples) -> None:
    """The pixel maps of COCO-Stuff: things are one less than the number of their category, 100 is stuff."""
    values = np.full(256, 255, np.uint8)
    values[:3] = 100, 4, 1
    for name, (image, ids) in samples.items():
        split = f"{name.rstrip('0123456789')}2017"
        for folder, content, suffix in (
            (root / split, image, "jpg"),
            (root / "stuffthingmaps" / split, values[ids], "png"),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(folder / f"{name}.{suffix}")


RELEASES: dict[str, Callable[[Path, Samples], None]] = {
    "folders, roboflow": write_roboflow,
    "folders, masks_dir": write_masks_dir,
    "colors, class_dict": write_class_dict,
    "folders, labelmap": write_value_table,
    "voc, labelme2voc": write_labelme2voc,
    "folders, Windows lists": write_windows_lists,
    "ade20k_full": write_ade20k_full,
    "folders, NPY": _bands("npy"),
    "folders, float NPY": _bands("float"),
    "folders, TIFF of 4 bands": _bands("tif"),
    "folders, PNG of 16 bits": _bands("png"),
    "folders, DICOM": _bands("dcm"),
    "coco, objects": write_coco,
    "coco, stuff": write_coco_stuff,
    "labelme, shapes": write_labelme_shapes,
    "coco_json, Label Studio": write_label_studio_coco,
}
