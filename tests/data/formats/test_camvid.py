"""The original CamVid in miniature: the true names and colors, images of a few pixels."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.formats import camvid
from dilated.data.formats._classes import ColorReader
from dilated.data.formats.camvid import CamVid701
from dilated.data.images import read_image
from dilated.errors import InputError


def mask(path: Path, *names: str) -> None:
    """A mask of one row, a pixel a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([[camvid.COLORS_32[n] for n in names]], np.uint8)).save(path)


def image(path: Path, width: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 1), (1, 2, 3)).save(path)


def published(root: Path, *stems: str, names: tuple[str, ...] = ("Sky", "Wall", "Void")) -> Path:
    for stem in stems:
        image(root / "701_StillsRaw_full" / f"{stem}.png", len(names))
        mask(root / "LabeledApproved_full" / f"{stem}_L.png", *names)
    return root


def frames() -> list[str]:
    """The names of all 701 images: 1 Hz in every sequence, 15 Hz in a part of 0016E5, with one frame off by one."""
    slow = [901 if frame == 900 else frame for frame in (*range(390, 2401, 30), *range(4350, 7921, 30))]
    sequences = [
        ("0001TP_{:06}", range(6690, 10381, 30)),
        ("0006R0_f{:05}", range(930, 3931, 30)),
        ("0016E5_{:05}", [*slow, *range(7959, 8160, 2), *range(8190, 8641, 30)]),
        ("Seq05VD_f{:05}", range(0, 5101, 30)),
    ]
    return [name.format(frame) for name, numbers in sequences for frame in numbers]


def test_the_split_is_that_of_sturgess_and_others() -> None:
    splits = [camvid.official_split(stem) for stem in frames()]
    assert {split: splits.count(split) for split in ("train", "val", "test")} == CamVid701.image_counts
    assert sum(CamVid701.image_counts.values()) == 701


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("0001TP_008520", "train"),
        ("0001TP_008550", "test"),
        ("0016E5_07920", "train"),
        ("0016E5_07959", "val"),
        ("0016E5_08159", "val"),
        ("0016E5_08190", "train"),
        ("0006R0_f03930", "train"),
        ("Seq05VD_f05100", "test"),
        ("another", "test"),
    ],
)
def test_the_ends_of_the_ranges_are_where_they_should_be(stem: str, split: str) -> None:
    assert camvid.official_split(stem) == split


def test_all_32_colors_are_in_one_group_or_void() -> None:
    values = sorted(v for group in (*camvid.CLASSES_32.values, camvid.CLASSES_32.ignore) for v in group)
    assert values == list(range(32))
    assert len(set(camvid.COLORS_32.values())) == 32


def test_a_class_is_written_in_the_papers_color() -> None:
    assert camvid.CLASSES_32.names == camvid.CLASSES.names
    first = [camvid.NAMES_32[group[0]] for group in camvid.CLASSES_32.values]
    assert tuple(camvid.COLORS_32[name] for name in first) == camvid.CLASSES.colors


def test_the_published_folder_is_read_without_any_list(tmp_path: Path) -> None:
    published(tmp_path, "Seq05VD_f00000", "0016E5_07959", "0001TP_006690", names=("Tunnel", "Train", "Void"))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("camvid701", ("train", "val", "test"))
    for split, stem in (("train", "0001TP_006690"), ("val", "0016E5_07959"), ("test", "Seq05VD_f00000")):
        (pair,) = data.samples(split)
        assert pair.name == stem
        assert pair.label.name == f"{stem}_L.png"
        assert pair.read_label((1, 3)).tolist() == [[1, 8, 255]]  # Building, Car, ignored


def test_every_color_is_decoded_to_its_class(tmp_path: Path) -> None:
    published(tmp_path, "0001TP_006690", names=camvid.NAMES_32)
    data = open_dataset(tmp_path)
    (ids,) = data.samples("train")[0].read_label().tolist()
    for name, i in zip(camvid.NAMES_32, ids, strict=True):
        assert (i == 255) if name == "Void" else name in camvid._GROUPS[data.classes.names[i]]


def test_list_files_go_before_the_names(tmp_path: Path) -> None:
    published(tmp_path, "0001TP_006690", "0001TP_006720", "Seq05VD_f00000")
    (tmp_path / "train.txt").write_text("Seq05VD_f00000\n\n0001TP_006690.png\n")
    data = open_dataset(tmp_path)
    assert data.splits == ("train",)
    assert [p.name for p in data.samples("train")] == ["Seq05VD_f00000", "0001TP_006690"]


