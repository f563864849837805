"""YOLO's data.yaml and polygons as Ultralytics and Roboflow write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tool_files import image, labels, text

from dilated.data.dataset import open_dataset
from dilated.data.formats._yolo_config import read_config
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError

ROBOFLOW = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['cell', 'it''s']

roboflow:
  workspace: lab-1
  project: cells-abcde
  version: 3
  license: CC BY 4.0
  url: https://universe.roboflow.com/lab-1/cells-abcde/dataset/3
"""
ULTRALYTICS = """# Ultralytics AGPL-3.0 License
# COCO8-seg dataset (first 8 images from COCO train2017)
# Example usage: yolo train data=coco8-seg.yaml

# Train/val/test sets as 1) dir: path/to/imgs, 2) file: path/to/imgs.txt, or 3) list: [path/to/imgs1, path/to/imgs2, ..]
path: ../datasets/coco8-seg # dataset root dir
train: images/train # train images (relative to 'path') 4 images
val: images/val # val images (relative to 'path') 4 images
test: # test images (optional)

# Classes
names:
  0: person
  1: "traffic: light"

# Download script/URL (optional)
download: https://ultralytics.com/assets/coco8-seg.zip
"""


def yolo(root: Path, config: str = ULTRALYTICS, line: str = "0 0 0 0.5 0 0.5 0.5 0 0.5\n") -> Path:
    text(root / "data.yaml", config)
    for split in ("train", "val"):
        image(root / "images" / split / "a.jpg")
    text(root / "labels" / "train" / "a.txt", line)
    text(root / "labels" / "val" / "a.txt", "")
    return root


def test_ultralytics_polygons_follow_the_background(tmp_path: Path) -> None:
    data = open_dataset(yolo(tmp_path))
    assert (data.format, data.splits) == ("yolo", ("train", "val"))
    assert data.classes.names == ("background", "person", "traffic: light")
    assert labels(data) == [[[1, 1, 1, 0, 0, 0]] * 2 + [[0] * 6] * 2]
    assert labels(data, "val") == [[[0] * 6] * 4]
    assert any("YOLO has no colors" in note for note in data.notes)


