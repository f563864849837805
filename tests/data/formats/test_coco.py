import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.formats import coco
from dilated.data.formats.coco import COCO
from dilated.data.masks import compress_rle
from dilated.errors import InputError

IMAGE = np.full((4, 6, 3), 90, dtype=np.uint8)
LABEL = np.array([[0, 15, 255, 1, 1, 0], [20, 20, 255, 1, 1, 0]] * 2, dtype=np.uint8)
masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
PERSON, TIE, DOG, COUCH = 1, 32, 18, 63
CATEGORIES = [*coco._CATEGORIES, (TIE, "tie")]


def box(x: float, y: float, right: float, bottom: float) -> list[list[float]]:
    return [[x, y, right, y, right, bottom, x, bottom]]


def thing(category: int, segmentation: object, image: int = 7, **more: object) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": category, "iscrowd": 0, "segmentation": segmentation, **more}


def instances(annotations: list[dict[str, Any]], images: tuple[int, ...] = (7,)) -> dict[str, Any]:
    """A file with the parts of a real one; images are 6 wide and 4 high."""
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [{"id": i, "file_name": f"{i:012}.jpg", "height": 4, "width": 6} for i in images],
        "annotations": annotations,
        "categories": [{"supercategory": "any", "id": i, "name": name} for i, name in CATEGORIES],
    }


def write(root: Path, data: object, name: str = "train2017", kind: str = "instances") -> Path:
    """A root with the file, and the images 7 and 9, made without the module under test."""
    for folder in ("annotations", name):
        (root / folder).mkdir(exist_ok=True, parents=True)
    (root / "annotations" / f"{kind}_{name}.json").write_text(json.dumps(data))
    for i in (7, 9):
        Image.fromarray(IMAGE).save(root / name / f"{i:012}.jpg")
    return root


def drawn(root: Path, *annotations: dict[str, Any]) -> list[list[int]]:
    pair = COCO(write(root, instances(list(annotations)))).samples("train")[0]
    return pair.read_label((4, 6)).tolist()


