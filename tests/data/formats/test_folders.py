"""Plain folders: names of the folder of labels, marks at the ends of stems, lists of files, no splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_files import tree

from dilated.data.auto_split import select_split, split_by_hash
from dilated.data.dataset import open_dataset
from dilated.data.sample import Sample
from dilated.errors import InputError


def test_images_without_splits_are_parted_alike_each_time_and_it_is_said(tmp_path: Path) -> None:
    stems = [f"p{i}" for i in range(12)]
    data = open_dataset(tree(tmp_path, *(f"{kind}/{stem}.png" for stem in stems for kind in ("images", "labels"))))
    parts = {split: [pair.name for pair in data.samples(split)] for split in data.splits}
    assert list(parts) == ["train", "val"]
    assert sorted(parts["train"] + parts["val"]) == sorted(stems)
    assert parts == split_by_hash(sorted(stems), 0.2, 0)
    assert any("train.txt and val.txt" in note and "convert-data" in note for note in data.notes)


def test_an_image_that_comes_later_moves_no_other() -> None:
    stems = [f"p{i}" for i in range(200)]
    before, after = split_by_hash(stems[:150]), split_by_hash(stems)
    assert set(before["val"]) <= set(after["val"])
    assert set(before["train"]) <= set(after["train"])
    assert 20 <= len(after["val"]) <= 60


@pytest.mark.parametrize("share", [0.0001, 0.9999])
@pytest.mark.parametrize("count", [2, 3])
def test_each_side_has_an_image_whatever_the_share(share: float, count: int) -> None:
    parts = split_by_hash([f"p{i}" for i in range(count)], share)
    assert min(map(len, parts.values())) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_is_an_error(share: float) -> None:
    with pytest.raises(InputError, match="is not between 0 and 1"):
        split_by_hash(["a", "b"], share)


def test_one_image_cannot_be_parted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 1 labeled images without splits"):
        open_dataset(tree(tmp_path, "images/a.png", "labels/a.png")).samples("train")


@pytest.mark.parametrize("name", ["masks", "annotations"])
@pytest.mark.parametrize("form", ["{}/train/a.png", "train/{}/a.png"])
def test_other_names_of_the_folder_of_labels_are_said(name: str, form: str, tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, form.format("images"), form.format(name)))
    assert data.samples("train")[0].label == tmp_path / form.format(name)
    assert any(f"{name}, for there is no" in note for note in data.notes)


def test_labels_go_before_masks_and_it_is_said(tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, "images/train/a.png", "labels/train/a.png", "masks/train/a.png"))
    assert data.samples("train")[0].label == tmp_path / "labels/train/a.png"
    assert any("masks is left alone" in note for note in data.notes)


def test_masks_beside_annotations_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found masks/ and annotations/; expected one"):
        open_dataset(tree(tmp_path, "images/train/a.png", "masks/train/a.png", "annotations/train/a.png"))


@pytest.mark.parametrize("mark", ["_mask", "_label"])
def test_a_mark_that_all_labels_have_is_no_part_of_their_stems(mark: str, tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "images/train/b.png", f"labels/train/a{mark}.png", f"labels/train/b{mark}.png")
    pairs = open_dataset(tmp_path).samples("train")
    assert [(p.image.name, p.label.name) for p in pairs] == [("a.png", f"a{mark}.png"), ("b.png", f"b{mark}.png")]


def test_a_mark_that_only_some_labels_have_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "images/train/b.png", "labels/train/a_mask.png", "labels/train/b.png")
    with pytest.raises(InputError, match=r"a\.png: has no label"):
        open_dataset(tmp_path).samples("train")


def test_stems_that_are_nearly_alike_are_never_matched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a_1\.png: has no label"):
        open_dataset(tree(tmp_path, "images/train/a_1.png", "labels/train/a1.png")).samples("train")


def test_images_that_end_in_the_mark_themselves_keep_it(tmp_path: Path) -> None:
    pairs = open_dataset(tree(tmp_path, "images/train/a_mask.png", "labels/train/a_mask.png")).samples("train")
    assert [p.name for p in pairs] == ["a_mask"]


def test_a_folder_that_is_two_formats_is_read_as_the_first_and_it_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "train/a.png", "trainannot/a.png")
    (tmp_path / "data.yaml").write_text("train: train\nnames: [a]\n")
    data = open_dataset(tmp_path)
    assert data.format == "camvid"
    assert data.notes[0].startswith("Read as camvid, though it looks like yolo too")
    assert open_dataset(tmp_path, "camvid").notes == ()


@pytest.mark.parametrize("line", ["x" * 5000, "y" * 300 + " z"])
def test_a_line_that_no_file_can_have_as_its_name_is_an_error(line: str, tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "labels/a.png")
    (tmp_path / "train.txt").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"train\.txt, line 1"):
        open_dataset(tmp_path).samples("train")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "labels/a.png")
    (tmp_path / "train.txt").write_text("\ufeffa\n", encoding="utf-8")
    assert [pair.name for pair in open_dataset(tmp_path).samples("train")] == ["a"]


def test_two_pairs_of_one_stem_cannot_be_parted_and_none_is_lost(tmp_path: Path) -> None:
    pairs = [Sample(tmp_path / name, tmp_path / "a.json") for name in ("a.png", "b.png", "a.jpg")]
    with pytest.raises(InputError, match=r"a\.jpg: has the stem of .*a\.png"):
        select_split(tmp_path, pairs, "train")