def test_roboflows_folders_and_list_of_names(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", ROBOFLOW)
    for split in ("train", "valid", "test"):
        image(tmp_path / split / "images" / "a.jpg")
        text(tmp_path / split / "labels" / "a.txt", "1 0 0 1 0 1 1 0 1")
    image(tmp_path.parent / "train" / "images" / "others.jpg")
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("yolo", ("train", "val", "test"))
    assert [pair.image for pair in data.samples("train")] == [tmp_path / "train" / "images" / "a.jpg"]
    assert data.classes.names == ("background", "cell", "it's")
    assert labels(data, "val") == [[[2] * 6] * 4]


@pytest.mark.parametrize("turned", [False, True])
def test_yolos_smaller_object_is_on_top_in_any_order(turned: bool, tmp_path: Path) -> None:
    lines = ["0 0 0 1 0 1 1 0 1", "1 0 0 0.5 0 0.5 0.5 0 0.5"]
    data = open_dataset(yolo(tmp_path, line="\n".join(lines[::-1] if turned else lines)))
    assert labels(data)[0][0] == [2, 2, 2, 1, 1, 1]


def test_a_yolo_class_called_background_is_the_background(tmp_path: Path) -> None:
    data = open_dataset(yolo(tmp_path, ULTRALYTICS.replace("person", "background")))
    assert data.classes.names == ("background", "traffic: light")
    assert labels(data) == [[[0] * 6] * 4]


def test_labels_that_are_images_are_not_yolos_though_there_is_a_data_yaml(tmp_path: Path) -> None:
    (yolo(tmp_path) / "labels" / "train" / "a.txt").unlink()
    (tmp_path / "labels" / "val" / "a.txt").unlink()
    Image.new("L", (6, 4), 1).save(tmp_path / "labels" / "train" / "a.png")
    save_classes(Classes(("ground", "cell"), ((0, 0, 0), (1, 1, 1))), tmp_path / "classes.toml")
    data = open_dataset(tmp_path)
    assert data.format == "folders"
    assert labels(data) == [[[1] * 6] * 4]


def test_a_missing_file_of_yolo_is_background_and_said(tmp_path: Path) -> None:
    image(yolo(tmp_path) / "images" / "train" / "b.jpg")
    data = open_dataset(tmp_path)
    assert labels(data)[1] == [[0] * 6] * 4
    assert any("train: 1 images have no file of labels" in note and "b.jpg" in note for note in data.notes)


def test_no_file_of_yolo_at_all_is_an_error_and_never_all_background(tmp_path: Path) -> None:
    (yolo(tmp_path) / "labels" / "train" / "a.txt").unlink()
    data = open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"a\.txt: no such file, nor any other of the 1 of train"):
        data.samples("train")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 1 1", "line 1: found five numbers, a bounding box"),
        ("2 0 0 1 0 1 1", "found the class 2. Give 0 to 1"),
        ("0 0 0 1 0 1 1.06", "found the corner 1.06. Give 0 to 1"),
        ("0 0 0 320 0 320 240", "found the corner 320. Give 0 to 1, fractions of width and height, not pixels"),
        ("0 0 0 1 0 1 1 0.93", "found 8 numbers. Give a class and at least three corners, without a confidence"),
        ("0 0 0 1 0 1 -0.1", "found the corner -0.1"),
        ("0 0 0 1 0 1 nan", "found the corner nan"),
        ("0 0 0 1 0 1", "found 6 numbers"),
        ("0 0 0 1 0 1 1 0", "found 8 numbers"),
        ("0 0 0 1 0 1 one", "Give numbers"),
        ("0.5 0 0 1 0 1 1", "found the class 0.5"),
    ],
)
def test_a_line_of_yolo_that_is_no_polygon_is_an_error(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        labels(open_dataset(yolo(tmp_path, line=line)))


def test_classes_toml_gives_colors_and_order_by_name(tmp_path: Path) -> None:
    names = ("traffic: light", "person", "background")
    save_classes(Classes(names, ((1, 0, 0), (2, 0, 0), (3, 0, 0))), yolo(tmp_path) / "classes.toml")
    data = open_dataset(tmp_path)
    assert data.classes.names == names
    assert labels(data)[0][0] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (Classes(("background", "person"), ((0, 0, 0), (1, 1, 1))), "has no class 'traffic: light'"),
        (
            Classes(("background", "person", "traffic: light"), ((0, 0, 0),) * 3, ((5,), (6,), (7,))),
            r"values = \[5\], but the labels of .*data\.yaml hold no values",
        ),
    ],
)
def test_a_classes_toml_that_does_not_fit_names_is_an_error(classes: Classes, said: str, tmp_path: Path) -> None:
    save_classes(classes, yolo(tmp_path) / "classes.toml")
    with pytest.raises(InputError, match=said):
        open_dataset(tmp_path).samples("train")


@pytest.mark.parametrize("name", ["a.TXT", "b.txt"])
def test_labels_of_another_name_than_their_images_are_an_error_and_never_background(name: str, tmp_path: Path) -> None:
    yolo(tmp_path)
    image(tmp_path / "images" / "train" / "c.jpg")
    text(tmp_path / "labels" / "train" / "c.txt", "")
    (tmp_path / "labels" / "train" / "a.txt").rename(tmp_path / "labels" / "train" / name)
    with pytest.raises(InputError, match=rf"{name}: has no image, and .*a\.txt is missing \(1 such"):
        open_dataset(tmp_path).samples("train")


