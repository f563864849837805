"""From any format to any other: the same classes by name, every pixel the same, or an error and nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dilated.data.convert import WRITABLE_FORMATS, ConvertOptions, convert
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.formats import FORMATS, voc
from dilated.data.formats.folders import Folders
from dilated.data.formats.yolo import YOLO
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError
from dilated.label_ids import label_dtype
from dilated.palettes import distinct_colors

OWN = ("folders", "colors", "voc", "camvid", "coco_json", "labelme", "mapillary", "ade20k", "tiff_pages")
"""Formats of any classes that can ignore pixels."""
NO_IGNORE = ("yolo", "cvat")
NO_TEST = ("mapillary", "ade20k")
NAMES = ("road", "background", "sign: a 'b' \"c\"", "sky")
CLASSES = Classes(NAMES, ((9, 0, 0), (0, 0, 0), (0, 250, 9), (1, 2, 255)), ((3,), (0,), (200, 201), (7,)), (9,))
COLON = ("cvat",)  # whose names end at a colon

labels = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 4))


def source(
    root: Path, maps: dict[str, list[np.ndarray]], classes: Classes = CLASSES, stem: str = "{split}{i}"
) -> Dataset:
    """A folder of such label maps, with images of noise."""
    random = np.random.default_rng(0)
    for split, group in maps.items():
        images = [random.integers(0, 256, (*ids.shape, 3), dtype=np.uint8) for ids in group]
        stems = [stem.format(split=split, i=i) for i in range(len(group))]
        samples = zip(stems, images, group, strict=True)
        Folders.save(root, split, samples, classes)
    save_classes(classes, root / "classes.toml")
    return open_dataset(root)


def by_name(data: Dataset, split: str) -> list[np.ndarray]:
    """The labels as the names of the classes, "" where ignored."""
    table = np.array([*data.classes.names, *[""] * (256 - len(data.classes))], dtype=object)
    return [table[pair.read_label(pair.size())] for pair in data.samples(split)]


def maps_of(seed: int, classes: int, *, ignored: bool = True) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    values = [*range(classes), *([255] if ignored else [])]
    return {s: [random.choice(values, (5, 7)).astype(np.uint8) for _ in range(2)] for s in ("train", "val")}


@pytest.mark.parametrize("name", [*OWN, *NO_IGNORE])
@given(ids=labels, other=labels)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_label_map_comes_back(
    name: str, ids: np.ndarray, other: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("data")
    table = np.array([0, 1, 2, 3, 1 if name in NO_IGNORE else 255], np.uint8)
    maps = {"train": [table[ids], table[other]], "val": [table[other]]}
    classes = CLASSES
    if name in COLON:
        classes = Classes(("road", "background", "sign 'b'", "sky"), CLASSES.colors, CLASSES.values, CLASSES.ignore)
    data = source(root / "in", maps, classes)
    convert(data, root / "out", name)
    read = open_dataset(root / "out")
    assert read.format == name
    for split in maps:
        for found, expected in zip(by_name(read, split), by_name(data, split), strict=True):
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", [n for n in OWN if n not in ("voc",)] + ["yolo", "cvat"])
def test_images_but_jpegs_come_back_and_so_do_colors(name: str, tmp_path: Path) -> None:
    classes = Classes(("background", "cell"), ((0, 0, 0), (9, 8, 7)))
    data = source(tmp_path / "in", maps_of(1, 2, ignored=False), classes)
    convert(data, tmp_path / "out", name)
    read = open_dataset(tmp_path / "out")
    assert dict(zip(read.classes.names, read.classes.colors, strict=True)) == {
        "background": (0, 0, 0),
        "cell": (9, 8, 7),
    }
    for old, new in zip(data.samples("val"), read.samples("val"), strict=True):
        assert np.array_equal(old.read_image(), new.read_image())


@pytest.mark.parametrize(
    ("name", "count"),
    [*((n, c) for n in (*OWN, *NO_IGNORE) for c in (255, 256, 300)), ("coco_panoptic", 300), ("coco_panoptic", 2_000)],
)
def test_many_classes_come_back(name: str, count: int, tmp_path: Path) -> None:
    """Around the last of 8 bits, in any order of the classes, of which one is called background."""
    random = np.random.default_rng(count)
    names = ["background", *(f"c{i}" for i in range(1, count))]
    random.shuffle(names)
    classes = Classes(tuple(names), tuple(distinct_colors(count)))
    ids = random.integers(0, count, (6, 9)).astype(label_dtype(count))
    ids[0, :2] = 0, count - 1
    if name not in NO_IGNORE:
        ids[3:, 3:5] = classes.ignore_id
    data = source(tmp_path / "in", {"train": [ids]}, classes)
    if count > FORMATS[name].most_classes:
        with pytest.raises(InputError, match=f"holds at most {FORMATS[name].most_classes} classes"):
            convert(data, tmp_path / "out", name)
        return
    written = convert(data, tmp_path / "out", name).classes
    (sample,) = open_dataset(tmp_path / "out").samples("train")
    found, known = sample.read_label(), ids != classes.ignore_id
    assert found.dtype == label_dtype(count)
    assert np.array_equal(found == written.ignore_id, ~known)
    assert [sample.classes.names[i] for i in found[known]] == [names[i] for i in ids[known]]


@pytest.mark.parametrize("first", ["yolo", "coco_json", "labelme", "colors", "tiff_pages"])
@pytest.mark.parametrize("second", ["mapillary", "cvat", "voc", "labelme"])
def test_chains_of_formats_keep_the_labels(first: str, second: str, tmp_path: Path) -> None:
    classes = Classes(("cell", "background", "edge"), ((9, 8, 7), (0, 0, 0), (1, 1, 1)))
    data = source(tmp_path / "in", maps_of(2, 3, ignored=False), classes)
    convert(data, tmp_path / "one", first)
    convert(open_dataset(tmp_path / "one"), tmp_path / "two", second)
    for found, expected in zip(by_name(open_dataset(tmp_path / "two"), "val"), by_name(data, "val"), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", [n for n in WRITABLE_FORMATS if FORMATS[n].fixed_classes is not None])
def test_fixed_formats_take_their_own_classes_by_name(name: str, tmp_path: Path) -> None:
    own = FORMATS[name].fixed_classes
    turned = Classes(own.names[::-1], own.colors[::-1])
    data = source(tmp_path / "in", maps_of(3, len(turned)), turned)
    convert(data, tmp_path / "out", name)
    read = open_dataset(tmp_path / "out")
    assert read.format == name
    assert not (tmp_path / "out" / "classes.toml").exists()
    for found, expected in zip(by_name(read, "train"), by_name(data, "train"), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", NO_IGNORE)
def test_ignored_pixels_are_an_error_where_they_cannot_be_kept_or_become_a_class(name: str, tmp_path: Path) -> None:
    classes = Classes(("background", "cell"), ((0, 0, 0), (9, 8, 7)))
    data = source(tmp_path / "in", {"train": [np.array([[0, 255, 1]], np.uint8)]}, classes)
    with pytest.raises(InputError, match=r"train0: found ignored pixels.*--ignore-as-class CLASS"):
        convert(data, tmp_path / "out", name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    with pytest.raises(InputError, match=r"'void' is no class.* Give one of background, cell"):
        convert(data, tmp_path / "out", name, ConvertOptions(ignore_as_class="void"))
    done = convert(data, tmp_path / "out", name, ConvertOptions(ignore_as_class="cell"))
    assert "Ignored pixels are written as cell." in done.notes
    assert by_name(open_dataset(tmp_path / "out"), "train")[0].tolist() == [["background", "cell", "cell"]]


def test_a_class_that_the_format_has_not_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cityscapes: has no class 'background' \(2 such\)"):
        convert(source(tmp_path / "in", maps_of(4, 4)), tmp_path / "out", "cityscapes")


@pytest.mark.parametrize("name", NO_TEST)
def test_a_split_that_the_format_has_not_is_an_error_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    data = source(tmp_path / "in", {"train": [np.zeros((2, 2), np.uint8)], "test": [np.zeros((2, 2), np.uint8)]})
    with pytest.raises(InputError, match="split 'test'"):
        convert(data, tmp_path / "out", name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    assert (
        convert(data, tmp_path / "out", name, ConvertOptions(splits=("train",))).notes[0]
        == "Not written: the splits test."
    )


def test_images_that_a_format_leaves_out_are_an_error(tmp_path: Path) -> None:
    data = source(tmp_path / "in", {"train": [np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)]}, voc.CLASSES)
    with pytest.raises(InputError, match="coco: train: of 2 images written 1 are read back, without train0"):
        convert(data, tmp_path / "out", "coco")


def test_names_in_two_splits_get_the_split_before_them(tmp_path: Path) -> None:
    data = source(tmp_path / "in", maps_of(5, 4), stem="p{i}")
    done = convert(data, tmp_path / "out", "voc")
    assert done.notes[0].startswith("2 names are in several splits, as 'p0'")
    assert [p.name for p in open_dataset(tmp_path / "out").samples("val")] == ["val_p0", "val_p1"]


@pytest.mark.parametrize("there", ["file", "folder"])
def test_a_folder_that_is_not_empty_is_an_error(there: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if there == "folder":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    else:
        out.write_text("mine")
    with pytest.raises(InputError, match="out: exists and is not empty"):
        convert(source(tmp_path / "in", maps_of(6, 4)), out, "voc")


def test_the_lock_that_a_finished_conversion_could_not_remove_goes_with_the_next_call(tmp_path: Path) -> None:
    data = source(tmp_path / "in", maps_of(6, 4))
    convert(data, tmp_path / "out", "voc")
    (tmp_path / ".out.lock").write_text(json.dumps({"pid": 2**22 + 1}))
    with pytest.raises(InputError, match="out: exists and is not empty"):
        convert(data, tmp_path / "out", "voc")
    assert not (tmp_path / ".out.lock").exists()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert convert(source(tmp_path / "in", maps_of(6, 4)), tmp_path / "out", "voc").images == {"train": 2, "val": 2}


def test_what_a_killed_conversion_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "half.png").write_bytes(b"\x89PNG")
    (tmp_path / ".out.lock").touch()
    convert(source(tmp_path / "in", maps_of(6, 4)), tmp_path / "out", "voc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert not (tmp_path / "out" / "half.png").exists()


def test_a_folder_that_may_be_anything_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    with pytest.raises(InputError, match=r"out\.part: is in the way"):
        convert(source(tmp_path / "in", maps_of(6, 4)), tmp_path / "out", "voc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.part"]


def test_an_unknown_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"format: 'png' is unknown.* Give one of camvid, "):
        convert(source(tmp_path / "in", maps_of(6, 4)), tmp_path / "out", "png")
    assert set(OWN) | set(NO_IGNORE) <= set(WRITABLE_FORMATS)


def test_a_damaged_label_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    data = source(tmp_path / "in", maps_of(7, 4))
    data.samples("val")[1].label.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"val1\.png"):
        convert(data, tmp_path / "out", "coco_json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_a_label_read_back_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class WrongYOLO(YOLO):
        @classmethod
        def save(cls, root: Path, split: str, samples: Any, classes: Classes | None = None) -> None:
            YOLO.save(root, split, ((stem, image, ids * 0) for stem, image, ids in samples), classes)

    data = source(tmp_path / "in", maps_of(8, 4))
    monkeypatch.setitem(FORMATS, "yolo", WrongYOLO)
    with pytest.raises(InputError, match="yolo: train: the label of train0 is not read back"):
        convert(data, tmp_path / "out", "yolo", ConvertOptions(ignore_as_class="sky"))


def test_a_share_for_val_parts_data_without_splits(tmp_path: Path) -> None:
    data = source(tmp_path / "in", {"train": [np.full((1, 2), i % 4, np.uint8) for i in range(10)]})
    first = convert(data, tmp_path / "a", "folders", ConvertOptions(val_fraction=0.3, seed=1))
    again = convert(data, tmp_path / "b", "folders", ConvertOptions(val_fraction=0.3, seed=1))
    other = convert(data, tmp_path / "c", "folders", ConvertOptions(val_fraction=0.3, seed=2))
    assert sum(first.images.values()) == 10
    names = [[p.name for p in open_dataset(tmp_path / n).samples("val")] for n in "abc"]
    assert names[0] == names[1] != names[2]
    assert again.images == first.images
    assert other.images["train"] + other.images["val"] == 10


def test_a_share_for_val_of_data_with_splits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has splits of its own, train, val"):
        convert(source(tmp_path / "in", maps_of(9, 4)), tmp_path / "out", "folders", ConvertOptions(val_fraction=0.5))


def test_progress_counts_writing_and_reading_back(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(
        source(tmp_path / "in", maps_of(9, 4)), tmp_path / "out", "folders", progress=lambda *step: seen.append(step)
    )
    assert seen == [(i, 8) for i in range(1, 9)]
