"""labelme's files as it writes them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tool_files import image, labels, text

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.errors import InputError

LABELME = """{
  "version": "5.4.1",
  "flags": {},
  "shapes": [
    {
      "label": "cell",
      "points": [[0.0, 0.0], [6.0, 0.0], [6.0, 2.0], [0.0, 2.0]],
      "group_id": null, "description": "", "shape_type": "polygon", "flags": {}, "mask": null
    },
    {
      "label": "axon",
      "points": [[5.0, 4.0], [3.0, 1.0]],
      "group_id": 1, "description": "", "shape_type": "rectangle", "flags": {}, "mask": null
    },
    {
      "label": "__ignore__",
      "points": [[0.5, 3.5], [1.0, 3.5]],
      "group_id": null, "description": "", "shape_type": "circle", "flags": {}, "mask": null
    },
    {
      "label": "_background_",
      "points": [[0, 0], [1, 0], [1, 1], [0, 1]],
      "group_id": null, "shape_type": "polygon", "flags": {}
    }
  ],
  "imagePath": "..\\\\images\\\\a.jpg",
  "imageData": "iVBORw0KGgo=",
  "imageHeight": 4,
  "imageWidth": 6
}"""


def labelme(root: Path, content: str = LABELME) -> Path:
    image(root / "images" / "a.jpg")
    text(root / "train" / "a.json", content)
    return root


def test_labelmes_shapes_are_drawn_in_their_order(tmp_path: Path) -> None:
    data = open_dataset(labelme(tmp_path))
    assert (data.format, data.splits) == ("labelme", ("train",))
    assert data.classes.names == ("background", "axon", "cell")
    assert labels(data) == [
        [[0, 2, 2, 2, 2, 2], [2, 2, 2, 1, 1, 2], [0, 0, 0, 1, 1, 0], [255, 0, 0, 1, 1, 0]],
    ]
    assert data.samples("train")[0].image == tmp_path / "train" / "../images/a.jpg"


def test_labelmes_labels_txt_says_the_classes_and_their_order(tmp_path: Path) -> None:
    text(labelme(tmp_path) / "labels.txt", "__ignore__\n_background_\ncell\naxon\nglia\n")
    assert open_dataset(tmp_path).classes.names == ("background", "cell", "axon", "glia")
    text(tmp_path / "labels.txt", "__ignore__\n_background_\ncell\n")
    with pytest.raises(InputError, match=r"a\.json: shapes\[1\] 'axon': is no class\. Give one of background, cell"):
        labels(open_dataset(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"circle"', '"linestrip"', r"shapes\[2\] '__ignore__': found a shape of the type 'linestrip', .*`line_width"),
        ('"circle"', '"mask"', "__ignore__': found the mask None. Give an image as base64"),
        ('"circle"', '"cuboid"', "of the type 'cuboid'; expected polygon, rectangle"),
        ("[[5.0, 4.0], [3.0, 1.0]]", "[[5.0, 4.0]]", "a rectangle. Give two points, or four"),
        ("[[5.0, 4.0], [3.0, 1.0]]", '[["x", 4.0]]', "a rectangle. Give two points, or four"),
        ('"imageHeight": 4', '"imageHeight": 5', "found a label of 6x5; expected 6x4"),
        ('"imageHeight": 4,\n  "imageWidth": 6', '"imageHeight": 6,\n  "imageWidth": 4', r"have been turned .*EXIF"),
        ('"label": "cell",', "", r"shapes\[0\]: 'label' is None"),
        ("a.jpg", "b.jpg", "imageData: the file has 8 bytes that are no image"),
        ('a.jpg",\n  "imageData": "iVBORw0KGgo="', 'b.jpg"', "imagePath: found .*b.jpg"),
        ('"imageWidth": 6\n}', "", "not a whole JSON file"),
    ],
)
def test_labelmes_files_that_cannot_be_read_exactly_are_errors(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in LABELME
    with pytest.raises(InputError, match=said):
        labels(open_dataset(labelme(tmp_path, LABELME.replace(old, new))))


def test_labelmes_files_without_split_folders_are_parted_and_bare_images_said(tmp_path: Path) -> None:
    for stem in "abcde":
        image(tmp_path / f"{stem}.jpg")
        if stem != "e":
            text(tmp_path / f"{stem}.json", LABELME.replace("..\\\\images\\\\a.jpg", f"{stem}.jpg"))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("labelme", ("train", "val"))
    assert sorted(p.name for s in data.splits for p in data.samples(s)) == list("abcd")
    assert any("1 images without a .json" in note and "e.jpg" in note for note in data.notes)


def test_an_old_labelme_file_without_types_or_size_is_of_polygons(tmp_path: Path) -> None:
    old: dict[str, Any] = {"flags": {}, "shapes": [{"label": "cell", "points": [[0, 0], [6, 0], [6, 1], [0, 1]]}]}
    data = open_dataset(labelme(tmp_path, json.dumps({**old, "imagePath": "../images/a.jpg", "imageData": None})))
    assert labels(data)[0][:2] == [[1] * 6, [0] * 6]


@pytest.mark.parametrize("kind", ["[1]", '{"a": 1}', "7", "true"])
def test_a_type_of_shape_that_is_no_text_is_an_error(kind: str, tmp_path: Path) -> None:
    data = open_dataset(labelme(tmp_path, LABELME.replace('"shape_type": "rectangle"', f'"shape_type": {kind}')))
    with pytest.raises(InputError, match="found a shape of the type"):
        labels(data)


def test_a_corner_of_hundreds_of_digits_is_an_error(tmp_path: Path) -> None:
    data = open_dataset(labelme(tmp_path, LABELME.replace("[6.0, 2.0]", f"[6.0, {'9' * 400}]")))
    with pytest.raises(InputError, match=r"of a polygon. Give three points or more"):
        labels(data)


def test_an_image_of_a_name_that_no_file_can_have_is_an_error(tmp_path: Path) -> None:
    content = LABELME.replace("a.jpg", f"{'a' * 5000}.jpg").replace('"iVBORw0KGgo="', "null")
    data = labelme(tmp_path, content)
    with pytest.raises(InputError, match="imagePath: found"):
        open_dataset(data).samples("train")


@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_json_that_is_no_file_does_not_stop_the_search_for_the_layout(what: str, tmp_path: Path) -> None:
    if what == "folder":
        (tmp_path / "a.json").mkdir()
    else:
        (tmp_path / "a.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"found a\.json. Expected images/ and labels/"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "link"])
def test_a_split_whose_files_are_all_damaged_is_an_error_that_names_one(content: str, tmp_path: Path) -> None:
    labelme(tmp_path)
    image(tmp_path / "val" / "a.png")
    damaged = tmp_path / "val" / "a.json"
    if content == "link":
        damaged.symlink_to(tmp_path / "nowhere")
    else:
        damaged.write_text(content)
    with pytest.raises(InputError, match=r"val/a\.json"):
        open_dataset(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_label(tmp_path: Path) -> None:
    text(tmp_path / "labels.txt", "\ufeff__ignore__\n_background_\naxon\ncell\n")
    assert open_dataset(labelme(tmp_path)).classes.names == ("background", "axon", "cell")


def shapes(root: Path, *entries: dict[str, Any], where: str = "train/a.json", **fields: Any) -> Path:
    """A file of shapes of an image of 6x4."""
    image(root / "images" / "a.jpg")
    data = {"shapes": entries, "imagePath": "a.jpg", "imageData": None, "imageHeight": 4, "imageWidth": 6, **fields}
    text(root / where, json.dumps(data))
    return root


def encoded(pixels: Any, mode: str = "L") -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def drawn(root: Path, kind: str, points: Any, classes: str = "", **fields: Any) -> list[list[int]]:
    shapes(root, {"label": "cell", "shape_type": kind, "points": points, **fields})
    if classes:
        text(root / "classes.toml", classes)
    return labels(open_dataset(root))[0]


PATCH = [[255, 255, 0], [255, 0, 255]]


@pytest.mark.parametrize("mode", ["L", "1"])
def test_a_mask_lies_at_its_first_point(mode: str, tmp_path: Path) -> None:
    rows = drawn(tmp_path, "mask", [[2.0, 1.0], [4.0, 2.0]], mask=encoded(PATCH, mode))
    assert rows == [[0] * 6, [0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0] * 6]


@pytest.mark.parametrize("points", [[[2, 1], [5, 3]], [[2.4, 0.6], [3.6, 2.4]]])
def test_a_masks_points_may_be_a_pixel_off(points: Any, tmp_path: Path) -> None:
    rows = drawn(tmp_path, "mask", points, mask=encoded(PATCH))
    assert rows == [[0] * 6, [0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0] * 6]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[5, 3], [7, 4]], [[0] * 6, [0] * 6, [0] * 6, [0, 0, 0, 0, 0, 1]]),
        ([[-1, -1], [1, 0]], [[0, 1, 0, 0, 0, 0], [0] * 6, [0] * 6, [0] * 6]),
    ],
)
def test_a_mask_is_cut_off_at_the_borders(points: Any, expected: list[list[int]], tmp_path: Path) -> None:
    assert drawn(tmp_path, "mask", points, mask=encoded(PATCH)) == expected


def test_a_mask_that_was_stored_cut_off_at_the_border_fits(tmp_path: Path) -> None:
    rows = drawn(tmp_path, "mask", [[4, 2], [9, 9]], mask=encoded([[255, 0], [255, 255]]))
    assert rows == [[0] * 6, [0] * 6, [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"mask": encoded([[255]])}, "found a mask of 1x1 between points that are 5x2 pixels apart"),
        ({"mask": "%%%"}, "the mask is not base64"),
        ({"mask": base64.b64encode(b"no image").decode()}, "the mask: the file has 8 bytes that are no image"),
        ({"mask": encoded([[1, 2]], "RGB")}, "found a mask of mode 'RGB'"),
    ],
)
def test_a_damaged_mask_is_an_error(fields: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"shapes.0. 'cell'.*{problem}"):
        drawn(tmp_path, "mask", [[1, 1], [5, 2]], **fields)


@pytest.mark.parametrize("kind", ["rectangle", "oriented_rectangle", "rotation"])
def test_a_rectangle_of_four_points_is_what_lies_between_them(kind: str, tmp_path: Path) -> None:
    rows = drawn(tmp_path, kind, [[3, 0], [6, 2], [3, 4], [0, 2]])
    assert rows == [[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("line", [[0, 1], [3, 1]], [*[[1, 1, 1, 1, 0, 0]] * 2, [0] * 6, [0] * 6]),
        ("linestrip", [[0, 1], [3, 1], [3, 4]], [*[[1, 1, 1, 1, 0, 0]] * 2, *[[0, 0, 1, 1, 0, 0]] * 2]),
        ("point", [[3, 2]], [[0] * 6, [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0] * 6]),
    ],
)
def test_lines_and_points_are_as_wide_as_classes_toml_says(
    kind: str, points: Any, expected: list[list[int]], tmp_path: Path
) -> None:
    assert drawn(tmp_path, kind, points, "line_width = 2") == expected


def test_lines_are_left_out_where_classes_toml_says_so_and_counted(tmp_path: Path) -> None:
    assert drawn(tmp_path, "line", [[0, 1], [3, 1]], 'objects_without_mask = "skip"') == [[0] * 6] * 4
    notes = open_dataset(tmp_path).notes
    assert "1 shape of the type line left out, which have no pixels of their own." in notes


def test_a_width_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line_width: found 0"):
        drawn(tmp_path, "line", [[0, 1], [3, 1]], "line_width = 0")


@pytest.mark.parametrize("name", ["_background_", "__background__"])
def test_a_shape_of_the_background_cuts_a_hole(name: str, tmp_path: Path) -> None:
    whole = {"label": "ring", "shape_type": "rectangle", "points": [[0, 0], [6, 4]]}
    hole = {"label": name, "shape_type": "rectangle", "points": [[1, 1], [2, 2]]}
    data = open_dataset(shapes(tmp_path, whole, hole))
    assert data.classes.names == ("background", "ring")
    assert labels(data)[0][1] == [1, 0, 1, 1, 1, 1]


CELL = {"label": "cell", "shape_type": "rectangle", "points": [[0, 0], [2, 4]]}


@pytest.mark.parametrize("where", ["labels/a.json", "annotations/a.json", "jsons/session 1/a.json"])
def test_files_in_a_folder_of_their_own_find_their_images(where: str, tmp_path: Path) -> None:
    shapes(tmp_path, CELL, where=where)
    shapes(tmp_path, CELL, where=where.replace("a.json", "b.json"), imagePath="b.jpg")
    image(tmp_path / "images" / "b.jpg")
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("labelme", ("train", "val"))
    samples = [sample for split in data.splits for sample in data.samples(split)]
    assert {sample.image.name for sample in samples} == {"a.jpg", "b.jpg"}


@pytest.mark.parametrize("form", ["{}/labels", "labels/{}", "{}"])
@pytest.mark.parametrize(("train", "val"), [("train", "valid"), ("Training", "Validation"), ("train", "val")])
def test_files_in_folders_of_splits_are_those_splits(form: str, train: str, val: str, tmp_path: Path) -> None:
    for folder in (train, val):
        shapes(tmp_path, CELL, where=f"{form.format(folder)}/a.json")
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("labelme", ("train", "val"))


def test_of_two_images_of_one_name_that_of_the_same_split_is_taken(tmp_path: Path) -> None:
    for split in ("train", "val"):
        image(tmp_path / "pics" / split / "x.jpg")
        shapes(tmp_path, CELL, where=f"labels/{split}/x.json", imagePath="x.jpg")
    data = open_dataset(tmp_path)
    for split in ("train", "val"):
        assert data.samples(split)[0].image == tmp_path / "pics" / split / "x.jpg"
    image(tmp_path / "more" / "train" / "x.jpg")
    with pytest.raises(InputError, match=r"imagePath: found 'x\.jpg', and both .*more/train/x\.jpg and .*pics/train/x"):
        open_dataset(tmp_path).samples("train")


def test_an_image_inside_the_file_is_read_and_it_is_said(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    shapes(tmp_path, CELL, imagePath="..\\..\\pics\\gone.png", imageData=encoded(pixels, "RGB"))
    data = open_dataset(tmp_path)
    (sample,) = data.samples("train")
    assert (sample.name, sample.size()) == ("a", (4, 6))
    assert (sample.read_image() == pixels).all()
    assert labels(data)[0] == [[1, 1, 0, 0, 0, 0]] * 4
    assert any("1 image read from imageData" in note for note in data.notes)


def test_a_damaged_image_inside_the_file_is_an_error(tmp_path: Path) -> None:
    (sample,) = open_dataset(shapes(tmp_path, CELL, imagePath="gone.png", imageData="AAAA")).samples("train")
    with pytest.raises(InputError, match=r"a\.json: imageData: the file has 3 bytes that are no image"):
        sample.read_image()


def test_an_image_that_is_a_loop_of_links_is_reported(tmp_path: Path) -> None:
    labelme(tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    image(tmp_path / "train" / "b.jpg")
    text(tmp_path / "train" / "b.json", LABELME.replace("..\\\\images\\\\a.jpg", "b.jpg"))
    (tmp_path / "images" / "a.jpg").symlink_to(tmp_path / "images" / "a.jpg")
    assert {finding.kind for finding in check(tmp_path, workers=1).errors} - {"split"}
