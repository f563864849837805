"""Zip files as annotation tools and COCO offer them for download, with the files and texts that are in them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tool_files import labels

from dilated import check, open_dataset
from dilated.data.masks import compress_rle, encode_rle

HEIGHT, WIDTH = 8, 12
SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]
"""A polygon of x, y: pixels 2 to 5 of rows 1 to 4."""
README = "cells - v3 2024-05-01\n==============================\n\nThis dataset was exported via roboflow.com\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DILATED_CACHE", str(tmp_path / "cache"))


def image_bytes(suffix: str, pixels: NDArray[np.uint8] | None = None) -> bytes:
    file = io.BytesIO()
    content = np.full((HEIGHT, WIDTH, 3), 90, np.uint8) if pixels is None else pixels
    Image.fromarray(content).save(file, format={".jpg": "JPEG", ".png": "PNG"}[suffix])
    return file.getvalue()


def make_zip(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def square(value: int) -> NDArray[np.uint8]:
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[1:5, 2:6] = value
    return label


def roboflow_coco(stem: str) -> str:
    """`_annotations.coco.json`, whose first category is a heading."""
    name = f"{stem}_jpg.rf.0123456789abcdef0123456789abcdef.jpg"
    group = "cells-abcd"
    names = {0: group, 1: "cell", 2: "dirt"}
    categories = [{"id": i, "name": name, "supercategory": group if i else "none"} for i, name in names.items()]
    size = {"height": HEIGHT, "width": WIDTH}
    shape = {"bbox": [2, 1, 4, 4], "area": 16, "segmentation": [SQUARE], "iscrowd": 0}
    content: dict[str, Any] = {
        "info": {"year": "2024", "version": "3", "description": "Exported from roboflow.com", "contributor": ""},
        "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
        "categories": categories,
        "images": [{"id": 0, "license": 1, "file_name": name, "extra": {"name": stem}, **size}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 2, **shape}],
    }
    return json.dumps(content)


def roboflow_image(stem: str, split: str) -> str:
    return f"{split}/{stem}_jpg.rf.0123456789abcdef0123456789abcdef.jpg"


def test_roboflows_coco_segmentation(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"README.dataset.txt": README, "README.roboflow.txt": README}
    for split, stem in (("train", "a"), ("valid", "b"), ("test", "c")):
        files[roboflow_image(stem, split)] = image_bytes(".jpg")
        files[f"{split}/_annotations.coco.json"] = roboflow_coco(stem)
    data = open_dataset(make_zip(tmp_path / "cells.v3i.coco-segmentation.zip", files))
    assert (data.format, data.splits, data.classes.names) == (
        "coco_json",
        ("train", "val", "test"),
        ("background", "cell", "dirt"),
    )
    for split in data.splits:
        assert labels(data, split) == [square(2).tolist()]


def test_roboflows_yolo_segmentation(tmp_path: Path) -> None:
    points = " ".join(f"{v / (HEIGHT if i % 2 else WIDTH):.10f}" for i, v in enumerate(SQUARE))
    files: dict[str, str | bytes] = {
        "README.dataset.txt": README,
        "data.yaml": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        "names: ['cell', 'dirt']\n\nroboflow:\n  workspace: w\n  project: cells-abcd\n  version: 3\n",
    }
    for split, stem in (("train", "a"), ("valid", "b"), ("test", "c")):
        name = f"{stem}_jpg.rf.0123456789abcdef0123456789abcdef"
        files[f"{split}/images/{name}.jpg"] = image_bytes(".jpg")
        files[f"{split}/labels/{name}.txt"] = f"1 {points}"
    data = open_dataset(make_zip(tmp_path / "cells.v3i.yolov8.zip", files))
    assert (data.format, data.splits, data.classes.names) == (
        "yolo",
        ("train", "val", "test"),
        ("background", "cell", "dirt"),
    )
    assert labels(data, "val") == [square(2).tolist()]


def test_roboflows_masks_with_their_table_of_classes(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"README.dataset.txt": README, "README.roboflow.txt": README}
    for split, stem in (("train", "a"), ("valid", "b"), ("test", "c")):
        image = roboflow_image(stem, split)
        files[image] = image_bytes(".jpg")
        files[image.replace(".jpg", "_mask.png")] = image_bytes(".png", square(2))
        files[f"{split}/_classes.csv"] = "Pixel Value, Class\n0, background\n1, cell\n2, dirt\n"
    data = open_dataset(make_zip(tmp_path / "cells.v3i.png-mask-semantic.zip", files))
    assert (data.splits, data.classes.names) == (("train", "val", "test"), ("background", "cell", "dirt"))
    assert labels(data, "train") == [square(2).tolist()]


CVAT_XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><job><id>3</id><size>2</size><mode>annotation</mode><labels>
    <label><name>cell</name><color>#ff0000</color><type>any</type><attributes></attributes></label>
    <label><name>dirt</name><color>#00ff00</color><type>any</type><attributes></attributes></label>
  </labels></job><dumped>2024-05-01 10:00:00.000000+00:00</dumped></meta>
  <image id="0" name="a.png" width="12" height="8">
    <polygon label="dirt" source="manual" occluded="0" points="2.00,1.00;6.00,1.00;6.00,5.00;2.00,5.00" z_order="0">
    </polygon>
  </image>
  <image id="1" name="b.png" width="12" height="8">
    <box label="dirt" source="manual" occluded="0" xtl="2.00" ytl="1.00" xbr="6.00" ybr="5.00" z_order="0">
    </box>
  </image>
</annotations>
"""