def test_a_line_that_names_no_image_is_an_error(tmp_path: Path) -> None:
    published(tmp_path, "0001TP_006690")
    (tmp_path / "val.txt").write_text("0001TP_006690\nlost\n")
    with pytest.raises(InputError, match=r"val\.txt, line 2: found 'lost', and no such image"):
        open_dataset(tmp_path).samples("val")


def test_the_copy_with_masks_of_values_is_read(tmp_path: Path) -> None:
    image(tmp_path / "images" / "0016E5_07961.png")
    (tmp_path / "labels").mkdir()
    values = [[camvid.NAMES_32.index(n) for n in ("Road", "LaneMkgsDriv", "Void")]]
    Image.fromarray(np.array(values, np.uint8)).save(tmp_path / "labels" / "0016E5_07961_P.png")
    (tmp_path / "codes.txt").write_text("\n".join(camvid.NAMES_32))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("camvid701", ("val",))
    assert data.samples("val")[0].read_label().tolist() == [[3, 3, 255]]
    (tmp_path / "codes.txt").write_text("\n".join(("Animal", "Bicyclist", *camvid.NAMES_32)))
    with pytest.raises(InputError, match=r"codes\.txt: found Bicyclist\. Give CamVid's 32"):
        open_dataset(tmp_path).samples("val")


def test_the_copy_with_splits_as_folders_keeps_its_splits(tmp_path: Path) -> None:
    for split, stem in (("train", "Seq05VD_f00000"), ("val", "0001TP_006690")):
        image(tmp_path / split / f"{stem}.png")
        mask(tmp_path / f"{split}_labels" / f"{stem}_L.png", "Sky", "Child", "Void")
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("camvid701", ("train", "val"))
    assert [p.name for p in data.samples("train")] == ["Seq05VD_f00000"]
    assert data.samples("val")[0].read_label().tolist() == [[0, 9, 255]]


def test_the_folders_own_colors_go_before_the_published(tmp_path: Path) -> None:
    published(tmp_path, "0001TP_006690")
    Image.fromarray(np.array([[[9, 9, 9]] * 3], np.uint8)).save(
        tmp_path / "LabeledApproved_full" / "0001TP_006690_L.png"
    )
    table = {**camvid.COLORS_32, "Road": (9, 9, 9)}
    (tmp_path / "label_colors.txt").write_text("".join(f"{r} {g} {b}\t\t{n}\n" for n, (r, g, b) in table.items()))
    data = open_dataset(tmp_path)
    assert data.samples("train")[0].read_label().tolist() == [[3, 3, 3]]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1 2 3\tHouse\n", "line 1: .*House"),
        ("1 2 300\tSky\n", "line 1: .*RED GREEN BLUE NAME"),
        ("\n1 2\tSky\n", "line 2: .*RED GREEN BLUE NAME"),
        ("128 64 128\t\tRoad", "has no Animal, Archway"),
    ],
)
def test_a_table_of_colors_that_is_not_camvids_is_an_error(text: str, named: str, tmp_path: Path) -> None:
    published(tmp_path, "0001TP_006690")
    (tmp_path / "label_colors.txt").write_text(text)
    with pytest.raises(InputError, match=rf"label_colors\.txt.*{named}"):
        open_dataset(tmp_path).samples("train")


def test_an_unknown_color_is_an_error_with_its_place_and_the_nearest_known(tmp_path: Path) -> None:
    published(tmp_path, "0001TP_006690")
    path = tmp_path / "LabeledApproved_full" / "0001TP_006690_L.png"
    pixels = np.zeros((4, 3, 3), np.uint8)
    pixels[2, 1] = (127, 65, 128)
    pixels[3, 0] = (1, 1, 1)
    Image.fromarray(pixels).save(path)
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path).samples("train")[0].read_label()
    text = str(caught.value)
    assert text.startswith(f"{path}: found the color (127, 65, 128) at x=1, y=2 (2 such pixels")
    assert "nearest known is (128, 64, 128) Road" in text


