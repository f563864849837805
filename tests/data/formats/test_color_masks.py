"""Masks of colors: what each color means, and colors that mean nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from classes_files import load_classes
from folder_files import CLASSES, tree
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError


def colored(root: Path, classes: Classes, *colors: tuple[int, int, int], mode: str = "RGB") -> Path:
    tree(root, "images/train/a.png", "labels/train/a.png", classes=classes)
    mask = np.zeros((3, 4, 3), np.uint8)
    mask[:] = colors[0]
    for i, color in enumerate(colors):
        mask[0, i] = color
    image = Image.fromarray(mask)
    (image if mode == "RGB" else image.convert(mode)).save(root / "labels/train/a.png")
    return root


def test_masks_of_the_classes_colors_are_known_by_their_mode(tmp_path: Path) -> None:
    data = open_dataset(colored(tmp_path, CLASSES, (0, 0, 255), (128, 64, 128)))
    assert data.format == "colors"
    assert data.samples("train")[0].read_label()[0].tolist() == [0, 1, 0, 0]


def test_palette_masks_are_values_unless_classes_toml_says_colors(tmp_path: Path) -> None:
    root = colored(tmp_path, CLASSES, (0, 0, 255), (128, 64, 128), mode="P")
    assert open_dataset(root).format == "folders"
    save_classes(Classes(CLASSES.names, CLASSES.colors, read="colors"), root / "classes.toml")
    mask = Image.fromarray(np.array([[1, 0]], np.uint8))
    mask.putpalette([128, 64, 128, 0, 0, 255])
    mask.save(root / "labels/train/a.png")
    data = open_dataset(root)
    assert data.format == "colors"
    assert data.samples("train")[0].read_label().tolist() == [[0, 1]]


def test_ignored_colors(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors", ignore_colors=((9, 9, 9), (0, 0, 0)))
    data = open_dataset(colored(tmp_path, classes, (0, 0, 255), (9, 9, 9), (0, 0, 0), (128, 64, 128)))
    assert data.samples("train")[0].read_label()[0].tolist() == [0, 255, 255, 1]


def test_an_unknown_color_is_an_error_with_its_place_and_the_nearest(tmp_path: Path) -> None:
    data = open_dataset(colored(tmp_path, CLASSES, (0, 0, 255), (128, 64, 127)))
    with pytest.raises(InputError, match=r"a\.png: found the color \(128, 64, 127\) at x=1, y=0 .* road"):
        data.samples("train")[0].read_label()


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (Classes(("a", "b"), ((1, 1, 1), (1, 1, 1))), "'a' and 'b' are both"),
        (Classes(("a", "b"), ((1, 1, 1), (2, 2, 2)), ignore_colors=((2, 2, 2),)), "'b' and 'ignore_colors' are both"),
        (Classes(("a", "b"), ((1, 1, 1), (2, 2, 2)), ((1,), (2,))), r"found values = \[1\]"),
    ],
)
def test_tables_that_colors_cannot_follow_are_errors(classes: Classes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(colored(tmp_path, classes, (1, 1, 1))).samples("train")


def test_values_where_colors_are_promised_are_an_error(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors")
    data = open_dataset(tree(tmp_path, "images/train/a.png", "labels/train/a.png", classes=classes))
    with pytest.raises(InputError, match=r"mode 'L' \(values\), not colors"):
        data.samples("train")[0].read_label()


def test_colors_are_an_error_in_formats_of_values(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors")
    tree(tmp_path, "train/a.png", "trainannot/a.png", classes=classes)
    with pytest.raises(InputError, match='read = "colors" in data of the format camvid'):
        open_dataset(tmp_path)


def test_the_list_of_classes_keeps_how_labels_are_read(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors", ignore_colors=((9, 9, 9),))
    save_classes(classes, tmp_path / "classes.toml")
    assert load_classes(tmp_path / "classes.toml") == classes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('read = "colours"', 'read: found \'colours\'; expected "values" or "colors"'),
        ("ignore_colors = [0, 0, 0]", "ignore_colors.0: found"),
        ("ignore_colors = [[0, 0, 256]]", "ignore_colors: found the color"),
    ],
)
def test_wrong_keys_about_colors_are_errors(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_text(f'{line}\n[[class]]\nname = "a"\ncolor = [1, 1, 1]\n')
    with pytest.raises(InputError, match=said):
        load_classes(tmp_path / "classes.toml")
