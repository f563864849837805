"""Datumaro's files as datumaro and CVAT write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tool_files import image, labels, text

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.data.masks import compress_rle, encode_rle
from dilated.errors import InputError

LABELS = [{"name": name, "parent": "", "attributes": []} for name in ("background", "cell", "edge")]
COLORS = [{"label_id": i, "r": 10 * i, "g": 20 * i, "b": 30 * i} for i in range(3)]


def shape(kind: str, label: int | None = 1, z_order: int = 0, **more: Any) -> dict[str, Any]:
    attributes = {"occluded": False}
    return {"id": 0, "type": kind, "attributes": attributes, "group": 0, "label_id": label, "z_order": z_order, **more}


def mask(rows: list[list[int]], label: int = 2, **more: Any) -> dict[str, Any]:
    array = np.array(rows) > 0
    return shape("mask", label, rle={"counts": compress_rle(encode_rle(array)), "size": list(array.shape)}, **more)


def dataset(root: Path, *shapes: dict[str, Any], subset: str = "default", **more: Any) -> Path:
    items = []
    for stem in ("a", "sub/b"):
        image(root / "images" / subset / f"{stem}.jpg")
        photo = {"path": f"{stem}.jpg", "size": [4, 6]}
        items.append({"id": stem, "annotations": list(shapes), "attr": {"frame": 0}, "image": photo})
    categories = {"label": {"labels": LABELS, "attributes": ["occluded"]}, "mask": {"colormap": COLORS}}
    data = {"info": {}, "categories": categories, "items": items, **more}
    text(root / "annotations" / f"{subset}.json", json.dumps(data))
    return root


def read(root: Path, *shapes: dict[str, Any]) -> list[list[int]]:
    data = open_dataset(dataset(root, *shapes))
    label = [labels(data, split)[0] for split in data.splits]
    assert label[0] == label[1]
    return label[0]


def test_shapes_are_drawn_by_their_z_order(tmp_path: Path) -> None:
    left = [[1, 1, 0, 0, 0, 0]] * 4
    assert read(
        tmp_path,
        mask(left, z_order=1),
        shape("bbox", bbox=[1.0, 0.0, 5.0, 2.0]),
        shape("polygon", 0, points=[5.0, 0.0, 6.0, 0.0, 6.0, 4.0, 5.0, 4.0]),
        shape("label"),
        shape("caption", caption="cells"),
    ) == [[2, 2, 1, 1, 1, 0], [2, 2, 1, 1, 1, 0], [2, 2, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0]]
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.names) == ("datumaro", ("background", "cell", "edge"))
    assert data.classes.colors == ((0, 0, 0), (10, 20, 30), (20, 40, 60))
    assert "2 boxes drawn as filled boxes." in data.notes


def test_a_box_is_turned_by_its_attribute_and_an_ellipse_fills_its_box(tmp_path: Path) -> None:
    turned = shape("bbox", bbox=[1.0, 1.0, 4.0, 2.0], attributes={"rotation": 90.0})
    assert read(tmp_path, turned) == [[0, 0, 1, 1, 0, 0]] * 4
    assert read(tmp_path, shape("ellipse", points=[0.0, 1.0, 6.0, 3.0])) == [[0] * 6, [1] * 6, [1] * 6, [0] * 6]


@pytest.mark.parametrize(
    ("subsets", "splits"), [(("train", "val"), ("train", "val")), (("Train", "Test"), ("train", "test"))]
)
def test_files_are_the_splits(subsets: tuple[str, ...], splits: tuple[str, ...], tmp_path: Path) -> None:
    for subset in subsets:
        dataset(tmp_path, shape("bbox", bbox=[0.0, 0.0, 6.0, 1.0]), subset=subset)
    data = open_dataset(tmp_path)
    assert data.splits == splits
    assert [sample.image.relative_to(tmp_path / "images").as_posix() for sample in data.samples("train")] == [
        f"{subsets[0]}/a.jpg",
        f"{subsets[0]}/sub/b.jpg",
    ]


def test_files_of_other_labels_are_an_error(tmp_path: Path) -> None:
    dataset(tmp_path, subset="train")
    dataset(tmp_path, subset="val", categories={"label": {"labels": LABELS[:2]}})
    with pytest.raises(InputError, match=r"val\.json: its labels are .* Give those of train\.json"):
        open_dataset(tmp_path)


def test_a_missing_image_is_listed_by_check(tmp_path: Path) -> None:
    root = dataset(tmp_path)
    (root / "images/default/a.jpg").unlink()
    assert any("Datumaro: found no image 'a.jpg'" in finding.text for finding in check(root).errors)


@pytest.mark.parametrize("kind", ["polyline", "points", "cuboid_3d", "skeleton"])
def test_shapes_without_area_are_an_error_or_left_out(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"item a: annotation 0 \({kind}\): a {kind} has no area"):
        read(tmp_path, shape(kind))
    text(tmp_path / "classes.toml", 'objects_without_mask = "skip"\n')
    assert read(tmp_path, shape(kind), shape("bbox", None, bbox=[0, 0, 1, 1])) == [[0] * 6] * 4
    assert any("2 objects without a mask left out (objects without a label)" in n for n in open_dataset(tmp_path).notes)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (shape("bbox", 3, bbox=[0, 0, 1, 1]), "has the label_id 3. Give 0 to 2"),
        (shape("bbox", bbox=[0, 0, 1]), "its points are 3 numbers"),
        (shape("bbox", bbox=None), "'bbox' is None"),
        (shape("bbox", bbox=[0, 0, 1, "x"]), "cannot draw a bbox"),
        (shape("polygon", points=[0, 0, 1, 1]), "cannot draw a polygon"),
        (shape("ellipse", points=[0, 0, 0, 1]), "give two corners of its box|Give two corners"),
        (mask([[1, 0]]), r"its mask has the size \[1, 2\], and its image \[4, 6\]"),
        (shape("mask", rle={"counts": "~", "size": [4, 6]}), r"annotation 0 \(mask\) of a.jpg: its compressed mask"),
        (shape("rotated_bbox"), r"\(rotated_bbox\): is of an unknown kind; polygon, mask, bbox and ellipse"),
        (shape("bbox", bbox=[0, 0, 1, 1], z_order="x"), "z_order is 'x'"),
        ({"label_id": 1}, "'type' is None"),
    ],
)
def test_objects_that_cannot_be_read_exactly_are_errors(entry: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, entry)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"items": [{"id": "a", "annotations": [], "image": {"path": "a.jpg", "size": [4]}}]}, "the size of its image"),
        ({"items": [{"id": "a", "annotations": []}]}, "'image' is None"),
        ({"categories": {"label": {"labels": [7]}}}, "label 0"),
    ],
)
def test_files_that_cannot_be_read_are_errors(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(dataset(tmp_path, **changed))


def test_without_the_size_of_the_image_that_of_its_masks_is_compared(tmp_path: Path) -> None:
    turned = [[1, 0, 0, 0]] * 6
    items = [{"id": stem, "annotations": [mask(turned)], "image": {"path": f"{stem}.jpg"}} for stem in ("a", "sub/b")]
    data = open_dataset(dataset(tmp_path, items=items))
    with pytest.raises(InputError, match="found a label of 4x6; expected 6x4"):
        labels(data, data.splits[0])