def test_objects_of_voc_are_drawn_and_others_are_background(tmp_path: Path) -> None:
    assert drawn(
        tmp_path, thing(PERSON, box(0, 0, 2, 2)), thing(TIE, box(0, 0, 1, 1)), thing(COUCH, box(4, 2, 6, 4))
    ) == [
        [15, 15, 0, 0, 0, 0],
        [15, 15, 0, 0, 0, 0],
        [0, 0, 0, 0, 18, 18],
        [0, 0, 0, 0, 18, 18],
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_object_is_on_top_in_any_order(order: int, tmp_path: Path) -> None:
    label = drawn(tmp_path, *[thing(COUCH, box(0, 0, 6, 4)), thing(DOG, box(1, 1, 3, 2), area=1e9)][::order])
    assert label[1] == [18, 12, 12, 18, 18, 18]
    assert label[0] == [18] * 6


def test_of_objects_of_one_size_the_later_is_on_top(tmp_path: Path) -> None:
    first, second = thing(DOG, box(0, 0, 3, 4)), thing(PERSON, box(2, 0, 5, 4))
    assert drawn(tmp_path, first, second)[0] == [12, 12, 15, 15, 15, 0]
    assert drawn(tmp_path, second, first)[0] == [12, 12, 12, 15, 15, 0]


def test_polygons_of_one_object_are_joined_even_where_they_overlap(tmp_path: Path) -> None:
    assert drawn(tmp_path, thing(DOG, box(0, 0, 3, 4) + box(2, 0, 5, 4)))[0] == [12, 12, 12, 12, 12, 0]


@pytest.mark.parametrize("counts", [[4, 2, 2, 2, 14], compress_rle([4, 2, 2, 2, 14])])
def test_a_crowd_is_ignored_whether_compressed_or_not(counts: object, tmp_path: Path) -> None:
    crowd = thing(PERSON, {"size": [4, 6], "counts": counts}, iscrowd=1)
    assert drawn(tmp_path, crowd, thing(DOG, box(0, 0, 6, 4))) == [
        [12, 255, 255, 12, 12, 12],
        [12, 255, 255, 12, 12, 12],
        [12] * 6,
        [12] * 6,
    ]


def test_a_crowd_of_another_category_is_background(tmp_path: Path) -> None:
    crowd = thing(TIE, {"size": [4, 6], "counts": [0, 24]}, iscrowd=1)
    assert drawn(tmp_path, crowd, thing(DOG, box(0, 0, 1, 4)))[0] == [12, 0, 0, 0, 0, 0]


def test_every_class_of_voc_has_its_category() -> None:
    renamed = {"airplane", "motorcycle", "couch", "potted plant", "dining table", "tv"}
    names = {name for _, name in coco._CATEGORIES}
    assert names - set(COCO.fixed_classes.names) == renamed
    assert len(names) == len({i for i, _ in coco._CATEGORIES}) == 20
    classes = {name: COCO.fixed_classes.names[coco._VOC_IDS[name]] for name in names}
    assert {name: classes.pop(name) for name in renamed} == {
        "airplane": "aeroplane",
        "motorcycle": "motorbike",
        "couch": "sofa",
        "potted plant": "pottedplant",
        "dining table": "diningtable",
        "tv": "tvmonitor",
    }
    assert all(name == to for name, to in classes.items())


def test_images_without_an_object_of_voc_are_left_out_and_need_not_be_there(tmp_path: Path) -> None:
    data = instances([thing(TIE, box(0, 0, 1, 1), 8), thing(DOG, box(0, 0, 1, 1), 9)], images=(7, 8, 9))
    pairs = open_dataset(write(tmp_path, data)).samples("train")
    assert [p.name for p in pairs] == [f"{9:012}"]


def test_pairs_can_be_sent_to_workers_and_hold_their_own_objects_alone(tmp_path: Path) -> None:
    many = [thing(DOG, box(0, 0, 1, 1), 9) for _ in range(200)]
    pairs = COCO(write(tmp_path, instances([thing(DOG, box(0, 0, 6, 1)), *many], (7, 9)))).samples("train")
    (tmp_path / "annotations/instances_train2017.json").unlink()
    sent = pickle.dumps(pairs[0])
    assert len(sent) < 2000
    assert pickle.loads(sent).read_label()[0].tolist() == [12] * 6


@pytest.mark.parametrize("below", [".", "coco"])
@pytest.mark.parametrize("images", [".", "images"])
@pytest.mark.parametrize("year", coco._YEARS)
def test_the_places_and_years_that_are_known(below: str, images: str, year: str, tmp_path: Path) -> None:
    root = write(tmp_path / below, instances([thing(DOG, box(0, 0, 1, 1))]), f"val{year}")
    (root / images).mkdir(exist_ok=True)
    (root / f"val{year}").rename(root / images / f"val{year}")
    data = open_dataset(tmp_path)
    assert (data.format, data.splits, len(data.samples("val"))) == ("coco", ("val",), 1)


def test_splits_are_of_one_year_that_with_images(tmp_path: Path) -> None:
    data = instances([thing(DOG, box(0, 0, 1, 1))])
    for name in ("train2014", "train2017", "val2014"):
        write(tmp_path, data, name)
    assert COCO(tmp_path).splits == ("train",)
    assert COCO(tmp_path).samples("train")[0].image.parent.name == "train2017"
    (tmp_path / "train2017").rename(tmp_path / "elsewhere")
    assert COCO(tmp_path).splits == ("train", "val")
    assert COCO(tmp_path).samples("train")[0].image.parent.name == "train2014"


def test_missing_parts_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"annotations/instances_train2017\.json: no such file, .*cocodataset\.org"):
        COCO(tmp_path).samples("train")
    both = [thing(DOG, box(0, 0, 1, 1)), thing(DOG, box(0, 0, 1, 1), 9), thing(DOG, box(0, 0, 1, 1), 10)]
    root = write(tmp_path, instances(both, (7, 9, 10)))
    with pytest.raises(InputError, match=rf"{10:012}\.jpg: no such file; 1 of the 3 .*instances_.*cocodataset"):
        COCO(root).samples("train")
    (root / "val2017").mkdir()
    assert COCO(root).splits == ("train", "val")
    with pytest.raises(InputError, match=r"instances_val2017\.json: no such file, .*cocodataset\.org"):
        COCO(root).samples("val")
    (root / "train2017").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"train2017: no such folder, .*cocodataset\.org"):
        COCO(root).samples("train")


def test_an_image_of_another_size_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = write(tmp_path, instances([thing(DOG, box(0, 0, 1, 1))]))
    Image.new("RGB", (4, 6)).save(root / "train2017" / f"{7:012}.jpg")
    with pytest.raises(InputError, match=rf"train2017\.json, {7:012}\.jpg: found a label of 6x4; expected 4x6"):
        COCO(root).samples("train")[0].read_label()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'{"images": [', b"[" * 200_000])
