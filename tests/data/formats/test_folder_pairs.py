"""Names and arrangements of folders of images and labels, names of files, and list files of other systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError

CLASSES = Classes(("sky", "road"), ((0, 0, 255), (128, 64, 128)))


def tree(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 1).save(path)
    save_classes(CLASSES, root / "classes.toml")
    return root


def samples(root: Path) -> dict[str, list[tuple[str, str, str]]]:
    """By split, the names of the samples, their images and labels."""
    data = open_dataset(root)
    assert data.format == "folders"
    return {
        split: [
            (s.name, s.image.relative_to(root).as_posix(), s.label.relative_to(root).as_posix())
            for s in data.samples(split)
        ]
        for split in data.splits
    }


@pytest.mark.parametrize("form", ["{split}/{kind}/a.png", "{kind}/{split}/a.png", "{split}_{kind}/a.png"])
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "valid", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "VAL", "TEST")],
)
def test_splits_have_any_of_their_names_in_any_arrangement(
    form: str, train: str, val: str, test: str, tmp_path: Path
) -> None:
    names = {"train": train, "val": val, "test": test}
    files = {split: [form.format(split=n, kind=k) for k in ("images", "masks")] for split, n in names.items()}
    assert samples(tree(tmp_path, *(f for pair in files.values() for f in pair))) == {
        split: [("a", *pair)] for split, pair in files.items()
    }


@pytest.mark.parametrize(
    ("images", "labels"),
    [("imgs", "masks"), ("Images", "Labels"), ("img", "ann"), ("JPEGImages", "SegmentationClass"), ("rgb", "gt")],
)
def test_other_names_of_both_folders_are_read_and_said(images: str, labels: str, tmp_path: Path) -> None:
    tree(tmp_path, f"{images}/train/a.png", f"{labels}/train/a.png")
    assert samples(tmp_path) == {"train": [("a", f"{images}/train/a.png", f"{labels}/train/a.png")]}
    notes = " ".join(open_dataset(tmp_path).notes)
    for kind, folder in (("images", images), ("labels", labels)):
        said = f"The {kind} are read from {tmp_path / folder}, for there is no {tmp_path / kind}."
        assert (said in notes) is (folder.casefold() != kind)


def test_images_beside_the_folder_of_their_masks(tmp_path: Path) -> None:
    tree(tmp_path, "train/a.jpg", "train_masks/a_mask.png", "val/b.jpg", "val_masks/b_mask.png")
    assert samples(tmp_path) == {
        "train": [("a", "train/a.jpg", "train_masks/a_mask.png")],
        "val": [("b", "val/b.jpg", "val_masks/b_mask.png")],
    }


def test_folders_between_become_a_part_of_the_names(tmp_path: Path) -> None:
    files = [f"{kind}/train/{site}/0001.png" for kind in ("images", "labels") for site in ("east", "west")]
    assert samples(tree(tmp_path, *files)) == {
        "train": [
            (f"{site}__0001", f"images/train/{site}/0001.png", f"labels/train/{site}/0001.png")
            for site in ("east", "west")
        ]
    }


def test_a_folder_that_all_have_in_common_is_no_part_of_the_names(tmp_path: Path) -> None:
    files = tree(tmp_path, "archive/images/train/a.png", "archive/labels/train/a.png")
    assert [name for name, *_ in samples(files)["train"]] == ["a"]


def test_images_in_no_split_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    tree(
        tmp_path, *(f"{kind}/{name}" for kind in ("images", "labels") for name in ("train/a.png", "val/b.png", "c.png"))
    )
    assert list(samples(tmp_path)) == ["train", "val"]
    assert f"The images of {tmp_path / 'images'} are in no split and left out." in open_dataset(tmp_path).notes


@pytest.mark.parametrize("folder", ["instances", "pred_masks", "SegmentationObject", "SegmentationClassVisualization"])
def test_folders_of_other_things_are_no_labels(folder: str, tmp_path: Path) -> None:
    tree(tmp_path, "JPEGImages/train/a.png", "SegmentationClass/train/a.png", f"{folder}/train/a.png")
    assert samples(tmp_path)["train"][0][2] == "SegmentationClass/train/a.png"


def test_a_split_without_labels_is_an_error_that_names_their_folder(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "masks/train/a.png", "images/val/b.png")
    with pytest.raises(InputError, match=r"masks/val: no such folder; expected the labels of .*images/val"):
        open_dataset(tmp_path).samples("val")


def test_labels_that_lie_beside_their_images(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "train/a.jpg",
        "train/a_mask.png",
        "train/b.jpg",
        "train/b_mask.png",
        "valid/c.jpg",
        "valid/c_mask.png",
    )
    assert samples(tmp_path) == {
        "train": [("a", "train/a.jpg", "train/a_mask.png"), ("b", "train/b.jpg", "train/b_mask.png")],
        "val": [("c", "valid/c.jpg", "valid/c_mask.png")],
    }
    assert f"The labels are read from {tmp_path / 'train'}, beside their images." in open_dataset(tmp_path).notes


@pytest.mark.parametrize(
    ("missing", "problem"), [("train/b.jpg", "b_mask.png: has no image"), ("train/b_mask.png", "b.jpg: has no label")]
)
def test_of_files_side_by_side_none_is_left_out_in_silence(missing: str, problem: str, tmp_path: Path) -> None:
    tree(tmp_path, *({"train/a.jpg", "train/a_mask.png", "train/b.jpg", "train/b_mask.png"} - {missing}))
    with pytest.raises(InputError, match=problem):
        open_dataset(tmp_path).samples("train")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{}.png", "{}_mask.png"),
        ("{}.png", "{}_gtFine_labelIds.png"),
        ("{}_sat.jpg", "{}_mask.png"),
        ("img_{}.png", "mask_{}.png"),
        ("image{}.png", "label{}.png"),
        ("scan {} rgb.png", "scan {} seg.png"),
    ],
)
def test_words_of_the_names_that_tell_labels_from_images(image: str, label: str, tmp_path: Path) -> None:
    pairs = [(f"images/train/{image.format(i)}", f"labels/train/{label.format(i)}") for i in (1, 2, 10)]
    assert {found[1:] for found in samples(tree(tmp_path, *(f for pair in pairs for f in pair)))["train"]} == set(pairs)


def test_names_that_only_resemble_each_other_match_nothing(tmp_path: Path) -> None:
    tree(tmp_path, *(f"images/train/img_{i}.png" for i in (1, 2)), *(f"labels/train/mask_{i}.png" for i in (1, 3)))
    with pytest.raises(InputError, match=r"img_1\.png: has no label"):
        open_dataset(tmp_path).samples("train")


def listed(root: Path, line: str, *files: str) -> list[tuple[str, str, str]]:
    tree(root, *files)
    (root / "train.txt").write_bytes(line.encode())
    return samples(root)["train"]


FILES = ("images/a.jpg", "labels/a.png", "images/b c.v2.jpg", "labels/b c.v2.png")


@pytest.mark.parametrize(
    "line",
    [
        "\ufeffimages\\a.jpg labels\\a.png\r\n",
        "images/a.jpg,labels/a.png\n",
        "images/a.jpg\tlabels/a.png",
        "C:\\Users\\me\\data\\images\\a.jpg C:\\Users\\me\\data\\labels\\a.png\r\n",
        "/home/me/data/images/a.jpg /home/me/data/labels/a.png",
        "./images/a.jpg ./labels/a.png",
        "images\\a.jpg\r\n",
        "a.jpg\r\n",
        "a\r\n",
    ],
)
def test_a_list_of_any_system_names_an_image_and_its_label(line: str, tmp_path: Path) -> None:
    assert listed(tmp_path, line, *FILES) == [("a", "images/a.jpg", "labels/a.png")]


@pytest.mark.parametrize(
    "line", ["images\\b c.v2.jpg labels\\b c.v2.png\r\n", "images/b c.v2.jpg", "b c.v2", "b c.v2.jpg labels/b c.v2.png"]
)
def test_names_in_a_list_may_have_spaces_and_dots(line: str, tmp_path: Path) -> None:
    if line.startswith("b c.v2.jpg "):
        with pytest.raises(InputError, match="line 1: found 'b c"):
            listed(tmp_path, line, *FILES)
    else:
        assert listed(tmp_path, line, *FILES) == [("b c.v2", "images/b c.v2.jpg", "labels/b c.v2.png")]


def test_a_list_may_give_an_image_the_label_of_another_name(tmp_path: Path) -> None:
    files = ("images/a.jpg", "labels/a.png", "images/b.jpg", "labels/b.png")
    assert listed(tmp_path, "images/a.jpg labels/b.png", *files) == [("a", "images/a.jpg", "labels/b.png")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("images/a.jpg labels/gone.png", "labels/gone.png does not exist"),
        ("images/gone.jpg labels/a.png", "images/gone.jpg does not exist"),
        ("gone", "found 'gone', which is not in .*images"),
        ("../images/a.jpg ../labels/a.png", "does not exist"),
    ],
)
def test_a_line_that_names_what_is_not_there_is_an_error(line: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"train\.txt, line 1: .*{problem}"):
        listed(tmp_path, line, *FILES)


@pytest.mark.parametrize("name", ["valid", "validation", "val_list"])
def test_lists_have_any_name_of_their_split(name: str, tmp_path: Path) -> None:
    tree(tmp_path, *FILES)
    (tmp_path / "train.txt").write_text("a")
    (tmp_path / f"{name}.txt").write_text("b c.v2")
    assert {split: [name for name, *_ in found] for split, found in samples(tmp_path).items()} == {
        "train": ["a"],
        "val": ["b c.v2"],
    }


def test_two_lists_of_one_split_are_an_error(tmp_path: Path) -> None:
    tree(tmp_path, *FILES)
    for name in ("val", "valid"):
        (tmp_path / f"{name}.txt").write_text("a")
    with pytest.raises(InputError, match=r"valid\.txt: is a second list of val, beside .*val\.txt"):
        open_dataset(tmp_path)


def test_a_mask_for_each_object_is_named_with_the_way_out(tmp_path: Path) -> None:
    for key in ("0a", "1b"):
        tree(tmp_path, f"{key}/images/{key}.png", *(f"{key}/masks/{key}{i}.png" for i in range(3)))
    with pytest.raises(
        InputError, match=r"0a/masks: holds 3 masks for the one image 0a\.png, as of single objects.*max"
    ):
        open_dataset(tmp_path).samples("train")


def test_arrays_in_place_of_images_are_named_with_the_way_out(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "labels/train/a.png").joinpath("images/train/a.png").unlink()
    np.savez(tmp_path / "images/train/a.npz", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r"train: holds no image, but 1 other file, such as a\.npz: .* numpy\.save"):
        open_dataset(tmp_path).samples("train")
