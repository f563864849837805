"""Masks whose form leaves open what they hold: equal channels, transparency, colors that nothing names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_files import read_all, saved_masks, tree
from PIL import Image

from dilated.data.dataset import open_dataset, write_classes_draft
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError

VALUES = np.array([[0, 1, 2]], np.uint8)
BLACK_AND_TWO = Classes(("bg", "x", "y"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


def test_masks_whose_channels_are_equal_are_values_and_it_is_said(tmp_path: Path) -> None:
    gray = np.stack([VALUES] * 3, -1)
    opaque = np.full_like(VALUES, 255)
    saved_masks(tmp_path, gray, np.dstack([gray, opaque]), Image.merge("LA", [*map(Image.fromarray, (VALUES, opaque))]))
    save_classes(BLACK_AND_TWO, tmp_path / "classes.toml")
    data = open_dataset(tmp_path)
    assert data.format == "folders"
    assert any("several channels that are equal" in note for note in data.notes)
    assert set(map(str, read_all(tmp_path).values())) == {"[[0, 1, 2]]"}


def test_masks_of_black_and_white_are_colors_where_those_are_the_classes(tmp_path: Path) -> None:
    mask = np.zeros((1, 2, 3), np.uint8)
    mask[0, 1] = 255
    saved_masks(tmp_path, mask, mask)
    save_classes(Classes(("bg", "x"), ((0, 0, 0), (255, 255, 255))), tmp_path / "classes.toml")
    assert open_dataset(tmp_path).format == "colors"
    assert set(map(str, read_all(tmp_path).values())) == {"[[0, 1]]"}


def test_an_empty_mask_first_does_not_make_colors_values(tmp_path: Path) -> None:
    mask = np.zeros((1, 2, 3), np.uint8)
    mask[0, 1] = (255, 0, 0)
    saved_masks(tmp_path, np.zeros_like(mask), mask)
    save_classes(BLACK_AND_TWO, tmp_path / "classes.toml")
    assert read_all(tmp_path) == {"0": [[0, 0]], "1": [[0, 1]]}


def transparent_mask(root: Path, hidden: tuple[int, int, int], setting: str) -> Path:
    """A mask of a red pixel and a transparent one."""
    mask = np.array([[(255, 0, 0, 255), (*hidden, 0)]], np.uint8)
    saved_masks(root, mask, mask)
    save_classes(Classes(BLACK_AND_TWO.names, BLACK_AND_TWO.colors, transparent=setting), root / "classes.toml")
    return root


@pytest.mark.parametrize("hidden", [(0, 255, 0), (9, 9, 0)])
def test_transparent_pixels_of_a_color_are_a_question(hidden: tuple[int, int, int], tmp_path: Path) -> None:
    root = transparent_mask(tmp_path, hidden, "refuse")
    with pytest.raises(
        InputError, match=r"png: found the color \(.*\) at x=1, y=0 where the mask is fully transparent"
    ):
        read_all(root)
    transparent_mask(tmp_path, hidden, "ignore")
    assert read_all(root) == {"0": [[1, 255]], "1": [[1, 255]]}


def test_transparent_pixels_have_their_color_where_classes_toml_says_so(tmp_path: Path) -> None:
    assert read_all(transparent_mask(tmp_path, (0, 255, 0), "color")) == {"0": [[1, 2]], "1": [[1, 2]]}


def test_transparent_black_is_black_and_it_is_said(tmp_path: Path) -> None:
    root = transparent_mask(tmp_path, (0, 0, 0), "refuse")
    assert read_all(root) == {"0": [[1, 0]], "1": [[1, 0]]}
    assert any("`transparent = " in note for note in open_dataset(root).notes)


def test_transparent_pixels_that_are_ignored_anyway_are_no_question(tmp_path: Path) -> None:
    root = transparent_mask(tmp_path, (9, 9, 0), "refuse")
    classes = Classes(BLACK_AND_TWO.names, BLACK_AND_TWO.colors, read="colors", ignore_colors=((9, 9, 0),))
    save_classes(classes, root / "classes.toml")
    assert read_all(root) == {"0": [[1, 255]], "1": [[1, 255]]}


def test_a_setting_of_transparency_that_is_none_is_an_error(tmp_path: Path) -> None:
    root = saved_masks(tmp_path, VALUES, VALUES)
    (root / "classes.toml").write_text('transparent = "yes"\n[[class]]\nname = "a"\ncolor = [0, 0, 0]\n')
    with pytest.raises(InputError, match="transparent: found 'yes'"):
        open_dataset(root)


def color_masks(root: Path, *colors: tuple[int, int, int]) -> Path:
    mask = np.array([colors], np.uint8)
    return saved_masks(root, mask, mask)


def test_masks_of_unknown_colors_are_refused_with_their_colors_and_a_draft(tmp_path: Path) -> None:
    root = color_masks(tmp_path, (0, 0, 0), (255, 0, 1), (0, 0, 0), (0, 0, 142))
    with pytest.raises(InputError) as caught:
        open_dataset(root)
    assert "[0, 0, 0]  50.00%" in str(caught.value)
    draft = str(caught.value).partition("ignore_colors`:\n\n")[2]
    (root / "classes.toml").write_text(draft)
    assert read_all(root)["0"] == [[0, 2, 0, 1]]
    (root / "classes.toml").unlink()
    assert write_classes_draft(root).colors == ((0, 0, 0), (0, 0, 142), (255, 0, 1))


def test_a_draft_has_the_names_of_a_palette_that_has_all_colors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"All are colors of Cityscapes, .*check that they are meant") as caught:
        open_dataset(color_masks(tmp_path, (128, 64, 128), (70, 130, 180)))
    assert 'name = "road"' in str(caught.value)
    assert 'name = "sky"' in str(caught.value)


def test_masks_of_too_many_colors_say_what_they_look_like(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3))
    with pytest.raises(InputError, match=r"0\.png alone holds \d+ colors, as a photograph or a smoothed"):
        open_dataset(saved_masks(tmp_path, noise, noise))


def test_the_channel_of_masks_that_holds_the_values_is_named_in_classes_toml(tmp_path: Path) -> None:
    mask = np.array([[(0, 5, 6), (1, 7, 8), (2, 0, 0)]], np.uint8)
    for place in ("RGB", "GT/LABELS", "GT/COLOR"):  # as SYNTHIA has them
        (tmp_path / place).mkdir(parents=True)
        for stem in "ab":
            Image.fromarray(mask).save(tmp_path / place / f"{stem}.png")
    save_classes(Classes(("bg", "x", "y"), BLACK_AND_TWO.colors, channel=0), tmp_path / "classes.toml")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.channel) == ("folders", 0)
    assert read_all(tmp_path) == {"a": [[0, 1, 2]], "b": [[0, 1, 2]]}
    assert data.samples("train")[0].label.parent == tmp_path / "GT" / "LABELS"


def test_a_label_of_floating_point_numbers_is_refused_as_such(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    Image.fromarray(np.ones((3, 4), np.float32)).save(tmp_path / "labels/train/a.tif")
    (sample,) = open_dataset(tmp_path, "folders").samples("train")
    with pytest.raises(InputError, match=r"a\.tif: found a label of floating-point numbers; expected whole numbers"):
        sample.read_label()