def test_a_file_that_is_no_json_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (write(tmp_path, {}) / "annotations/instances_train2017.json").write_bytes(content)
    with pytest.raises(InputError, match=r"instances_train2017\.json: not a whole JSON file"):
        COCO(tmp_path).samples("train")


@pytest.mark.parametrize(
    ("part", "index", "key", "value", "named"),
    [
        ("images", None, None, 3, "the file: 'images' is 3"),
        ("annotations", None, None, None, "the file: 'annotations' is None"),
        ("categories", None, None, [], "has no category that VOC has"),
        ("categories", 0, "id", TIE, "two categories have the id"),
        ("categories", 0, "name", ["person"], "category: 'name' is .*, not of the type str"),
        ("images", 0, "id", [7], "image: 'id' is .* Give a number or a text"),
        ("images", 0, "file_name", None, "image: 'file_name' is None"),
        ("images", 0, "height", "4.5", "image: 'height' is '4.5'"),
        ("images", 1, "id", 7, "two images have the id 7"),
        ("annotations", 0, None, "dog", "annotation: 'image_id' is None in 'dog'"),
        ("annotations", 0, "image_id", 3, "annotation 1: has image_id 3, which"),
        ("annotations", 0, "category_id", 99, "annotation 1: has category_id 99, which"),
        ("annotations", 0, "segmentation", None, "annotation 1: its segmentation has no polygon"),
        ("annotations", 0, "segmentation", [], "annotation 1: its segmentation has no polygon"),
        ("annotations", 0, "segmentation", [[]], r"annotation 1: cannot draw the polygon \[\]"),
        (
            "annotations",
            0,
            "segmentation",
            [[0, 0, 1, 0, 1]],
            "annotation 1: cannot draw the polygon .* pairs of x and y",
        ),
        ("annotations", 0, "segmentation", [[0, 0, 1, 0, 1, float("nan")]], "annotation 1: cannot draw the polygon"),
        ("annotations", 0, "segmentation", [[0, 0, 1, 0, 1, 1e300]], "annotation 1: cannot draw the polygon"),
        ("annotations", 0, "segmentation", [["0", "0"]], "annotation 1: .* is not a list of numbers"),
        ("annotations", 0, "segmentation", [[0, [0]]], "annotation 1: .* is not a list of numbers"),
        ("annotations", 0, "segmentation", [0, 0, 1, 0], "annotation 1: cannot draw the polygon"),
        ("annotations", 0, "segmentation", {"counts": [24]}, "annotation 1: its mask has the size None"),
        (
            "annotations",
            0,
            "segmentation",
            {"size": [6, 4], "counts": [24]},
            r"annotation 1: its mask has the size \[6, 4\]",
        ),
        ("annotations", 0, "segmentation", {"size": [4, 6]}, "annotation 1: 'counts' is None"),
        (
            "annotations",
            0,
            "segmentation",
            {"size": [4, 6], "counts": [2.5]},
            "annotation 1: .* is not a list of numbers",
        ),
        (
            "annotations",
            0,
            "segmentation",
            {"size": [4, 6], "counts": [3, 4]},
            "annotation 1 of .* its runs have 7 pixels",
        ),
        (
            "annotations",
            0,
            "segmentation",
            {"size": [4, 6], "counts": "3 4"},
            "annotation 1 of .* its compressed mask has the character",
        ),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it_and_the_place(
    part: str, index: int | None, key: str | None, value: object, named: str, tmp_path: Path
) -> None:
    data = instances([thing(DOG, box(0, 0, 1, 1))], (7, 9))
    if index is None:
        data[part] = value
    elif key is None:
        data[part][index] = value
    else:
        data[part][index][key] = value
    with pytest.raises(InputError, match=rf"instances_train2017\.json: {named}"):
        COCO(write(tmp_path, data)).samples("train")[0].read_label()


def pixel_maps(root: Path, **values: int) -> Path:
    """Images with pixel maps of one value each."""
    for folder in ("val2017", "stuffthingmaps/val2017"):
        (root / folder).mkdir(parents=True)
    for stem, value in values.items():
        Image.fromarray(IMAGE).save(root / "val2017" / f"{stem}.jpg")
        Image.new("L", (6, 4), value).save(root / "stuffthingmaps/val2017" / f"{stem}.png")
    return root


def test_pixel_maps_have_the_things_of_voc_on_background(tmp_path: Path) -> None:
    root = pixel_maps(tmp_path, a=0, b=181, c=71, d=31, e=255)
    values = np.array([[0, 1, 4, 31, 71, 255], [61, 62, 91, 181, 17, 11]] * 2, dtype=np.uint8)
    Image.fromarray(values).save(root / "stuffthingmaps/val2017/c.png")
    data = open_dataset(root)
    assert (data.format, data.splits) == ("coco", ("val",))
    pairs = data.samples("val")
    assert [p.name for p in pairs] == ["a", "c"]
    assert pairs[0].read_label((4, 6)).tolist() == [[15] * 6] * 4
    assert pairs[1].read_label((4, 6)).tolist()[:2] == [[15, 2, 1, 0, 20, 255], [9, 18, 0, 0, 12, 0]]


def test_a_pixel_map_that_is_missing_or_has_another_value_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = pixel_maps(tmp_path, a=0, b=182)
    with pytest.raises(InputError, match=r"b\.png: found the value 182"):
        COCO(root).samples("val")
    (root / "stuffthingmaps/val2017/b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png: no such file; 1 of the 2"):
        COCO(root).samples("val")


def test_an_instances_file_goes_before_pixel_maps(tmp_path: Path) -> None:
    root = write(tmp_path, instances([thing(DOG, box(0, 0, 1, 1))]))
    (root / "stuffthingmaps/train2017").mkdir(parents=True)
    assert [p.label.name for p in COCO(root).samples("train")] == ["instances_train2017.json"]


def test_of_a_stuff_file_things_of_voc_are_drawn_and_stuff_is_background(tmp_path: Path) -> None:
    data = instances([thing(DOG, box(0, 0, 1, 4)), thing(105, box(1, 0, 6, 4))])
    data["categories"].append({"id": 105, "name": "cloud"})
    pair = COCO(write(tmp_path, data, kind="stuff")).samples("train")[0]
    assert pair.read_label()[0].tolist() == [12, 0, 0, 0, 0, 0]


def test_a_stuff_file_without_things_is_an_error_that_says_so(tmp_path: Path) -> None:
    data = instances([])
    data["categories"] = [{"id": 105, "name": "cloud"}, {"id": 183, "name": "other"}]
    with pytest.raises(
        InputError, match=r"stuff_train2017\.json: has no category that VOC has.* Get an instances file"
    ):
        COCO(write(tmp_path, data, kind="stuff")).samples("train")


@pytest.mark.parametrize(
    "folders",
    [["images/train", "labels/train"], ["train", "trainannot"], ["annotations", "train2017"], ["coco"], ["img"]],
)
def test_other_layouts_are_not_mistaken_for_it(folders: list[str], tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert not COCO(tmp_path).detect()


@pytest.mark.parametrize("split", coco._SPLITS)
def test_what_is_saved_is_read_back(split: str, tmp_path: Path) -> None:
    other = np.full((4, 6), 255, dtype=np.uint8)
    empty = np.zeros((4, 6), dtype=np.uint8)
    COCO.save(tmp_path, split, iter([("b", IMAGE, LABEL), ("empty", IMAGE, empty), ("a", IMAGE, other)]))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("coco", (split,))
    assert [p.name for p in data.samples(split)] == ["b", "a"]
    for pair, ids in zip(data.samples(split), (LABEL, other), strict=True):
        assert np.array_equal(pair.read_label((4, 6)), ids)


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.uint8, (5, 4), elements=st.sampled_from([*range(21), 255])))
def test_any_label_with_an_object_is_read_back(tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray) -> None:
    root = tmp_path_factory.mktemp("coco")
    COCO.save(root, "train", [("a", np.zeros((5, 4, 3), np.uint8), ids)])
    pairs = COCO(root).samples("train")
    assert len(pairs) == ids.any()
    for pair in pairs:
        assert np.array_equal(pair.read_label(), ids)


def test_a_saved_file_has_what_other_readers_need(tmp_path: Path) -> None:
    COCO.save(tmp_path, "train", [("a", IMAGE, LABEL)])
    data = json.loads((tmp_path / "annotations/instances_train2017.json").read_text())
    found = {a["category_id"]: (a["area"], a["bbox"], a["iscrowd"]) for a in data["annotations"][:-1]}
    assert found == {5: (8, [3, 0, 2, 4], 0), 1: (2, [1, 0, 1, 3], 0), 72: (4, [0, 1, 2, 3], 0)}
    assert (data["annotations"][-1]["category_id"], data["annotations"][-1]["iscrowd"]) == (1, 1)
    assert data["images"] == [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 6}]


def test_an_unknown_split_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found the split 'train2017'\. Give one of train, val"):
        COCO.save(tmp_path, "train2017", [])
