"""KITTI of Ros et al. and KITTI's benchmark of 2018, in miniature."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.formats import Format, cityscapes
from dilated.data.formats.cityscapes import KITTI, KITTI2018
from dilated.data.images import read_image
from dilated.errors import InputError


def ros(root: Path) -> Path:
    """Two images to train on and one to test, of which the names are the same, as in the real data."""
    for folder, stems in (("Training_00", ("000000", "000045")), ("Validation_07", ("000000",))):
        for kind in ("RGB", "GT"):
            (root / folder / kind).mkdir(parents=True)
        for stem in stems:
            Image.new("RGB", (3, 1)).save(root / folder / "RGB" / f"{stem}.png")
            mask = np.array([[(128, 128, 128), (0, 128, 192), (0, 0, 0)]], np.uint8)
            Image.fromarray(mask).save(root / folder / "GT" / f"{stem}.png")
    return root


def benchmark(root: Path, *stems: str) -> Path:
    for folder in ("training/image_2", "training/semantic", "testing/image_2"):
        (root / folder).mkdir(parents=True)
    for stem in stems:
        Image.new("RGB", (3, 1)).save(root / "training" / "image_2" / f"{stem}.png")
        Image.new("RGB", (3, 1)).save(root / "testing" / "image_2" / f"{stem}.png")
        Image.fromarray(np.array([[7, 33, 0]], np.uint8)).save(root / "training" / "semantic" / f"{stem}.png")
    return root


def test_ros_is_divided_by_hash_to_train_and_has_a_split_to_test(tmp_path: Path) -> None:
    data = open_dataset(ros(tmp_path))
    assert (data.format, data.splits, len(data.classes)) == ("kitti", ("train", "val", "test"), 11)
    assert sorted(p.name for split in ("train", "val") for p in data.samples(split)) == ["000000", "000045"]
    assert len(data.samples("val")) == 1
    assert any("by the hashes of their stems" in note for note in data.notes)
    (pair,) = data.samples("test")
    assert pair.image == tmp_path / "Validation_07" / "RGB" / "000000.png"
    assert pair.read_label((1, 3)).tolist() == [[0, 10, 255]]


def test_list_files_part_the_training_images_of_ros(tmp_path: Path) -> None:
    ros(tmp_path)
    (tmp_path / "train.txt").write_text("000045\n")
    (tmp_path / "val.txt").write_text("000000.png\n")
    data = open_dataset(tmp_path)
    assert data.splits == ("train", "val", "test")
    assert [p.image.parts[-3:] for s in data.splits for p in data.samples(s)] == [
        ("Training_00", "RGB", "000045.png"),
        ("Training_00", "RGB", "000000.png"),
        ("Validation_07", "RGB", "000000.png"),
    ]


def test_what_ros_lacks_is_found(tmp_path: Path) -> None:
    ros(tmp_path)
    (tmp_path / "Training_00" / "GT" / "000045.png").unlink()
    (tmp_path / "Training_00" / "RGB" / "000000.png").unlink()
    assert [p.removeprefix(f"{tmp_path}/") for p in KITTI(tmp_path).match_split("train").problems] == [
        f"Training_00/RGB/000045.png: has no label; expected {tmp_path}/Training_00/GT/000045.png",
        "Training_00/GT/000000.png: has no image; expected one of the stem 000000",
    ]
    (tmp_path / "train.txt").write_text("000045\n")
    with pytest.raises(InputError, match=r"val\.txt: no such file; expected the stems of images in .*Training_00/RGB"):
        KITTI(tmp_path).samples("val")


def test_the_benchmark_is_all_train_without_lists(tmp_path: Path) -> None:
    data = open_dataset(benchmark(tmp_path, "000000_10", "000001_10"))
    assert (data.format, data.splits, len(data.classes)) == ("kitti2018", ("train",), 19)
    pairs = data.samples("train")
    assert [p.name for p in pairs] == ["000000_10", "000001_10"]
    assert pairs[0].read_label((1, 3)).tolist() == [[0, 18, 255]]


def test_lists_make_the_splits_of_the_benchmark(tmp_path: Path) -> None:
    benchmark(tmp_path, "000000_10", "000001_10", "000002_10")
    (tmp_path / "val.txt").write_text("training/image_2/000001_10.png\n")
    data = open_dataset(tmp_path)
    assert data.splits == ("val",)
    assert [p.name for p in data.samples("val")] == ["000001_10"]
    assert KITTI2018(tmp_path).match_split("train").problems == [
        f"{tmp_path}/train.txt: no such file; expected the stems of images in {tmp_path}/training/image_2, one per line"
    ]


def test_the_classes_are_those_of_cityscapes() -> None:
    assert KITTI2018.fixed_classes == cityscapes.CLASSES


@settings(max_examples=15, deadline=None)
@given(
    form=st.sampled_from([KITTI, KITTI2018]),
    splits=st.lists(st.sampled_from(["train", "val", "test"]), min_size=1, unique=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_saved_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, form: type[Format], splits: list[str], seed: int
) -> None:
    root = tmp_path_factory.mktemp("kitti")
    random = np.random.default_rng(seed)
    saved = {}
    for split in splits:
        ids = random.choice([*range(len(form(Path()).classes)), 255], (2, 3, 5)).astype(np.uint8)
        images = random.integers(0, 256, (2, 3, 5, 3)).astype(np.uint8)
        saved[split] = [(f"{split}_00000{i}", images[i], ids[i]) for i in range(2)]
        form.save(root, split, saved[split])
    found = open_dataset(root)
    assert found.format == form.name
    assert set(found.splits) == set(splits)
    for split, samples in saved.items():
        pairs = found.samples(split)
        assert [p.name for p in pairs] == [stem for stem, _, _ in samples]
        for pair, (_, image, ids) in zip(pairs, samples, strict=True):
            assert pickle.loads(pickle.dumps(pair)) == pair
            assert np.array_equal(read_image(pair.image), image)
            assert np.array_equal(pair.read_label(image.shape[:2]), ids)


def test_other_layouts_with_such_names_are_not_mistaken(tmp_path: Path) -> None:
    for folder in ("training/images", "training/image_2", "testing", "train/RGB"):
        (tmp_path / folder).mkdir(parents=True)
    assert not KITTI(tmp_path).detect()
    assert not KITTI2018(tmp_path).detect()  # image_2 alone is KITTI's detection benchmark


def test_two_images_of_one_stem_that_a_list_names_are_an_error(tmp_path: Path) -> None:
    benchmark(tmp_path, "a")
    Image.new("RGB", (3, 1)).save(tmp_path / "training" / "image_2" / "a.jpg")
    (tmp_path / "train.txt").write_text("a\n")
    with pytest.raises(InputError, match=r"a\.png: is the second image of this stem, beside a\.jpg"):
        open_dataset(tmp_path).samples("train")
