from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.formats import voc
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.formats.voc import VOC
from dilated.data.images import read_image
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError
from dilated.palettes import voc_color

LABEL = np.array([[0, 15, 255], [20, 20, 255]], dtype=np.uint8)
IMAGE = np.full((2, 3, 3), 90, dtype=np.uint8)


def devkit(root: Path, **lists: list[str]) -> Path:
    """A devkit of tiny images with palette labels, as VOC has them, made without the module under test."""
    folder = root / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for split, stems in lists.items():
        for stem in stems:
            Image.fromarray(IMAGE).save(folder / "JPEGImages" / f"{stem}.jpg")
            label = Image.fromarray(LABEL)
            label.putpalette([7, 8, 9] * 256)
            label.save(folder / "SegmentationClass" / f"{stem}.png")
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{s}\n" for s in stems))
    return root


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_data_folder_is_any_of_three(below: str, tmp_path: Path) -> None:
    root = devkit(tmp_path, train=["2007_000032", "2007_000039"], val=["2007_000033"]) / below
    data = open_dataset(root)
    assert (data.format, data.splits) == ("voc", ("train", "val"))
    pairs = data.samples("train")
    assert [p.name for p in pairs] == ["2007_000032", "2007_000039"]
    assert [p.label.name for p in pairs] == ["2007_000032.png", "2007_000039.png"]
    assert read_image(pairs[0].image).shape == (2, 3, 3)


def test_palette_labels_are_read_by_index_and_never_by_color(tmp_path: Path) -> None:
    pair = open_dataset(devkit(tmp_path, val=["a"])).samples("val")[0]
    assert np.array_equal(pair.read_label((2, 3)), LABEL)


def test_the_order_is_that_of_the_list_and_empty_lines_are_none(tmp_path: Path) -> None:
    devkit(tmp_path, train=["b", "a"])
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text("b \r\n\na\n")
    assert [p.name for p in VOC(tmp_path).samples("train")] == ["b", "a"]


def test_the_colors_are_those_of_the_devkit() -> None:
    colors = dict(zip(voc.CLASSES.names, voc.CLASSES.colors, strict=True))
    assert len(colors) == 21
    assert colors["background"] == (0, 0, 0)
    assert colors["aeroplane"] == (128, 0, 0)
    assert colors["cat"] == (64, 0, 0)
    assert colors["diningtable"] == (192, 128, 0)
    assert colors["person"] == (192, 128, 128)
    assert colors["train"] == (128, 192, 0)
    assert colors["tvmonitor"] == (0, 64, 128)
    assert voc_color(255) == (224, 224, 192)


def test_splits_are_those_with_a_list(tmp_path: Path) -> None:
    assert VOC(devkit(tmp_path, test=[], trainval=["a"])).splits == ("trainval", "test")
    assert VOC(tmp_path / "none").splits == ()


@pytest.mark.parametrize("labels", [True, False])
def test_the_test_split_is_an_error_that_says_it_has_no_labels(labels: bool, tmp_path: Path) -> None:
    folder = devkit(tmp_path, test=["a"]) / "VOCdevkit/VOC2012"
    (folder / "SegmentationClass/a.png").unlink()
    if not labels:
        (folder / "SegmentationClass").rmdir()
    with pytest.raises(InputError, match=r"test\.txt: the images of VOC's test split have no labels"):
        open_dataset(tmp_path).samples("test")


def test_a_missing_devkit_is_an_error_that_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"VOC2012/ImageSets/Segmentation/train\.txt: no such list.* Get the list from http://host\.robots",
    ):
        VOC(tmp_path).samples("train")


def test_a_missing_list_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"Segmentation/val\.txt: no such list.* Get the list from http://host\.robots"
    ):
        VOC(devkit(tmp_path, train=["a"])).samples("val")


