"""COCO's form with one's own categories: background, order, overlaps, crowds, gaps in the ids, Roboflow's heading."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dilated.data.check.check import check
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.formats import coco
from dilated.data.formats.coco_json import COCOInstances
from dilated.data.labels import Classes
from dilated.data.masks import compress_rle, encode_rle
from dilated.errors import InputError

ROBOFLOW = {
    "info": {
        "year": "2024",
        "version": "3",
        "description": "Exported from roboflow.com",
        "contributor": "",
        "url": "https://public.roboflow.com/object-detection/undefined",
        "date_created": "2024-05-01T09:00:00+00:00",
    },
    "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
    "categories": [
        {"id": 0, "name": "cell", "supercategory": "none"},
        {"id": 1, "name": "cell", "supercategory": "cell"},
        {"id": 2, "name": "edge", "supercategory": "cell"},
    ],
    "images": [
        {
            "id": 0,
            "license": 1,
            "file_name": "a_png.rf.0123abcd.jpg",
            "height": 4,
            "width": 6,
            "date_captured": "2024-05-01T09:00:00+00:00",
        }
    ],
    "annotations": [
        {
            "id": 0,
            "image_id": 0,
            "category_id": 2,
            "bbox": [0, 0, 3, 2],
            "area": 6,
            "segmentation": [[0, 0, 3, 0, 3, 2, 0, 2]],
            "iscrowd": 0,
        }
    ],
}


def box(x: float, y: float, right: float, bottom: float) -> list[list[float]]:
    return [[x, y, right, y, right, bottom, x, bottom]]


def thing(category: int, segmentation: object, **more: object) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": category, "iscrowd": 0, "segmentation": segmentation, **more}


def instances(*annotations: dict[str, Any], names: dict[int, str] | None = None) -> dict[str, Any]:
    names = names or {70: "edge", 3: "cell"}
    return {
        "info": {},
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}],
        "annotations": list(annotations),
        "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in names.items()],
    }


def write(root: Path, data: object, file: str = "annotations/instances_train.json", folder: str = "train") -> Path:
    for path in (root / file, root / folder / "a.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(data))
    Image.new("RGB", (6, 4)).save(root / folder / "a.png")
    return root


def first(data: Dataset) -> list[list[int]]:
    pair = pickle.loads(pickle.dumps(data.samples("train")[0]))
    return pair.read_label(pair.size()).tolist()


def test_categories_follow_the_background_in_the_order_of_their_ids(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, instances(thing(70, box(0, 0, 2, 1)), thing(3, box(0, 1, 6, 2)))))
    assert (data.format, data.splits) == ("coco_json", ("train",))
    assert data.classes.names == ("background", "cell", "edge")
    assert first(data) == [[2, 2, 0, 0, 0, 0], [1] * 6, [0] * 6, [0] * 6]
    assert any("no colors" in note for note in data.notes)


@pytest.mark.parametrize("step", [1, -1])
def test_the_smaller_object_is_on_top_and_crowds_are_their_class(step: int, tmp_path: Path) -> None:
    things = [thing(70, box(0, 0, 6, 4)), thing(3, box(0, 0, 2, 4)), thing(70, box(0, 0, 1, 4), iscrowd=1)]
    data = open_dataset(write(tmp_path, instances(*things[::step])))
    assert first(data)[0] == [2, 1, 2, 2, 2, 2]
    assert 'train.json: 1 object with iscrowd = 1 is read as its class; `crowds = "ignore"`' in "".join(data.notes)


COCO_INFO = {"description": "COCO 2017 Dataset", "contributor": "COCO Consortium", "year": 2017}
COCO_IMAGE = {"id": 7, "file_name": "000000000007.jpg", "height": 4, "width": 6}


@pytest.mark.parametrize(
    ("change", "rule", "value"),
    [
        ({}, "", 1),
        ({"info": COCO_INFO}, "", 255),
        ({"info": COCO_INFO}, "class", 1),
        ({"info": {"contributor": "dilated"}}, "", 255),
        ({}, "ignore", 255),
        ({}, "auto", 1),
        ({"categories": [{"id": i, "name": n} for i, n in (*coco._CATEGORIES, (99, "own"))]}, "", 255),
        ({"images": [COCO_IMAGE]}, "", 255),
        ({"images": [{**COCO_IMAGE, "id": 1}]}, "", 1),
    ],
)
def test_crowds_are_ignored_in_cocos_own_files_and_as_classes_toml_says(
    change: dict[str, Any], rule: str, value: int, tmp_path: Path
) -> None:
    runs = encode_rle(np.array([[True] * 6, [False] * 6, [False] * 6, [False] * 6]))
    data = {**instances(thing(3, {"size": [4, 6], "counts": runs}, iscrowd=1), names={3: "car"}), **change}
    data["annotations"][0]["image_id"] = data["images"][0]["id"]
    write(tmp_path, data)
    Image.new("RGB", (6, 4)).save(tmp_path / "train" / "000000000007.jpg")
    if rule:
        (tmp_path / "classes.toml").write_text(f'crowds = "{rule}"\n')
    read = open_dataset(tmp_path, "coco_json")
    expected = value if value == 255 else read.classes.names.index("car")
    assert first(read)[0] == [expected] * 6
    assert any(("ignored" if value == 255 else "its class") in note for note in read.notes)


def test_check_says_how_many_objects_are_crowds(tmp_path: Path) -> None:
    runs = {"size": [4, 6], "counts": [0, 4, 20]}
    write(tmp_path, instances(thing(3, runs, iscrowd=1), thing(70, runs, iscrowd=True)))
    assert any("2 objects with iscrowd = 1 are read as their class" in note for note in check(tmp_path).notes)


@pytest.mark.parametrize("segmentation", [[], None, [[0, 0, 4, 4]]])
def test_objects_without_a_mask_are_counted_and_skipped_where_classes_toml_says_so(
    segmentation: object, tmp_path: Path
) -> None:
    data = instances(thing(3, segmentation, id=8), thing(70, box(0, 0, 2, 1), id=9))
    with pytest.raises(InputError, match=r'annotation 8: .*objects_without_mask = "skip"'):
        open_dataset(write(tmp_path, data))
    (tmp_path / "classes.toml").write_text('objects_without_mask = "skip"\n')
    read = open_dataset(tmp_path)
    assert first(read)[0] == [2, 2, 0, 0, 0, 0]
    assert any("1 object without a mask left out" in note for note in read.notes)
    assert any("no colors" in note for note in read.notes)


def test_sizes_and_ids_may_be_of_any_kind_and_a_polygon_flat(tmp_path: Path) -> None:
    data = instances(thing(3, box(0, 0, 2, 1)[0]))
    data["images"] = [{"id": "one", "file_name": "a.png", "height": 4.0, "width": "6"}]
    data["annotations"][0].update(image_id="one", category_id="3")
    del data["annotations"][0]["iscrowd"]
    assert first(open_dataset(write(tmp_path, data)))[0] == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["images/a.png", "images\\a.png", "/data/media/upload/1/a.png", "../../media/a.png"])
def test_label_studios_result_json_lies_beside_its_images(name: str, tmp_path: Path) -> None:
    data = instances(thing(0, box(0, 0, 2, 1)), names={0: "Crack"})
    images = [{"id": i, "width": 6, "height": 4, "file_name": n} for i, n in ((1, name), (2, "images/b.png"))]
    if not name.startswith("images"):
        images[1]["file_name"] = "b.png"
    data["images"] = images
    write(write(tmp_path, data, "result.json", "images"), data, "result.json", "images")
    Image.new("RGB", (6, 4)).save(tmp_path / "images" / "b.png")
    (tmp_path / "train.txt").write_text("a\nb\n")
    read = open_dataset(tmp_path)
    assert (read.format, read.classes.names) == ("coco_json", ("background", "Crack"))
    assert [sample.name for sample in read.samples("train")] == ["a", "b"]
    assert first(read)[0] == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("packed", [False, True])
def test_runs_compressed_or_not(packed: bool, tmp_path: Path) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = mask[0, 0] = True
    runs = encode_rle(mask)
    data = instances(thing(3, {"size": [4, 6], "counts": compress_rle(runs) if packed else runs}))
    assert np.array_equal(first(open_dataset(write(tmp_path, data))), mask)


@pytest.mark.parametrize(
    ("file", "folder", "split"),
    [
        ("annotations/instances_train.json", "images/train", "train"),
        ("annotations/instances_train.json", "train2017", "train"),
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_train.json", "images", "train"),
        ("annotations/instances_Validation.json", "images/Validation", "val"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("test/_annotations.coco.json", "test", "test"),
    ],
)
def test_the_places_that_are_known(file: str, folder: str, split: str, tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, instances(thing(3, box(0, 0, 1, 1))), file, folder))
    assert (data.format, data.splits, len(data.samples(split))) == ("coco_json", (split,), 1)


def test_roboflows_heading_is_no_class(tmp_path: Path) -> None:
    write(tmp_path, ROBOFLOW, "train/_annotations.coco.json")
    Image.new("RGB", (6, 4)).save(tmp_path / "train" / "a_png.rf.0123abcd.jpg")
    data = open_dataset(tmp_path)
    assert data.classes.names == ("background", "cell", "edge")
    assert first(data)[0] == [2, 2, 2, 0, 0, 0]


def test_a_category_called_background_is_the_background_and_may_be_on_top(tmp_path: Path) -> None:
    things = [thing(1, box(0, 0, 6, 4)), thing(2, box(0, 0, 2, 4))]
    data = open_dataset(write(tmp_path, instances(*things, names={1: "cell", 2: "background"})))
    assert data.classes.names == ("background", "cell")
    assert first(data)[0] == [0, 0, 1, 1, 1, 1]


def test_cocos_own_categories_are_read_as_vocs_classes_and_others_never(tmp_path: Path) -> None:
    own = instances(thing(3, box(0, 0, 1, 1)), names=dict(coco._CATEGORIES))
    assert (
        open_dataset(write(tmp_path / "a", own, "annotations/instances_train2017.json", "train2017")).format == "coco"
    )
    more = instances(thing(3, box(0, 0, 1, 1)), names={**dict(coco._CATEGORIES), 91: "drone"})
    assert open_dataset(write(tmp_path / "b", more, "annotations/instances_train2017.json", "train2017")).format == (
        "coco_json"
    )
    few = instances(thing(1, box(0, 0, 1, 1)), names={1: "person"})
    data = open_dataset(write(tmp_path / "c", few, "annotations/instances_train2017.json", "train2017"))
    assert (data.format, data.classes.names) == ("coco_json", ("background", "person"))


def test_one_default_file_is_parted_by_lists_where_there_are_some(tmp_path: Path) -> None:
    data = instances()
    data["images"] = [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 6} for i in range(6)]
    write(tmp_path, data, "annotations/instances_default.json", "images")
    for i in range(6):
        Image.new("RGB", (6, 4)).save(tmp_path / "images" / f"{i}.png")
    found = open_dataset(tmp_path)
    assert found.splits == ("train", "val")
    assert sorted(p.name for s in found.splits for p in found.samples(s)) == list("012345")
    (tmp_path / "val.txt").write_text("3\n1.png\n")
    listed = open_dataset(tmp_path)
    assert (listed.splits, [p.name for p in listed.samples("val")]) == (("val",), ["3", "1"])
    (tmp_path / "val.txt").write_text("3\n9\n")
    with pytest.raises(InputError, match=r"val\.txt, line 2: found '9'"):
        open_dataset(tmp_path).samples("val")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (instances(thing(3, [])), "its segmentation has no polygon, .*a bounding box alone"),
        (instances(thing(4, box(0, 0, 1, 1))), "has category_id 4, which the file does not have"),
        (
            instances(thing(3, {"size": [6, 4], "counts": [24]})),
            r"its mask has the size \[6, 4\], and its image \[4, 6\]",
        ),
        (instances(names={1: "a", 2: "a"}), "categories: the name 'a' occurs twice"),
        (instances({"segments_info": [], "image_id": 1}), "panoptic"),
        ([], "'categories' is None"),
        (
            {**instances(), "images": [{"id": 1, "file_name": "b.png", "height": 4, "width": 6}]},
            "'b.png' is in none of",
        ),
        ({**instances(), "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 4}]}, "a label of 4x6"),
    ],
)
def test_what_cannot_be_read_exactly_is_an_error(data: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        first(open_dataset(write(tmp_path, data)))


def test_categories_that_differ_between_splits_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, instances())
    write(tmp_path, instances(names={3: "cell"}), "annotations/instances_val.json", "val")
    with pytest.raises(InputError, match=r"instances_val\.json: found the categories \['cell'\]\. Give those of"):
        open_dataset(tmp_path)


def test_two_files_of_one_split_are_an_error(tmp_path: Path) -> None:
    write(write(tmp_path, instances()), instances(), "annotations/instances_train2017.json")
    with pytest.raises(InputError, match="is a second file of train"):
        open_dataset(tmp_path)


@given(ids=arrays.arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, 255])))
@settings(max_examples=15, deadline=None)
@pytest.mark.filterwarnings("ignore:__array__")  # pycocotools' own
def test_pycocotools_reads_the_same_masks(ids: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    tools = pytest.importorskip("pycocotools.coco")
    root = tmp_path_factory.mktemp("coco")
    classes = Classes(("background", "cell", "edge"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    COCOInstances.save(root, "train", [("a", np.zeros((7, 9, 3), np.uint8), ids)], classes)
    with contextlib.redirect_stdout(io.StringIO()):
        read = tools.COCO(str(root / "annotations" / "instances_train.json"))
    drawn = np.zeros((7, 9), np.uint8)
    for annotation in read.loadAnns(read.getAnnIds()):
        drawn[read.annToMask(annotation) == 1] = 255 if annotation["iscrowd"] else annotation["category_id"]
    assert np.array_equal(drawn, ids)


def test_two_images_of_one_file_are_an_error(tmp_path: Path) -> None:
    data = instances(thing(3, box(0, 0, 2, 4)))
    data["images"].append({**data["images"][0], "id": 77})  # which would be the same image, all background
    with pytest.raises(InputError, match="two images have the file_name"):
        open_dataset(write(tmp_path, data)).samples("train")


@pytest.mark.parametrize("corners", [[], [1, 1], [0, 0, 4, 4]])
def test_a_polygon_of_fewer_than_three_corners_is_an_error(corners: list[float], tmp_path: Path) -> None:
    data = instances(thing(3, [corners]))
    with pytest.raises(InputError, match=r"annotation 1: cannot draw the polygon .* three pairs"):
        open_dataset(write(tmp_path, data)).samples("train")


@pytest.mark.parametrize("crowd", ["0", [], 2])
def test_a_crowd_that_is_neither_0_nor_1_is_an_error(crowd: object, tmp_path: Path) -> None:
    data = instances(thing(3, box(0, 0, 2, 4), iscrowd=crowd))
    with pytest.raises(InputError, match=r"'iscrowd' is .*Give 0 or 1"):
        open_dataset(write(tmp_path, data)).samples("train")


def test_an_id_that_is_true_or_false_is_an_error(tmp_path: Path) -> None:
    data = instances(thing(True, box(0, 0, 2, 4)))
    with pytest.raises(InputError, match="'category_id' is True"):
        open_dataset(write(tmp_path, data)).samples("train")


def test_what_labelme2coco_writes_has_the_background_of_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Visualization").mkdir()
    for folder in ("JPEGImages", "Visualization"):
        Image.new("RGB", (6, 4)).save(tmp_path / folder / "a.jpg")
    categories = [{"id": i, "name": name, "supercategory": None} for i, name in enumerate(("_background_", "cell"))]
    image = {"id": 0, "file_name": "JPEGImages/a.jpg", "width": 6, "height": 4, "url": None, "license": 0}
    entry = {"id": 0, "image_id": 0, "category_id": 1, "segmentation": box(0, 0, 3, 4), "area": 12.0, "iscrowd": 0}
    table = {"images": [image], "categories": categories, "annotations": [entry], "type": "instances"}
    (tmp_path / "annotations.json").write_text(json.dumps(table))
    (tmp_path / "train.txt").write_text("a")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.names) == ("coco_json", ("background", "cell"))
    (sample,) = data.samples("train")
    assert sample.read_label().tolist() == [[1, 1, 1, 0, 0, 0]] * 4
