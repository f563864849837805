"""COCO's panoptic form as COCO publishes it, and as it is written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tool_files import image, labels, text

from dilated.data.check.check import check
from dilated.data.convert import convert
from dilated.data.dataset import open_dataset
from dilated.data.formats import FORMATS
from dilated.data.labels import Classes
from dilated.errors import InputError

CATEGORIES = [
    {"supercategory": "person", "color": [220, 20, 60], "isthing": 1, "id": 1, "name": "person"},
    {"supercategory": "textile", "color": [255, 255, 128], "isthing": 0, "id": 92, "name": "banner"},
]
SEGMENTS = [
    {"id": 3226956, "category_id": 92, "iscrowd": 0, "bbox": [0, 0, 3, 4], "area": 12},
    {"id": 6979964, "category_id": 1, "iscrowd": 1, "bbox": [3, 0, 2, 4], "area": 8},
]


def panoptic(root: Path, split: str = "val2017", **changed: Any) -> Path:
    numbers = np.array([[3226956] * 3 + [6979964] * 2 + [0]] * 4)
    colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)
    images, annotations = [], []
    for i in (139, 285):
        image(root / split / f"{i:012}.jpg")
        path = root / "annotations" / f"panoptic_{split}" / f"{i:012}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors).save(path)
        images.append({"id": i, "file_name": f"{i:012}.jpg", "height": 4, "width": 6, "license": 1})
        annotations.append({"segments_info": SEGMENTS, "file_name": f"{i:012}.png", "image_id": i})
    data = {"info": {}, "images": images, "annotations": annotations, "categories": CATEGORIES, **changed}
    text(root / "annotations" / f"panoptic_{split}.json", json.dumps(data))
    return root


def test_segments_are_their_categories_in_the_order_of_the_ids(tmp_path: Path) -> None:
    data = open_dataset(panoptic(tmp_path))
    assert (data.format, data.splits) == ("coco_panoptic", ("val",))
    assert (data.classes.names, data.classes.colors) == (("person", "banner"), ((220, 20, 60), (255, 255, 128)))
    assert labels(data, "val") == [[[1, 1, 1, 0, 0, 255]] * 4] * 2
    assert [sample.name for sample in data.samples("val")] == ["000000000139", "000000000285"]
    assert "panoptic_val2017.json: 2 segments with iscrowd = 1 read as their class." in data.notes


def test_crowds_are_ignored_where_classes_toml_says_so(tmp_path: Path) -> None:
    text(panoptic(tmp_path) / "classes.toml", 'crowds = "ignore"\n')
    assert labels(open_dataset(tmp_path), "val")[0][0] == [1, 1, 1, 255, 255, 255]


@pytest.mark.parametrize("folder", ["images/val2017", "images", "photos"])
def test_images_and_pngs_may_lie_elsewhere(folder: str, tmp_path: Path) -> None:
    root = panoptic(tmp_path)
    (root / folder).mkdir(parents=True)
    for path in (root / "val2017").iterdir():
        path.rename(root / folder / path.name)
    (root / "annotations/panoptic_val2017").rename(root / "panoptic_val2017")
    assert len(labels(open_dataset(root), "val")) == 2


def test_images_without_an_annotation_are_left_out_and_counted(tmp_path: Path) -> None:
    root = panoptic(tmp_path)
    path = root / "annotations" / "panoptic_val2017.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "annotations": data["annotations"][:1]}))
    opened = open_dataset(root)
    assert len(opened.samples("val")) == 1
    assert "panoptic_val2017.json: 1 image without an annotation left out." in opened.notes


def test_missing_files_are_listed_by_check(tmp_path: Path) -> None:
    root = panoptic(tmp_path)
    (root / "val2017/000000000139.jpg").unlink()
    (root / "annotations/panoptic_val2017/000000000285.png").unlink()
    said = [finding.text for finding in check(root).errors]
    assert any("found no image '000000000139.jpg'" in line for line in said)
    assert any("000000000285.png: no such file" in line for line in said)


def test_another_segment_and_another_size_are_errors(tmp_path: Path) -> None:
    path = panoptic(tmp_path) / "annotations/panoptic_val2017/000000000139.png"
    Image.new("RGB", (6, 4), (1, 1, 0)).save(path)
    with pytest.raises(InputError, match=r"found the segment 257 at x=0, y=0, which panoptic_val2017\.json does not"):
        labels(open_dataset(tmp_path), "val")
    Image.new("RGB", (5, 4)).save(path)
    with pytest.raises(InputError, match="found a label of 5x4; expected 6x4"):
        labels(open_dataset(tmp_path), "val")
    Image.new("L", (6, 4)).save(path)
    with pytest.raises(InputError, match="has the mode 'L'"):
        labels(open_dataset(tmp_path), "val")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"categories": []}, "has no categories"),
        ({"categories": CATEGORIES * 2}, "two of one id"),
        (
            {"images": [{"id": i, "file_name": "a.jpg", "height": 4, "width": 6} for i in (1, 2)]},
            "the file_name 'a.jpg'",
        ),
        ({"annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": []}]}, "is of no image that the file"),
        ({"annotations": [{"image_id": 139, "file_name": "../a.png", "segments_info": []}]}, "its file_name is"),
        (
            {"annotations": [{"image_id": 139, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 2}]}]},
            "segment 1: has the category_id 2",
        ),
        (
            {"annotations": [{"image_id": 139, "file_name": "a.png", "segments_info": [{"id": 0, "category_id": 1}]}]},
            "segment 0 twice, or out of range",
        ),
    ],
)
def test_files_that_cannot_be_read_are_errors(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(panoptic(tmp_path, **changed))


def test_what_is_written_is_read_back_with_its_ignored_pixels(tmp_path: Path) -> None:
    classes = Classes(("sky", "road", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    ids = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
    FORMATS["coco_panoptic"].save(tmp_path / "a", "train", [("x", np.zeros((2, 3, 3), np.uint8), ids)], classes)
    data = open_dataset(tmp_path / "a")
    assert (data.format, data.classes.names, data.classes.colors) == ("coco_panoptic", classes.names, classes.colors)
    assert labels(data) == [ids.tolist()]
    convert(tmp_path / "a", tmp_path / "b", "folders")
    convert(tmp_path / "b", tmp_path / "c", "coco_panoptic")
    assert labels(open_dataset(tmp_path / "c")) == [ids.tolist()]
