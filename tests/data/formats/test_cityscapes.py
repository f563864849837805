"""Cityscapes in miniature: the true folders and names, images of a few pixels."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.formats import FORMATS
from dilated.data.formats.cityscapes import Cityscapes
from dilated.data.images import read_image
from dilated.errors import InputError

# the train id of each label id from 0 to 33, as the official table has them
TRAIN_IDS = [*[255] * 7, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, *range(6, 16), 255, 255, 16, 17, 18]


def put(root: Path, split: str, name: str, values: list[int], kind: str = "labelIds") -> None:
    """An image and its label of one row."""
    city = name.split("_")[0]
    for folder in ("leftImg8bit", "gtFine"):
        (root / folder / split / city).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (len(values), 1)).save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
    label = root / "gtFine" / split / city / f"{name}_gtFine_{kind}"
    if kind == "polygons.json":
        label.write_text(json.dumps({"objects": []}))
    else:
        Image.fromarray(np.array([values], np.uint8)).save(label.with_name(f"{label.name}.png"))
        Image.new("RGB", (len(values), 1)).save(label.with_name(f"{name}_gtFine_color.png"))


def test_images_and_labels_are_matched_by_city(tmp_path: Path) -> None:
    put(tmp_path, "train", "ulm_000000_000019", [7, 33])
    put(tmp_path, "train", "aachen_000001_000019", [7, 33])
    put(tmp_path, "val", "lindau_000000_000019", [0, 26])
    data = open_dataset(tmp_path)
    assert (data.format, data.splits, len(data.classes)) == ("cityscapes", ("train", "val"), 19)
    assert [p.name for p in data.samples("train")] == [
        "aachen_000001_000019_leftImg8bit",
        "ulm_000000_000019_leftImg8bit",
    ]
    (pair,) = data.samples("val")
    assert pair.label.name == "lindau_000000_000019_gtFine_labelIds.png"
    assert pair.read_label((1, 2)).tolist() == [[255, 13]]


def test_label_ids_become_the_official_train_ids(tmp_path: Path) -> None:
    put(tmp_path, "val", "bonn_000000_000019", [*range(34), 255])
    (pair,) = Cityscapes(tmp_path).samples("val")
    assert pair.read_label().tolist() == [[*TRAIN_IDS, 255]]


def test_the_label_minus_one_is_ignored_in_16_bits_too(tmp_path: Path) -> None:
    put(tmp_path, "val", "bonn_000000_000019", [7, 7])
    (pair,) = Cityscapes(tmp_path).samples("val")
    Image.fromarray(np.array([[7, 65535]], np.uint16)).save(pair.label)
    assert pair.read_label().tolist() == [[0, 255]]


def test_a_label_id_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "val", "bonn_000000_000019", [7, 34])
    (pair,) = Cityscapes(tmp_path).samples("val")
    with pytest.raises(InputError, match=r"labelIds\.png: found the value 34 at x=1, y=0 \(1 such"):
        pair.read_label()


def test_train_ids_are_read_where_there_is_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, "train", "ulm_000000_000019", [0, 18, 255], kind="labelTrainIds")
    (pair,) = Cityscapes(tmp_path).samples("train")
    assert pickle.loads(pickle.dumps(pair)) == pair
    assert pair.read_label((1, 3)).tolist() == [[0, 18, 255]]
    put(tmp_path, "train", "ulm_000000_000019", [33, 7, 0])
    (pair,) = Cityscapes(tmp_path).samples("train")
    assert pair.label.name.endswith("labelIds.png")


@pytest.mark.parametrize("value", [19, 33, 254])
def test_a_train_id_of_another_table_is_an_error(value: int, tmp_path: Path) -> None:
    put(tmp_path, "train", "ulm_000000_000019", [0, value], kind="labelTrainIds")
    (pair,) = Cityscapes(tmp_path).samples("train")
    with pytest.raises(InputError, match=rf"labelTrainIds\.png: found the train id {value} at x=1, y=0"):
        pair.read_label()


def test_polygons_alone_are_an_error_that_says_how_to_draw_them(tmp_path: Path) -> None:
    put(tmp_path, "train", "ulm_000000_000019", [0], kind="polygons.json")
    put(tmp_path, "train", "ulm_000001_000019", [0], kind="polygons.json")
    with pytest.raises(InputError, match=rf"polygons alone; .*CITYSCAPES_DATASET={tmp_path} csCreateTrainIdLabelImgs"):
        Cityscapes(tmp_path).samples("train")
    assert len(Cityscapes(tmp_path).match_split("train").problems) == 2


def test_what_is_missing_is_all_found(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, "train", f"ulm_00000{number}_000019", [7])
    (tmp_path / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    (tmp_path / "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png").unlink()
    found = Cityscapes(tmp_path).match_split("train")
    assert [p.name for p in found.samples] == ["ulm_000002_000019_leftImg8bit"]
    assert [text.split(": ")[1].split(";")[0] for text in found.problems] == ["has no label", "has no image"]


def test_images_without_labels_are_still_cityscapes(tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit" / "train" / "ulm").mkdir(parents=True)
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("cityscapes", ("train",))
    with pytest.raises(InputError, match="gtFine/train: no such folder; expected a folder for each city"):
        data.samples("train")


def test_the_dummy_labels_of_test_are_all_ignored(tmp_path: Path) -> None:
    put(tmp_path, "test", "berlin_000000_000019", [0, 1, 2, 3])
    data = open_dataset(tmp_path)
    assert data.splits == ("test",)
    assert data.samples("test")[0].read_label().tolist() == [[255] * 4]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), split=st.sampled_from(["train", "val", "test"]))
def test_what_is_saved_is_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, seed: int, split: str) -> None:
    root = tmp_path_factory.mktemp("cityscapes")
    random = np.random.default_rng(seed)
    samples = []
    for stem in ("zurich_000000_000019", "aachen_000173_000019_leftImg8bit", "single"):
        ids = random.choice([*range(19), 255], (3, 4)).astype(np.uint8)
        samples.append((stem, random.integers(0, 256, (3, 4, 3)).astype(np.uint8), ids))
    Cityscapes.save(root, split, samples)
    found = open_dataset(root)
    assert (found.format, found.splits) == ("cityscapes", (split,))
    pairs = {p.name.removesuffix("_leftImg8bit"): p for p in found.samples(split)}
    assert sorted(pairs) == ["aachen_000173_000019", "single", "zurich_000000_000019"]
    for stem, image, ids in samples:
        pair = pairs[stem.removesuffix("_leftImg8bit")]
        assert np.array_equal(read_image(pair.image), image)
        assert np.array_equal(pair.read_label((3, 4)), ids)


def test_no_layout_but_its_own_is_mistaken_for_it(tmp_path: Path) -> None:
    put(tmp_path, "train", "ulm_000000_000019", [7])
    assert [name for name, form in FORMATS.items() if form(tmp_path).detect()] == ["cityscapes"]
