"""CVAT's "segmentation mask 1.1" as it exports it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_files import image, labels, text

from dilated.data.dataset import open_dataset
from dilated.errors import InputError

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:250,50,83::\nedge:51,221,255::\n"


def cvat(root: Path, *lists: str, labelmap: str = LABELMAP, color: tuple[int, int, int] = (250, 50, 83)) -> Path:
    text(root / "labelmap.txt", labelmap)
    for name in lists:
        text(root / "ImageSets" / "Segmentation" / f"{name}.txt", 'a\n"sub/b c"\n')
    for stem in ("a", "sub/b c"):
        mask = np.zeros((4, 6, 3), np.uint8)
        mask[0] = color
        for folder in ("SegmentationClass", "SegmentationObject"):
            (root / folder / stem).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / folder / f"{stem}.png")
        image(root / "JPEGImages" / f"{stem}.jpg")
    return root


def test_cvats_masks_are_read_by_the_colors_of_its_labelmap(tmp_path: Path) -> None:
    data = open_dataset(cvat(tmp_path, "Train", "Validation"))
    assert (data.format, data.splits) == ("cvat", ("train", "val"))
    assert data.classes.names == ("background", "cell", "edge")
    assert data.classes.colors[2] == (51, 221, 255)
    assert labels(data) == [[[1] * 6] + [[0] * 6] * 3] * 2
    assert [pair.name for pair in data.samples("train")] == ["a", "sub__b c"]
    assert data.notes == ()


def test_cvats_default_list_is_parted_and_said(tmp_path: Path) -> None:
    data = open_dataset(cvat(tmp_path, "default"))
    assert data.splits == ("train", "val")
    assert {pair.name for split in data.splits for pair in data.samples(split)} == {"a", "sub__b c"}
    assert len(data.samples("val")) == 1
    assert "no splits" in data.notes[0]


@pytest.mark.parametrize(
    ("labelmap", "color", "said"),
    [
        (LABELMAP, (250, 50, 84), r"found the color \(250, 50, 84\) at x=0, y=0 .*nearest known is .* cell"),
        ("cell:1,2::\n", (0, 0, 0), "labelmap.txt, line 1: found 'cell:1,2::'"),
        ("cell:1,2,256::\n", (0, 0, 0), "line 1"),
        ("a:1,2,3::\nb:1,2,3::\n", (0, 0, 0), "'a' and 'b' are both"),
        ("# label:color_rgb:parts:actions\n", (0, 0, 0), "has no labels"),
    ],
)
def test_cvats_wrong_tables_and_colors_are_errors(
    labelmap: str, color: tuple[int, int, int], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        labels(open_dataset(cvat(tmp_path, "Train", labelmap=labelmap, color=color)))


def test_cvats_export_without_images_is_an_error_that_says_how_to_get_them(tmp_path: Path) -> None:
    (cvat(tmp_path, "Train") / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"found 'a', and no image of it.*option to save images"):
        open_dataset(tmp_path).samples("train")


def test_a_color_of_thousands_of_digits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labelmap\.txt, line 3: found"):
        open_dataset(cvat(tmp_path, "Train", labelmap=LABELMAP.replace("250", "9" * 5000)))


def test_a_list_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    cvat(tmp_path, "Validation")
    (tmp_path / "ImageSets" / "Segmentation" / "Train.txt").mkdir()
    with pytest.raises(InputError, match=r"Train\.txt: Is a directory"):
        open_dataset(tmp_path).samples("train")


def test_a_name_that_no_file_can_have_is_an_error(tmp_path: Path) -> None:
    cvat(tmp_path, "Train")
    text(tmp_path / "ImageSets" / "Segmentation" / "Train.txt", "a" * 5000)
    with pytest.raises(InputError, match="no such file, which"):
        open_dataset(tmp_path).samples("train")


def test_a_mask_of_16_bits_a_channel_of_which_half_would_be_lost_is_an_error(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", 250, 50, 83))), (b"IEND", b"")]
    content = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    cvat(tmp_path, "Train")
    (tmp_path / "SegmentationClass" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)  # would be read as black
    with pytest.raises(InputError, match="do not have 8 bits per channel"):
        labels(open_dataset(tmp_path))


def test_masks_of_one_channel_hold_the_numbers_of_the_labels_lines(tmp_path: Path) -> None:
    root = cvat(tmp_path, "Train")
    for stem in ("a", "sub/b c"):
        Image.fromarray(np.array([[0, 1, 2, 0, 1, 2]] * 4, np.uint8)).save(root / "SegmentationClass" / f"{stem}.png")
    assert labels(open_dataset(root)) == [[[0, 1, 2, 0, 1, 2]] * 4] * 2
    Image.fromarray(np.full((4, 6), 3, np.uint8)).save(root / "SegmentationClass" / "a.png")
    with pytest.raises(
        InputError, match=r"found the value 3 at x=0, y=0 in a mask of one channel, and .* has 3 labels"
    ):
        labels(open_dataset(root))


def test_labels_without_a_color_have_vocs(tmp_path: Path) -> None:
    root = cvat(tmp_path, "Train", labelmap="background:::\ncell:::\n", color=(128, 0, 0))
    assert labels(open_dataset(root))[0][0] == [1] * 6


def test_without_a_labelmap_the_labels_are_vocs_and_that_is_said(tmp_path: Path) -> None:
    root = cvat(tmp_path, "default", color=(192, 128, 128))
    (root / "labelmap.txt").unlink()
    data = open_dataset(root)
    assert (data.format, data.classes.names[15], len(data.classes)) == ("cvat", "person", 21)
    assert labels(data)[0][0] == [15] * 6
    assert "There is no labelmap.txt: the labels and colors are those of PASCAL VOC." in data.notes


def test_without_lists_all_masks_are_read_and_that_is_said(tmp_path: Path) -> None:
    data = open_dataset(cvat(tmp_path))
    assert {pair.name for split in data.splits for pair in data.samples(split)} == {"a", "sub__b c"}
    assert any("There are no lists" in note for note in data.notes)


def test_a_list_of_another_name_is_read_where_it_is_the_one_and_otherwise_left_out(tmp_path: Path) -> None:
    data = open_dataset(cvat(tmp_path, "my_subset"))
    assert {pair.name for split in data.splits for pair in data.samples(split)} == {"a", "sub__b c"}
    data = open_dataset(cvat(tmp_path, "Train"))
    assert data.splits == ("train",)
    assert "The lists my_subset.txt are left out; train, val and test are read." in data.notes


def test_images_without_a_mask_are_left_out_and_counted(tmp_path: Path) -> None:
    root = cvat(tmp_path, "Train")
    (root / "SegmentationClass" / "a.png").unlink()
    data = open_dataset(root)
    assert [pair.name for pair in data.samples("train")] == ["sub__b c"]
    assert any("1 image without a mask" in note and "'a'" in note for note in data.notes)


def test_without_a_labelmap_an_unknown_color_asks_for_it(tmp_path: Path) -> None:
    root = cvat(tmp_path, "Train")
    (root / "labelmap.txt").unlink()
    with pytest.raises(
        InputError, match=r"found the color \(250, 50, 83\) .*\. Write .*/labelmap\.txt, a line LABEL:RED"
    ):
        labels(open_dataset(root))


def test_images_may_lie_beside_the_labelmap(tmp_path: Path) -> None:
    root = cvat(tmp_path, "Train")
    (root / "JPEGImages" / "a.jpg").rename(root / "a.jpg")
    assert open_dataset(root).samples("train")[0].image == root / "a.jpg"
