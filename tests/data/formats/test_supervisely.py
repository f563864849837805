"""Supervisely's projects as it exports them."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tool_files import image, labels, text

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.errors import InputError

META = {
    "classes": [
        {"title": "kiwi", "shape": "bitmap", "color": "#FF0000", "geometry_config": {}, "id": 1, "hotkey": ""},
        {"title": "leaf", "shape": "polygon", "color": "#00FF00", "geometry_config": {}, "id": 2, "hotkey": ""},
    ],
    "tags": [],
    "projectType": "images",
}
RING = [[True, True, True], [True, False, True], [True, True, True]]
RING_TEXT = (  # of a ring of 3x3, from the documentation of Supervisely's SDK
    "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44sKHhISMDuxpTYrr0"
    "3F6gDIOnq5/LOqeEJgDM5ht6"
)


def figure(kind: str, title: str = "kiwi", **more: Any) -> dict[str, Any]:
    return {"id": 9, "classId": 1, "description": "", "geometryType": kind, "tags": [], "classTitle": title, **more}


def polygon(exterior: list[Any], *interior: list[Any], title: str = "leaf") -> dict[str, Any]:
    return figure("polygon", title, points={"exterior": exterior, "interior": list(interior)})


def bitmap(data: str, left: int, top: int) -> dict[str, Any]:
    return figure("bitmap", bitmap={"data": data, "origin": [left, top]})


def project(root: Path, *objects: dict[str, Any], datasets: tuple[str, ...] = ("ds0",)) -> Path:
    text(root / "meta.json", json.dumps(META))
    for dataset in datasets:
        for stem in "ab":
            image(root / dataset / "img" / f"{stem}.jpg")
            data = {"description": "", "tags": [], "size": {"height": 4, "width": 6}, "objects": list(objects)}
            text(root / dataset / "ann" / f"{stem}.jpg.json", json.dumps(data))
    return root


def read(root: Path, *objects: dict[str, Any]) -> list[list[int]]:
    data = open_dataset(project(root, *objects))
    label = [labels(data, split)[0] for split in data.splits]
    assert label[0] == label[1]
    return label[0]


def encode(pixels: np.ndarray, mode: str, packed: bool = True) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, "PNG")
    return base64.b64encode(zlib.compress(buffer.getvalue()) if packed else buffer.getvalue()).decode()


def test_bitmaps_and_polygons_with_holes_are_drawn_in_their_order(tmp_path: Path) -> None:
    leaf = polygon([[0, 0], [6, 0], [6, 4], [0, 4]], [[4, 0], [6, 0], [6, 2], [4, 2]])
    assert read(tmp_path, leaf, bitmap(RING_TEXT, 1, 1)) == [
        [2, 2, 2, 2, 0, 0],
        [2, 1, 1, 1, 0, 0],
        [2, 1, 2, 1, 2, 2],
        [2, 1, 1, 1, 2, 2],
    ]
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.names) == ("supervisely", ("background", "kiwi", "leaf"))
    assert data.classes.colors == ((0, 0, 0), (255, 0, 0), (0, 255, 0))
    assert {sample.name for split in data.splits for sample in data.samples(split)} == {"a", "b"}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGBA", "LA"])
def test_bitmaps_of_any_mode_are_that_mask(mode: str, packed: bool, tmp_path: Path) -> None:
    on = np.array(RING, np.uint8) * 255
    pixels = {"L": on, "RGBA": np.stack([on] * 4, -1), "LA": np.stack([on * 0, on], -1)}[mode]
    assert (
        np.array(read(tmp_path, bitmap(encode(pixels, mode, packed), 0, 0)))[:3, :3].tolist() == np.array(RING).tolist()
    )


def test_a_bitmap_beyond_the_border_is_cut_off(tmp_path: Path) -> None:
    assert read(tmp_path, bitmap(RING_TEXT, 5, -1)) == [[0] * 5 + [1], [0] * 5 + [1], [0] * 6, [0] * 6]


def test_parts_of_a_multipolygon_lie_in_the_holes_of_others(tmp_path: Path) -> None:
    ring = {"exterior": [[0, 0], [5, 0], [5, 4], [0, 4]], "interior": [[[1, 0], [4, 0], [4, 4], [1, 4]]]}
    island = {"exterior": [[2, 0], [3, 0], [3, 4], [2, 4]], "interior": []}
    assert read(tmp_path, figure("multipolygon", parts=[ring, island])) == [[1, 0, 1, 0, 1, 0]] * 4


def test_rectangles_are_filled_and_said(tmp_path: Path) -> None:
    box = figure("rectangle", points={"exterior": [[4, 4], [2, 0]], "interior": []})
    assert read(tmp_path, box) == [[0, 0, 1, 1, 0, 0]] * 4
    assert "2 rectangles drawn as filled rectangles." in open_dataset(tmp_path).notes


def test_datasets_of_the_names_of_splits_are_the_splits(tmp_path: Path) -> None:
    data = open_dataset(project(tmp_path, polygon([[0, 0], [6, 0], [6, 1]]), datasets=("train", "validation")))
    assert data.splits == ("train", "val")
    assert [sample.name for sample in data.samples("val")] == ["validation__a", "validation__b"]


def test_nested_datasets_are_read_and_bare_images_left_out(tmp_path: Path) -> None:
    root = project(tmp_path, polygon([[0, 0], [6, 0], [6, 1]]), datasets=("one", "one/datasets/two"))
    image(root / "one" / "img" / "bare.jpg")
    (root / "one" / "ann" / "a.jpg.json").rename(root / "one" / "ann" / "a.json")  # as older exports have it
    data = open_dataset(root)
    names = {sample.name for split in data.splits for sample in data.samples(split)}
    assert names == {"one__a", "one__b", "one__two__a", "one__two__b"}
    assert any("1 image without a file in ann/ left out" in note and "bare.jpg" in note for note in data.notes)


def test_a_missing_image_is_listed_by_check(tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / "ds0" / "img" / "a.jpg").unlink()
    image(root / "ds0" / "masks_machine" / "a.jpg")  # which other exports of the tool have beside img/
    assert any("a.jpg.json: Supervisely: found no image" in finding.text for finding in check(root).errors)


@pytest.mark.parametrize("kind", ["line", "point", "graph", "cuboid"])
def test_shapes_without_area_are_an_error_or_left_out(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a\.jpg\.json: object 0 \({kind}\): a {kind} has no area"):
        read(tmp_path, figure(kind))
    text(tmp_path / "classes.toml", 'objects_without_mask = "skip"\n')
    assert read(tmp_path, figure(kind)) == [[0] * 6] * 4
    assert any("2 objects without a mask left out" in note for note in open_dataset(tmp_path).notes)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (figure("bitmap", "plum"), "has the class 'plum', which meta.json lacks"),
        (figure("bitmap"), "'bitmap' is None"),
        (bitmap("%%%", 0, 0), r"object 0 \(bitmap\) of a.jpg: its bitmap is not base64 of a PNG"),
        (bitmap(base64.b64encode(zlib.compress(b"no image")).decode(), 0, 0), "its bitmap: .*no image format"),
        (bitmap(RING_TEXT[:80], 0, 0), "its bitmap is not base64 of a PNG"),
        (figure("bitmap", bitmap={"data": RING_TEXT, "origin": [1]}), r"its origin is \[1\]"),
        (polygon([[0, 0], [1, 1]]), "cannot draw a polygon"),
        (polygon([[0, 0], [6, 0], [6, 1]], [[1, 1]]), "cannot draw a hole"),
        (figure("polygon", points={"exterior": [[0, 0], [6, 0], [6, 1]], "interior": 7}), "its interior is 7"),
        ({**figure("bitmap"), "geometryType": ["bitmap"]}, r"its geometryType is \['bitmap'\]"),
        (figure("alpha_mask"), r"\(alpha_mask\): is of an unknown kind; bitmap, polygon"),
    ],
)
def test_objects_that_cannot_be_read_exactly_are_errors(entry: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, entry)


def test_a_bitmap_that_unpacks_to_gigabytes_is_an_error(tmp_path: Path) -> None:
    bomb = base64.b64encode(zlib.compress(bytes(100_000_000), 9)).decode()
    assert len(bomb) < 200_000
    with pytest.raises(InputError, match="cut off, or too large"):
        read(tmp_path, bitmap(bomb, 0, 0))
