"""ADE20K in full: the numbers of its masks' colors, names of its JSON files, and the choice of classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.data.dataset import open_dataset, write_classes_draft
from dilated.errors import InputError

SKY, WALL, RARE = 2420, 2978, 255


def color(number: int, instance: int = 1) -> tuple[int, int, int]:
    """A color of a class's number, whose red says the number's high part ten times."""
    return number // 256 * 10, number % 256, instance


def ade(root: Path, form: str = "images/ADE/{split}/urban/street", red: int | None = None) -> Path:
    for number, split in enumerate(("training", "validation")):
        folder = root / form.format(split=split)
        folder.mkdir(parents=True)
        stem = f"ADE_{split[:5]}_0000000{number}"
        mask = np.array(
            [[color(SKY), color(SKY, 2), color(SKY, 3), color(WALL), color(WALL), color(RARE), (0, 0, 0)]], np.uint8
        )
        if red is not None:
            mask[0, 0, 0] = red
        Image.new("RGB", (7, 1)).save(folder / f"{stem}.jpg")
        Image.fromarray(mask).save(folder / f"{stem}_seg.png")
        Image.new("RGB", (7, 1)).save(folder / f"{stem}_parts_1.png")
        objects = [{"id": 0, "name": "sky", "name_ndx": SKY}, {"id": 1, "name": "wall, brick", "name_ndx": WALL}]
        (folder / f"{stem}.json").write_text(json.dumps({"annotation": {"object": objects}}))
    return root


@pytest.mark.parametrize("form", ["images/ADE/{split}/urban/street", "images/{split}/a/abbey"])
def test_classes_toml_chooses_by_number_and_all_others_are_ignored(form: str, tmp_path: Path) -> None:
    root = ade(tmp_path, form)
    (root / "classes.toml").write_text(
        f'[[class]]\nname = "wall"\ncolor = [1, 1, 1]\nvalues = [{WALL}]\n'
        f'[[class]]\nname = "sky"\ncolor = [2, 2, 2]\nvalues = [{SKY}]\n'
    )
    data = open_dataset(root)
    assert (data.format, data.splits) == ("ade20k_full", ("train", "val"))
    (sample,) = data.samples("train")
    assert sample.read_label().tolist() == [[1, 1, 1, 0, 0, 255, 255]]
    assert "Pixels of classes that classes.toml does not name are ignored." in data.notes


def test_the_class_of_the_number_255_is_not_ignored(tmp_path: Path) -> None:
    root = ade(tmp_path)
    text = f'[[class]]\nname = "rare"\ncolor = [1, 1, 1]\nvalues = [{RARE}]\n'
    (root / "classes.toml").write_text(text)
    with pytest.raises(InputError, match=r"no value is ignored. Write `ignore = \[0\]`"):
        open_dataset(root).samples("train")
    (root / "classes.toml").write_text("ignore = [0]\n" + text)
    assert open_dataset(root).samples("train")[0].read_label().tolist() == [[255, 255, 255, 255, 255, 0, 255]]


def test_without_classes_the_most_frequent_are_listed_by_name_and_drafted(tmp_path: Path) -> None:
    root = ade(tmp_path)
    with pytest.raises(InputError, match=r"over 3,000 classes(?s:.*)2420  sky  42\.86%\n  2978  wall  28\.57%"):
        open_dataset(root)
    draft = write_classes_draft(root)
    assert (draft.names, draft.values) == (("sky", "wall", "class 255"), ((SKY,), (WALL,), (RARE,)))
    assert open_dataset(root).samples("val")[0].read_label().tolist() == [[0, 0, 0, 1, 1, 2, 255]]


def test_a_red_that_no_number_has_is_an_error(tmp_path: Path) -> None:
    root = ade(tmp_path, red=91)
    (root / "classes.toml").write_text(f'[[class]]\nname = "sky"\ncolor = [1, 1, 1]\nvalues = [{SKY}]\n')
    with pytest.raises(InputError, match="the red 91 at x=0, y=0, which is no multiple of 10"):
        open_dataset(root).samples("train")[0].read_label()