def test_a_mask_that_was_converted_already_is_an_error(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 3).save(tmp_path / "x.png")
    with pytest.raises(
        InputError, match=r"x\.png: the label has the mode 'L' \(values\), not colors such as \(128, 128, 128\) for Sky"
    ):
        ColorReader(("Sky",), ((128, 128, 128),))(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_of_any_color_mode_are_read(mode: str, tmp_path: Path) -> None:
    mask(tmp_path / "x.png", "Sky", "Road")
    with Image.open(tmp_path / "x.png") as found:
        found.convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / f"{mode}.png")
    read = ColorReader(camvid.NAMES_32, tuple(camvid.COLORS_32.values()))
    assert read(tmp_path / f"{mode}.png").tolist() == [[camvid.NAMES_32.index(n) for n in ("Sky", "Road")]]


def test_what_is_missing_is_all_found(tmp_path: Path) -> None:
    published(tmp_path, "0001TP_006690", "0001TP_006720", "0001TP_006750", "Seq05VD_f00000")
    (tmp_path / "LabeledApproved_full" / "0001TP_006690_L.png").unlink()
    (tmp_path / "LabeledApproved_full" / "0001TP_006720_L.png").unlink()
    (tmp_path / "701_StillsRaw_full" / "0001TP_006750.png").unlink()
    found = CamVid701(tmp_path).match_split("train")
    assert found.samples == []
    assert [text.split(":")[0].rsplit("/", 1)[1] for text in found.problems] == [
        "0001TP_006690.png",
        "0001TP_006720.png",
        "0001TP_006750_L.png",
    ]
    with pytest.raises(InputError, match=r"006690\.png: has no label; expected .*006690_L\.png \(2 more such"):
        CamVid701(tmp_path).samples("train")
    assert len(CamVid701(tmp_path).samples("test")) == 1


def test_a_missing_folder_is_one_problem(tmp_path: Path) -> None:
    image(tmp_path / "701_StillsRaw_full" / "0001TP_006690.png")
    assert CamVid701(tmp_path).detect()
    assert [p.split(": ")[1] for p in CamVid701(tmp_path).match_split("train").problems] == [
        "no such folder; expected CamVid's masks, *_L.png"
    ]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_what_is_saved_is_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("camvid701")
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    samples = []
    for stem in data.draw(st.lists(st.sampled_from(frames()), min_size=1, max_size=3, unique=True)):
        height, width = random.integers(1, 9, 2)
        ids = random.choice([*range(11), 255], (height, width)).astype(np.uint8)
        samples.append((stem, random.integers(0, 256, (height, width, 3)).astype(np.uint8), ids))
    split = data.draw(st.sampled_from(["train", "val", "test"]))
    CamVid701.save(root, split, samples)
    found = open_dataset(root)
    assert (found.format, found.splits) == ("camvid701", (split,))
    pairs = found.samples(split)
    assert [p.name for p in pairs] == [stem for stem, _, _ in samples]
    for pair, (_, image, ids) in zip(pairs, samples, strict=True):
        assert np.array_equal(read_image(pair.image), image)
        assert np.array_equal(pair.read_label(image.shape[:2]), ids)


def test_pairs_can_be_sent_to_workers(tmp_path: Path) -> None:
    (pair,) = CamVid701(published(tmp_path, "0001TP_006690")).samples("train")
    assert pickle.loads(pickle.dumps(pair)) == pair


@pytest.mark.parametrize("stem", ["", "a/b", " a", "a\nb"])
def test_a_stem_that_is_no_file_name_is_not_saved(stem: str, tmp_path: Path) -> None:
    sample = (stem, np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8))
    with pytest.raises(InputError, match="found the stem"):
        CamVid701.save(tmp_path, "train", [sample])


def test_an_id_that_is_none_is_not_saved(tmp_path: Path) -> None:
    sample = ("a", np.zeros((1, 2, 3), np.uint8), np.array([[0, 11]], np.uint8))
    with pytest.raises(InputError, match=r"a: found the id 11 at x=1, y=0. Give 0 to 10, or 255"):
        CamVid701.save(tmp_path, "train", [sample])


def test_the_other_copy_of_camvid_is_not_mistaken(tmp_path: Path) -> None:
    for folder in ("train", "trainannot", "val", "valannot"):
        (tmp_path / folder).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / folder / "0001TP_006690.png")
    assert not CamVid701(tmp_path).detect()
    assert open_dataset(tmp_path).format == "camvid"


@pytest.mark.parametrize("files", [["images/a.png", "labels/a.png"], ["images/a.png", "labels/a_P.png"]])
def test_plain_folders_are_not_mistaken(files: list[str], tmp_path: Path) -> None:
    for file in files:
        image(tmp_path / file)
    assert not CamVid701(tmp_path).detect()
