"""labelme's files as it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tool_files import image, labels, text

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
        ('"circle"', '"linestrip"', r"a\.json: shapes\[2\] '__ignore__': found a shape of the type 'linestrip'"),
        ('"circle"', '"mask"', "of the type 'mask'; expected polygon, rectangle, circle"),
        ("[[5.0, 4.0], [3.0, 1.0]]", "[[5.0, 4.0]]", "a rectangle. Give two points"),
        ("[[5.0, 4.0], [3.0, 1.0]]", '[["x", 4.0]]', "a rectangle. Give two points"),
        ('"imageHeight": 4', '"imageHeight": 5', "found a label of 6x5; expected 6x4"),
        ('"imageHeight": 4,\n  "imageWidth": 6', '"imageHeight": 6,\n  "imageWidth": 4', r"have been turned .*EXIF"),
        ('"label": "cell",', "", r"shapes\[0\]: 'label' is None"),
        ("a.jpg", "b.jpg", "imagePath: found .*b.jpg"),
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
    data = labelme(tmp_path, LABELME.replace("a.jpg", f"{'a' * 5000}.jpg"))
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


def test_a_byte_order_mark_is_no_part_of_the_first_label(tmp_path: Path) -> None:
    text(tmp_path / "labels.txt", "\ufeff__ignore__\n_background_\naxon\ncell\n")
    assert open_dataset(labelme(tmp_path)).classes.names == ("background", "axon", "cell")
