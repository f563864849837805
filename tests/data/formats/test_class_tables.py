"""Tables of classes that lie beside the masks: CSV files, lists of names, data.yaml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_files import read_all, saved_masks, tree
from PIL import Image

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.data.labels import Classes
from dilated.errors import InputError

VALUES = np.array([[0, 1, 2]], np.uint8)
BLACK_AND_TWO = Classes(("bg", "x", "y"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


def with_table(root: Path, name: str, content: str, mask: object) -> Path:
    (root / name).write_bytes(content.encode())
    return saved_masks(root, mask, mask)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_dict.csv", "name,r,g,b\nbg,0,0,0\nx,255,0,0\ny,0,255,0\n"),
        ("labelmap.csv", "\ufefflabel;color\r\nbg;(0, 0, 0)\r\nx;(255, 0, 0)\r\ny;#00ff00\r\n"),
        ("labels_class_dict.csv", "id,label,red,green,blue\n0,bg,0,0,0\n1,x,255,0,0\n2,y,0,255,0\n"),
        ("label_colors.txt", "0 0 0 bg\n255 0 0\tx\n0 255 0\ty\n"),
    ],
)
def test_a_table_of_colors_beside_the_masks_names_the_classes(name: str, content: str, tmp_path: Path) -> None:
    data = open_dataset(with_table(tmp_path, name, content, [[(255, 0, 0), (0, 255, 0), (0, 0, 0)]]))
    assert (data.format, data.classes.names) == ("colors", ("bg", "x", "y"))
    assert read_all(tmp_path)["0"] == [[1, 2, 0]]
    assert f"The classes are those of {tmp_path / name}." in data.notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_classes.csv", "Pixel Value, Class\n0, bg\n3, x\n7, y\n"),
        ("classes.csv", "0,bg\n3,x\n7,y\n"),
        ("labels.txt", "0: bg\n3: x\n7: y\n"),
        ("data.yaml", "path: x\nnames:\n  0: bg\n  3: x\n  7: y\nmasks_dir: masks\n"),
    ],
)
def test_a_table_of_values_beside_the_masks_names_the_classes(name: str, content: str, tmp_path: Path) -> None:
    data = open_dataset(with_table(tmp_path, name, content, [[3, 7, 0, 255]]))
    assert (data.format, data.classes.names) == ("folders", ("bg", "x", "y"))
    assert read_all(tmp_path)["0"] == [[1, 2, 0, 255]]


@pytest.mark.parametrize("content", ["_background_\nx\ny\n", "__ignore__\n_background_\nx\ny\n"])
@pytest.mark.parametrize("name", ["class_names.txt", "labels.txt"])
def test_lists_of_names_of_labelme_name_the_values_from_0_on(name: str, content: str, tmp_path: Path) -> None:
    data = open_dataset(with_table(tmp_path, name, content, [[0, 1, 2, 255]]))
    assert data.classes.names == ("background", "x", "y")
    assert read_all(tmp_path)["0"] == [[0, 1, 2, 255]]


def test_a_palette_mask_is_read_by_its_colors_where_the_table_has_no_values(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[1, 0]], np.uint8))
    mask.putpalette([0, 255, 0, 255, 0, 0])
    with_table(tmp_path, "class_dict.csv", "name,r,g,b\nx,255,0,0\ny,0,255,0\n", mask)
    assert read_all(tmp_path)["0"] == [[0, 1]]


def test_labels_of_values_beside_a_table_of_colors_are_a_question(tmp_path: Path) -> None:
    with_table(tmp_path, "class_dict.csv", "name,r,g,b\nx,255,0,0\ny,0,255,0\n", VALUES)
    with pytest.raises(
        InputError, match=r"class_dict\.csv: says the colors of the classes, but the labels hold values"
    ):
        open_dataset(tmp_path)


def test_a_csv_file_of_the_class_of_each_image_is_no_table_of_classes(tmp_path: Path) -> None:
    with_table(tmp_path, "labels.csv", "id,label\n0,cat\n1,cat\n", VALUES)
    with pytest.raises(InputError, match=r"classes\.toml: no such file"):
        open_dataset(tmp_path)


def test_tables_that_differ_are_an_error(tmp_path: Path) -> None:
    for split, name in (("train", "x"), ("valid", "y")):
        tree(tmp_path, f"{split}/a.jpg", f"{split}/a_mask.png")
        (tmp_path / split / "_classes.csv").write_text(f"Pixel Value, Class\n0, bg\n1, {name}\n")
    (tmp_path / "classes.toml").unlink()
    with pytest.raises(InputError, match=r"valid/_classes\.csv: names other classes than .*train/_classes\.csv"):
        open_dataset(tmp_path)


def test_an_empty_table_of_one_split_is_not_made_up_for_by_that_of_the_other(tmp_path: Path) -> None:
    for split, text in (("train", ""), ("valid", "Pixel Value, Class\n0, bg\n1, x\n")):
        tree(tmp_path, f"{split}/a.jpg", f"{split}/a_mask.png")
        (tmp_path / split / "_classes.csv").write_text(text)
    (tmp_path / "classes.toml").unlink()
    with pytest.raises(InputError, match=r"train/_classes\.csv: is no table of classes"):
        open_dataset(tmp_path)


def test_a_table_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    with_table(tmp_path, "labelmap.csv", "id,name\n0,x\n", VALUES)
    (tmp_path / "labelmap.csv").unlink()
    (tmp_path / "labelmap.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"labelmap\.csv: No such file"):
        open_dataset(tmp_path)


def test_masks_of_ultralytics_lie_where_data_yaml_says(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "semantic/train/a.png")
    (tmp_path / "classes.toml").unlink()
    (tmp_path / "data.yaml").write_text("path: x\ntrain: images/train\nmasks_dir: semantic\nnames: [bg, crack]\n")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.names) == ("folders", ("bg", "crack"))
    assert data.samples("train")[0].label == tmp_path / "semantic/train/a.png"


def test_a_table_with_a_nul_character_is_damaged_and_check_says_so(tmp_path: Path) -> None:
    with_table(tmp_path, "labelmap.csv", "id,\0name\n0,bg\n1,x\n2,y\n", VALUES)
    with pytest.raises(InputError, match=r"labelmap.csv: found a NUL character"):
        open_dataset(tmp_path)
    assert [f.text for f in check(tmp_path).errors if f.kind == "classes"] == [
        f"{tmp_path / 'labelmap.csv'}: found a NUL character: the file is damaged"
    ]


def test_a_quote_that_ends_within_a_cell_is_refused_by_its_line(tmp_path: Path) -> None:
    table = with_table(tmp_path, "class_dict.csv", 'name,r,g,b\nbg,0,0,0\nx,255,"1"0,0\n', [[(255, 10, 0)]])
    with pytest.raises(InputError, match=r"class_dict.csv, line 3: ") as raised:
        open_dataset(table)
    assert "quotes around whole cells" in raised.value.hint


def test_a_table_of_something_else_may_have_odd_quotes_and_long_cells(tmp_path: Path) -> None:
    masks = with_table(tmp_path, "class_dict.csv", "name,r,g,b\nbg,0,0,0\nx,255,0,0\n", [[(255, 0, 0)]])
    (tmp_path / "class_notes.csv").write_text('image,remark\na.png,"a"b\n')
    (tmp_path / "labels_long.csv").write_text("image\n" + "a" * 200_000 + "\n")
    assert open_dataset(masks).classes.names == ("bg", "x")
