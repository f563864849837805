"""Further forms of known tools' exports: read as what they are, or named with a way to a form that is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.data.decoders import count_tiff_pages
from dilated.errors import InputError

HEIGHT, WIDTH = 20, 30
SQUARE = np.zeros((HEIGHT, WIDTH), np.uint8)
SQUARE[4:10, 6:18] = 1
CORNERS = (6, 4, 18, 4, 18, 10, 6, 10)
TOML = '[[class]]\nname = "ground"\ncolor = [0, 0, 0]\n\n[[class]]\nname = "x"\ncolor = [255, 0, 0]\n'


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_image(path: Path, seed: int = 0) -> None:
    save(path, np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def color_mask(color: tuple[int, int, int]) -> np.ndarray:
    return np.where(SQUARE[..., None] > 0, np.array(color, np.uint8), np.uint8(0))


def write_text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def polygon_line() -> str:
    return "0 " + " ".join(str(c / (WIDTH, HEIGHT)[i % 2]) for i, c in enumerate(CORNERS)) + "\n"


def assert_square(root: Path, format: str, names: tuple[str, ...]) -> None:
    """All labels of a data set are the square, of the last class."""
    data = open_dataset(root)
    samples = [sample for split in data.splits for sample in data.samples(split)]
    assert (data.format, data.classes.names, len(samples)) == (format, names, 2)
    for sample in samples:
        assert np.array_equal(sample.read_label(), SQUARE)


def test_camvid_as_cvat_writes_it_has_the_classes_of_its_table(tmp_path: Path) -> None:
    write_text(tmp_path / "label_colors.txt", "0 0 0 background\n255 0 0 x\n")
    for i, split in enumerate(("train", "val")):
        write_text(tmp_path / f"{split}.txt", f"/{split}/a{i}.png /{split}annot/a{i}.png\n")
        save_image(tmp_path / split / f"a{i}.png", i)
        save(tmp_path / f"{split}annot" / f"a{i}.png", color_mask((255, 0, 0)))
    assert_square(tmp_path, "colors", ("background", "x"))


def test_masks_with_a_table_of_other_classes_are_not_those_of_camvid(tmp_path: Path) -> None:
    write_text(tmp_path / "class_dict.csv", "name,r,g,b\nground,0,0,0\nx,64,128,64\n")
    for i, split in enumerate(("train", "val")):
        save_image(tmp_path / split / f"a{i}.png", i)
        save(tmp_path / f"{split}_labels" / f"a{i}_L.png", color_mask((64, 128, 64)))
    assert_square(tmp_path, "colors", ("ground", "x"))


def test_cityscapes_with_classes_of_its_own_is_refused_with_a_way_out(tmp_path: Path) -> None:
    write_text(tmp_path / "label_colors.txt", "0 0 0 background\n255 0 0 x\n")
    save_image(tmp_path / "leftImg8bit/train/c/c_000000_000019_leftImg8bit.png")
    save(tmp_path / "gtFine/train/c/c_000000_000019_gtFine_labelIds.png", SQUARE)
    with pytest.raises(InputError, match="names its own classes") as error:
        open_dataset(tmp_path).samples("train")
    assert "Segmentation mask 1.1" in error.value.hint


@pytest.mark.parametrize("start", ["data/", "D:\\work\\", "/home/me/"])
def test_lists_of_yolo_may_have_the_paths_of_another_place(start: str, tmp_path: Path) -> None:
    write_text(tmp_path / "data.yaml", "names:\n  0: x\npath: .\ntrain: train.txt\nval: val.txt\n")
    for i, split in enumerate(("train", "val")):
        line = f"{start}images/{split}/a{i}.jpg"
        write_text(tmp_path / f"{split}.txt", (line.replace("/", "\\") if "\\" in start else line) + "\n")
        save_image(tmp_path / "images" / split / f"a{i}.jpg", i)
        write_text(tmp_path / "labels" / split / f"a{i}.txt", polygon_line())
    assert_square(tmp_path, "yolo", ("background", "x"))


def test_yolo_as_label_studio_writes_it_has_the_names_of_its_list(tmp_path: Path) -> None:
    write_text(tmp_path / "classes.txt", "x\n")
    write_text(tmp_path / "notes.json", json.dumps({"categories": [{"id": 0, "name": "x"}]}))
    for i in range(2):
        save_image(tmp_path / f"images/1f{i}-a.jpg", i)
        write_text(tmp_path / f"labels/1f{i}-a.txt", polygon_line())
    assert_square(tmp_path, "yolo", ("background", "x"))


def test_labels_in_the_only_folder_below_annotations_are_found_and_it_is_said(tmp_path: Path) -> None:
    write_text(tmp_path / "classes.toml", TOML)
    for i in range(2):
        save_image(tmp_path / f"images/cat_{i}.jpg", i)
        save(tmp_path / f"annotations/trimaps/cat_{i}.png", SQUARE)
        write_text(tmp_path / f"annotations/trimaps/._cat_{i}.png", "of a Mac")
        write_text(tmp_path / f"annotations/xmls/cat_{i}.xml", "<annotation/>")
    assert_square(tmp_path, "folders", ("ground", "x"))
    assert any("annotations/trimaps, the only images below" in note for note in open_dataset(tmp_path).notes)


def test_labels_in_two_folders_below_annotations_are_not_chosen_from(tmp_path: Path) -> None:
    write_text(tmp_path / "classes.toml", TOML)
    save_image(tmp_path / "images/cat.jpg")
    for folder in ("coarse", "fine"):
        save(tmp_path / f"annotations/{folder}/cat.png", SQUARE)
    with pytest.raises(InputError, match="has no label"):
        open_dataset(tmp_path).samples("train")


@pytest.mark.parametrize(
    ("name", "content", "tool"),
    [
        ("via.json", '{"a.png1": {"regions": [{"shape_attributes": {"name": "polygon"}}]}}', "VGG Image Annotator"),
        ("a.xml", "<annotation><object><polygon><pt><x>1</x></pt></polygon></object></annotation>", "XML form"),
        ("a.json", '{"image": {}, "annotations": [{"predicted_iou": 0.9}]}', "Segment Anything"),
        ("export.ndjson", '{"data_row": {"id": "c"}, "projects": {}}', "Labelbox"),
    ],
)
def test_exports_that_are_not_read_are_named_with_a_way_out(name: str, content: str, tool: str, tmp_path: Path) -> None:
    save_image(tmp_path / "train/a.png")
    write_text(tmp_path / "train" / name, content)
    (finding,) = check(tmp_path).errors
    assert f"{name} is of " in finding.hint
    assert tool in finding.hint


def test_an_archive_that_is_no_zip_file_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="of archives only zip files are opened"):
        open_dataset(tmp_path / "data.tar.gz")


@pytest.mark.parametrize("is_big", [False, True])
def test_pages_of_a_tiff_of_any_bands_are_counted(is_big: bool, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=is_big) as file:
        for kind in (0, 0, 1, 0):  # the third is a smaller copy
            file.write(
                np.zeros((8, 9, 6), np.float32), photometric="minisblack", planarconfig="contig", subfiletype=kind
            )
    assert count_tiff_pages(tmp_path / "a.tif") == 3
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    assert count_tiff_pages(tmp_path / "a.tif") >= 1


def test_a_stack_of_which_the_first_page_is_used_is_a_warning(tmp_path: Path) -> None:
    write_text(tmp_path / "classes.toml", TOML)
    for i, split in enumerate(("train", "val")):
        (tmp_path / "images" / split).mkdir(parents=True)
        pages = np.random.default_rng(i).integers(0, 9000, (6, HEIGHT, WIDTH)).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"images/{split}/a{i}.tif", pages, photometric="minisblack")
        save(tmp_path / f"labels/{split}/a{i}.png", SQUARE)
    texts = [finding.text for finding in check(tmp_path).warnings if finding.kind == "several frames"]
    assert len(texts) == 2
    assert all("holds 6 frames or pages, of which the first is used" in text for text in texts)