@pytest.mark.parametrize(("folder", "suffix"), [("JPEGImages", "jpg"), ("SegmentationClass", "png")])
def test_missing_files_are_an_error_with_the_first_and_how_many(folder: str, suffix: str, tmp_path: Path) -> None:
    place = devkit(tmp_path, train=["a", "b", "c"]) / "VOCdevkit/VOC2012" / folder
    for stem in ("b", "c"):
        (place / f"{stem}.{suffix}").unlink()
    with pytest.raises(InputError, match=rf"{folder}/b\.{suffix}: no such file; 2 of the 3 .*train\.txt.*http://host"):
        VOC(tmp_path).samples("train")
    (place / f"a.{suffix}").unlink()
    place.rmdir()
    with pytest.raises(InputError, match=rf"{folder}: no such folder; 3 of the 3"):
        VOC(tmp_path).samples("train")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"a\n\xff\xfe", "byte 2 is not UTF-8 text"),
        (b"a\n\n/JPEGImages/a.jpg /SegmentationClass/a.png\n", "line 3: found .* not a stem without folders"),
        (b"a\na\n", "line 2: found 'a' a second time"),
        (b"a 1\n", r"a 1\.jpg: no such file"),
        (b"x" * 4000, "no such file"),
        (b"a\0b\n", "no such file"),
    ],
)
def test_a_damaged_list_is_an_error_that_names_it(content: bytes, named: str, tmp_path: Path) -> None:
    listing = devkit(tmp_path, train=["a"]) / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    listing.write_bytes(content)
    with pytest.raises(InputError, match=named) as caught:
        VOC(tmp_path).samples("train")
    assert "train.txt" in str(caught.value)


def test_a_value_beyond_the_classes_is_an_error_that_names_the_label(tmp_path: Path) -> None:
    path = devkit(tmp_path, train=["a"]) / "VOCdevkit/VOC2012/SegmentationClass/a.png"
    Image.new("L", (3, 2), 21).save(path)
    with pytest.raises(InputError, match=r"a\.png: found the value 21"):
        VOC(tmp_path).samples("train")[0].read_label()


