"""Pages of TIFF files as microscopy programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_files import labels, text

from dilated.data.dataset import open_dataset
from dilated.errors import InputError

TOML = '[[class]]\nname = "ground"\ncolor = [0, 0, 0]\n[[class]]\nname = "cell"\ncolor = [1, 1, 1]\nvalues = [300]\n'


def pages(path: Path, *arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.fromarray(a) for a in arrays]
    first.save(path, save_all=True, append_images=rest)


@pytest.mark.parametrize("form", ["train/{}.tif", "{}/train.tiff"])
def test_pages_belong_to_pages(form: str, tmp_path: Path) -> None:
    text(tmp_path / "classes.toml", TOML)
    deep = [np.full((2, 3), v, np.uint16) for v in (0, 128 * 257, 65535)]
    pages(tmp_path / form.format("images"), *deep)
    pages(tmp_path / form.format("labels"), *(np.full((2, 3), v, np.uint16) for v in (0, 300, 0)))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("tiff_pages", ("train",))
    assert [pair.name for pair in data.samples("train")] == ["train_1", "train_2", "train_3"]
    assert [label[0][0] for label in labels(data)] == [0, 1, 0]
    assert [int(pair.read_image()[0, 0, 2]) for pair in data.samples("train")] == [0, 128, 255]


def test_pages_that_differ_in_number_or_size_are_errors(tmp_path: Path) -> None:
    text(tmp_path / "classes.toml", TOML)
    one = np.zeros((2, 3), np.uint8)
    pages(tmp_path / "train/images.tif", one, one)
    pages(tmp_path / "train/labels.tif", one)
    with pytest.raises(InputError, match=r"labels\.tif: found 1 pages\. Give 2"):
        open_dataset(tmp_path).samples("train")
    pages(tmp_path / "train/labels.tif", one, one.T)
    with pytest.raises(InputError, match=r"labels\.tif, page 2: found a label of 2x3\. Give 3x2"):
        open_dataset(tmp_path).samples("train")


def test_a_wrong_value_names_its_page(tmp_path: Path) -> None:
    text(tmp_path / "classes.toml", TOML)
    one = np.zeros((2, 3), np.uint8)
    pages(tmp_path / "train/images.tif", one, one)
    pages(tmp_path / "train/labels.tif", one, one + np.uint8(7))
    data = open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"labels\.tif \(train_2\): found the value 7"):
        data.samples("train")[1].read_label()