def test_cvats_images_1_1_with_its_images(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"annotations.xml": CVAT_XML}
    files |= {f"images/{name}.png": image_bytes(".png") for name in "ab"}
    data = open_dataset(make_zip(tmp_path / "task_7_annotations_2024_05_01_cvat for images 1.1.zip", files))
    assert (data.format, data.classes.names) == ("cvat_images", ("background", "cell", "dirt"))
    every = [
        label
        for split in data.splits
        for label in (labels(data, split) if data.contents.match_split(split).samples else [])
    ]
    assert every == [square(2).tolist()] * 2


def test_cvats_segmentation_mask_1_1_with_its_images(tmp_path: Path) -> None:
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[square(2)]
    files: dict[str, str | bytes] = {
        "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:255,0,0::\ndirt:0,255,0::\n",
        "ImageSets/Segmentation/train.txt": "a\n",
        "ImageSets/Segmentation/val.txt": "b\n",
    }
    for name in "ab":
        files[f"JPEGImages/{name}.jpg"] = image_bytes(".jpg")
        files[f"SegmentationClass/{name}.png"] = image_bytes(".png", colors)
        files[f"SegmentationObject/{name}.png"] = image_bytes(".png", colors)
    data = open_dataset(make_zip(tmp_path / "task_7_segmentation mask 1.1.zip", files))
    assert (data.format, data.classes.names) == ("cvat", ("background", "cell", "dirt"))
    assert labels(data, "val") == [square(2).tolist()]


def coco_stuff(number: int) -> str:
    """`stuff_train2017.json`: run lengths by category, of which 183 is all that is a thing."""
    mask = square(1).astype(bool)
    frame = {"bbox": [0, 0, WIDTH, HEIGHT], "iscrowd": 0, "image_id": number}
    annotations = []
    for category, part in ((124, mask), (183, ~mask)):
        runs = {"counts": compress_rle(encode_rle(part)), "size": [HEIGHT, WIDTH]}
        area = int(part.sum())
        annotations.append(
            {"id": 1000 * number + category, "category_id": category, "segmentation": runs, "area": area, **frame}
        )
    categories = [
        {"supercategory": "plant", "id": 124, "name": "grass"},
        {"supercategory": "other", "id": 183, "name": "other"},
    ]
    image = {"file_name": f"{number:012d}.jpg", "id": number, "height": HEIGHT, "width": WIDTH, "license": 1}
    return json.dumps(
        {"info": {}, "licenses": [], "images": [image], "annotations": annotations, "categories": categories}
    )


def test_cocos_stuff_in_the_parts_of_its_download(tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    folder.mkdir()
    for number, split in enumerate(("train", "val"), 1):
        make_zip(folder / f"{split}2017.zip", {f"{split}2017/{number:012d}.jpg": image_bytes(".jpg")})
    annotations: dict[str, str | bytes] = {
        f"annotations/stuff_{split}2017.json": coco_stuff(number) for number, split in enumerate(("train", "val"), 1)
    }
    make_zip(folder / "stuff_annotations_trainval2017.zip", annotations)
    data = open_dataset(folder)
    assert (data.format, data.splits) == ("coco_json", ("train", "val"))
    grass, other = (data.classes.names.index(name) for name in ("grass", "other"))
    assert labels(data) == [np.where(square(1), grass, other).tolist()]


def test_a_zip_of_boxes_is_refused_with_the_way_out(tmp_path: Path) -> None:
    content = json.loads(roboflow_coco("a"))
    content["annotations"][0]["segmentation"] = []
    files: dict[str, str | bytes] = {
        f"{split}/_annotations.coco.json": json.dumps(content).replace("a_jpg", f"{split}_jpg")
        for split in ("train", "valid")
    }
    files |= {roboflow_image(split, split): image_bytes(".jpg") for split in ("train", "valid")}
    report = check(make_zip(tmp_path / "boxes.zip", files))
    assert "objects_without_mask" in report.errors[0].text