@pytest.mark.parametrize(
    "folders",
    [
        ["images/train", "labels/train"],
        ["train", "trainannot"],
        ["leftImg8bit/train", "gtFine/train"],
        ["JPEGImages", "SegmentationClass", "SegmentationClassPNG"],
        ["VOCdevkit/VOC2007/JPEGImages"],
        ["annotations", "train2017"],
        ["img", "cls"],
    ],
)
def test_other_layouts_are_not_mistaken_for_it(folders: list[str], tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert not VOC(tmp_path).detect()


@pytest.mark.parametrize("split", voc._VOC_SPLITS)
def test_what_is_saved_is_read_back(split: str, tmp_path: Path) -> None:
    other = np.arange(35, dtype=np.uint8).reshape(5, 7) % 21
    VOC.save(tmp_path, split, iter([("b", IMAGE, LABEL), ("a", np.full((5, 7, 3), 200, np.uint8), other)]))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("voc", (split,))
    pairs = data.samples(split)
    assert [p.name for p in pairs] == ["b", "a"]
    for pair, ids in zip(pairs, (LABEL, other), strict=True):
        assert np.array_equal(pair.read_label(ids.shape), ids)
    assert np.abs(read_image(pairs[0].image).astype(int) - IMAGE).max() <= 2


def test_a_saved_label_has_the_colors_of_the_devkit(tmp_path: Path) -> None:
    VOC.save(tmp_path, "train", [("a", IMAGE, LABEL)])
    with Image.open(VOC(tmp_path).samples("train")[0].label) as label:
        assert label.mode == "P"
        assert np.asarray(label.convert("RGB"))[0].tolist() == [[0, 0, 0], [192, 128, 128], [224, 224, 192]]


def test_saving_goes_into_the_devkit_that_is_there(tmp_path: Path) -> None:
    root = devkit(tmp_path, train=["a"]) / "VOCdevkit"
    VOC.save(root, "val", [("b", IMAGE, LABEL)])
    assert [p.name for s in ("train", "val") for p in VOC(tmp_path).samples(s)] == ["a", "b"]


@pytest.mark.parametrize(
    ("samples", "named"),
    [
        ([("", IMAGE, LABEL)], "the stem ''"),
        ([("a/b", IMAGE, LABEL)], "the stem 'a/b'"),
        ([(" a", IMAGE, LABEL)], "the stem ' a'"),
        ([("a\nb", IMAGE, LABEL)], "the stem"),
        ([("a", IMAGE, LABEL), ("a", IMAGE, LABEL)], "'a' twice"),
        ([("a", IMAGE[:1], LABEL)], r"a: found an image \(1, 3, 3\)"),
        ([("a", IMAGE.astype(float), LABEL)], "float64"),
        ([("a", IMAGE, LABEL.astype(int))], "int64"),
        ([("a", IMAGE, np.full((2, 3), 21, np.uint8))], "a: found the id 21 at x=0, y=0"),
    ],
)
def test_what_could_not_be_read_back_is_not_saved(samples: list[SampleArrays], named: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=named):
        VOC.save(tmp_path, "train", samples)
    assert VOC(tmp_path).splits == ()


def test_an_unknown_split_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found the split 'all'\. Give one of train"):
        VOC.save(tmp_path, "all", [])


def own_devkit(root: Path, masks: dict[str, Image.Image], suffix: str = ".jpg") -> Path:
    """Data of one's own in VOC's form."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem, mask in masks.items():
        Image.new("RGB", mask.size).save(root / "JPEGImages" / f"{stem}{suffix}")
        mask.save(root / "SegmentationClass" / f"{stem}.png")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("".join(f"{stem}\n" for stem in masks))
    return root


def rgb(*colors: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.array([colors], np.uint8))


def test_masks_of_vocs_colors_are_vocs_classes_and_the_outline_is_ignored(tmp_path: Path) -> None:
    data = open_dataset(
        own_devkit(tmp_path, {"2007_000032": rgb((0, 0, 0), (128, 0, 0), (192, 128, 128), (224, 224, 192))})
    )
    assert data.format == "voc"
    assert data.samples("train")[0].read_label().tolist() == [[0, 1, 15, 255]]


def test_a_color_that_vocs_palette_lacks_is_an_error(tmp_path: Path) -> None:
    data = open_dataset(own_devkit(tmp_path, {"a": rgb((0, 0, 0), (1, 2, 3))}))
    with pytest.raises(InputError, match=r"the color \(1, 2, 3\) at x=1, y=0"):
        data.samples("train")[0].read_label()


def test_data_in_vocs_form_has_the_classes_of_its_own_list(tmp_path: Path) -> None:
    own_devkit(tmp_path, {"a": Image.fromarray(np.array([[0, 1, 255]], np.uint8))}, ".png")
    assert any("no image is called as VOC's are" in note for note in open_dataset(tmp_path).notes)
    (tmp_path / "class_names.txt").write_text("_background_\ncrack\n")
    data = open_dataset(tmp_path)
    assert data.classes.names == ("background", "crack")
    assert data.samples("train")[0].image.name == "a.png"
    assert data.samples("train")[0].read_label().tolist() == [[0, 1, 255]]
    assert not any("no image is called" in note for note in data.notes)


@pytest.mark.parametrize("name", ["classes.toml", "class_dict.csv"])
def test_masks_of_ones_own_colors_in_vocs_form(name: str, tmp_path: Path) -> None:
    own_devkit(tmp_path, {"a": rgb((0, 0, 0), (9, 9, 200))})
    if name == "classes.toml":
        save_classes(Classes(("bg", "crack"), ((0, 0, 0), (9, 9, 200)), read="colors"), tmp_path / name)
    else:
        (tmp_path / name).write_text("name,r,g,b\nbg,0,0,0\ncrack,9,9,200\n")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.names) == ("voc", ("bg", "crack"))
    assert data.samples("train")[0].read_label().tolist() == [[0, 1]]


def test_a_devkit_of_another_year_is_read(tmp_path: Path) -> None:
    own_devkit(tmp_path / "VOCdevkit" / "VOC2007", {"000032": rgb((128, 0, 0), (0, 0, 0))})
    assert open_dataset(tmp_path).samples("train")[0].read_label().tolist() == [[1, 0]]