def test_classes_txt_and_labels_of_another_split_are_not_labels_without_an_image(tmp_path: Path) -> None:
    for stem in ("a", "b", "c"):
        image(tmp_path / "images" / f"{stem}.jpg")
    for name in ("a", "c", "classes"):
        text(tmp_path / "labels" / f"{name}.txt", "")
    text(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [cell]\n")
    text(tmp_path / "train.txt", "images/a.jpg\nimages/b.jpg\n")
    text(tmp_path / "val.txt", "images/c.jpg\n")
    assert labels(open_dataset(tmp_path)) == [[[0] * 6] * 4] * 2


@pytest.mark.parametrize("entry", ["x" * 5000, "a/" * 3000])
def test_a_place_that_no_folder_can_have_is_an_error(entry: str, tmp_path: Path) -> None:
    data = open_dataset(yolo(tmp_path, ULTRALYTICS.replace("train: images/train", f"train: {entry}")))
    with pytest.raises(InputError, match="Give images"):
        data.samples("train")


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("[yes, no, on, off]", ["yes", "no", "on", "off"]),
        ("[Yes, NO, true, null, ~]", ["Yes", "NO", "true", "null", "~"]),
        ("[1, 2.0, 1e3, 0x10, 2001-01-01]", ["1", "2.0", "1e3", "0x10", "2001-01-01"]),
        ("\n  0: y\n  1: 010\n", ["y", "010"]),
        ("{0: off, 1: edge}", ["off", "edge"]),
        ("\n- cell\n- 'a: b'  # said\n", ["cell", "a: b"]),
        ("[cell, 'it''s', \"a, b\"]", ["cell", "it's", "a, b"]),
        ("[cell,\n  edge,\n  rim]", ["cell", "edge", "rim"]),
        ('\n  0: cell\n\n  # more\n  1: "edge"\n', ["cell", "edge"]),
        ("&all [cell, edge]", ["cell", "edge"]),
    ],
)
def test_names_are_the_words_that_were_written_and_never_booleans_or_numbers(
    written: str, names: list[str], tmp_path: Path
) -> None:
    text(tmp_path / "data.yaml", f"train: images/train\nval: images/val\nnames: {written}\n")
    for split in ("train", "val"):
        image(tmp_path / "images" / split / "a.jpg")
        text(tmp_path / "labels" / split / "a.txt", "")
    assert list(open_dataset(tmp_path).classes.names) == ["background", *names]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("names: *other", "line 1: not YAML"),
        ("a: b\nnames: [a", "line 2: not YAML|line 3: not YAML"),
        ("names: 'a", "not YAML"),
        ("names: !!python/name:os.system a", r"names: found 'a'. Give a list"),
        ("names: [!!python/object/apply:os.system [a]]", "names: found .* Give names of classes"),
        ("a: b\na: c\nnames: [x]\n", "line 2: not YAML .*'a' twice"),
        ("names:\n  0: a\n  0: b\n", "line 3: not YAML .*'0' twice"),
        ("names: [a, [b]]", r"names: found \['b'\]\. Give names of classes"),
        ("names: {0: a, 2: b}", "names: found the keys"),
        ("names:\n  a:\n    b: c\n", "names: found the keys"),
        ("names: [a, '']", "names: found ''"),
        ("names: [a, a]", "names: the name 'a' occurs twice"),
        ("names: []", r"names: found \[\]"),
        ("- names: [a]", "Give the names and folders"),
        ("names: [ce\0ll]", "not YAML"),
        ("names: " + "[" * 5000, "not YAML"),
    ],
)
def test_a_data_yaml_that_names_no_classes_is_an_error_with_its_line(content: str, said: str, tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", content)
    with pytest.raises(InputError, match=rf"(?s)data\.yaml.*({said})"):
        open_dataset(tmp_path, "yolo")


words = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8))


@given(names=words, flow=st.sampled_from([True, False, None]), unicode=st.booleans())
@settings(max_examples=80, deadline=None)
def test_whatever_names_pyyaml_writes_are_read_as_they_are(
    names: list[str], flow: bool | None, unicode: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "data.yaml"
    written = yaml.safe_dump({"names": names, "nc": 2}, default_flow_style=flow, allow_unicode=unicode)
    path.write_text(written, encoding="utf-8")
    assert read_config(path) == {"names": names, "nc": "2"}


def test_a_byte_order_mark_windows_lines_and_a_block_of_text_are_read(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_bytes(
        "\ufeff---\r\nnames: [a]\r\ndownload: |\r\n  import this\r\n  x: [\r\n".encode()
    )
    assert read_config(tmp_path / "data.yaml") == {"names": ["a"], "download": "import this\nx: [\n"}


def test_corners_slightly_outside_are_cut_off_at_the_border_and_counted(tmp_path: Path) -> None:
    data = open_dataset(yolo(tmp_path, line="0 -0.01 0 1.0021 0 1.04 1 -0.05 1\n0 0 0 1 0 1 1"))
    assert labels(data) == [[[1] * 6] * 4]
    assert "train: 1 object with corners outside the image, cut off at its border." in data.notes


def test_a_line_given_twice_is_one_object_and_counted(tmp_path: Path) -> None:
    line = "0 0 0 0.5 0 0.5 1 0 1"
    data = open_dataset(yolo(tmp_path, line=f"{line}\r\n{line}\r\n\r\n"))
    assert labels(data) == [[[1, 1, 1, 0, 0, 0]] * 4]
    assert "train: 1 line given twice, read once." in data.notes


def test_the_border_itself_is_not_outside(tmp_path: Path) -> None:
    data = open_dataset(yolo(tmp_path, line="0 0 0 1.0 0.0 1.000 1"))
    assert not any("outside" in note for note in data.notes)
