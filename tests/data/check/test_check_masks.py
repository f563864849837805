"""One fault in the labels at a time, in data that is otherwise healthy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import healthy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.check.check import CheckReport, check
from dilated.data.check.inspection import _find_blended_values
from dilated.data.labels import Classes, save_classes


def found(report: CheckReport) -> set[tuple[str, str]]:
    return {(f.severity, f.kind) for f in report.findings}


def rewrite(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in healthy.labels_of(root):
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_streets_have_nothing_wrong(tmp_path: Path, suffix: str) -> None:
    report = check(healthy.save(tmp_path, healthy.STREET, map(healthy.street, range(12)), suffix))
    assert report.findings == []


def test_cells_have_nothing_wrong(tmp_path: Path) -> None:
    report = check(healthy.save(tmp_path, healthy.CELLS, map(healthy.cells, range(12))))
    assert report.findings == []


def test_a_binary_mask_of_255_loses_its_foreground_and_says_how_to_keep_it(tmp_path: Path) -> None:
    root = healthy.save(tmp_path, healthy.CELLS, map(healthy.cells, range(8)))
    rewrite(root, lambda label: label * 255)
    report = check(root)
    (finding,) = [f for f in report.findings if f.kind == "binary mask"]
    assert finding.severity == "error"
    assert "values = [255] at 'cell'" in finding.hint
    assert len(finding.samples) == 8
    save_classes(Classes(healthy.CELLS.names, healthy.CELLS.colors, ((0,), (255,))), root / "classes.toml")
    assert check(root).findings == []


def test_a_color_palette_is_read_as_indices_and_is_healthy(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    for path in healthy.labels_of(root):
        label = Image.open(path)
        label.putpalette([i * 20 for i in range(12) for _ in range(3)])
        label.save(path)
    report = check(root)
    assert report.findings == []
    assert report.total.label_modes == {"P": 8}


def test_classes_counted_from_1_are_told_from_one_that_is_missing(tmp_path: Path) -> None:
    root = healthy.save(tmp_path, healthy.CELLS, map(healthy.cells, range(8)))
    rewrite(root, lambda label: label + 1)
    shifted = [f for f in check(root).findings if f.kind == "shifted classes"]
    assert [f.severity for f in shifted] == ["error"]
    assert "hold 1 to 2 and never 0" in shifted[0].text
    rewrite(root, lambda label: label - 1)
    path = healthy.labels_of(root)[0]
    label = np.array(Image.open(path))
    label[:4, :4] = 2
    Image.fromarray(label).save(path)
    more = [f for f in check(root).findings if f.kind == "shifted classes"]
    assert "the value 2 is in 1 label, one more than the last class 'cell'" in more[0].text


def test_grey_versions_of_the_colors_are_recognised(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    for path in healthy.labels_of(root):
        label = np.array(Image.open(path))
        label[label == 11] = 3
        Image.fromarray(np.array(healthy.STREET.colors, np.uint8)[label]).convert("L").save(path)
    kinds = found(check(root))
    assert ("error", "grey colors") in kinds
    assert ("error", "shifted classes") not in kinds


def test_colors_are_not_read_as_ids(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    rewrite(root, lambda label: np.stack([label, label, np.full_like(label, 255)], -1))
    report = check(root)
    assert found(report) == {("error", "unreadable label")}
    assert len(report.errors) == 8


@pytest.mark.parametrize("scale", [0.5, 1.25, 3])
def test_labels_that_were_resized_with_smoothing_are_found(tmp_path: Path, scale: float) -> None:
    root = healthy.save(tmp_path, healthy.STREET, map(healthy.street, range(8)))
    for kind in ("images", "labels"):
        for path in (root / kind).glob("*/*.png"):
            image = Image.open(path)
            size = round(image.width * scale), round(image.height * scale)
            image.resize(size, Image.Resampling.BILINEAR).save(path)
    kinds = found(check(root))
    assert ("error", "blended label") in kinds


@pytest.mark.parametrize("scale", [0.5, 1.25, 3])
def test_labels_that_were_resized_without_smoothing_are_healthy(tmp_path: Path, scale: float) -> None:
    root = healthy.save(tmp_path, healthy.STREET, map(healthy.street, range(8)))
    for kind in ("images", "labels"):
        for path in (root / kind).glob("*/*.png"):
            image = Image.open(path)
            size = round(image.width * scale), round(image.height * scale)
            image.resize(size, Image.Resampling.NEAREST).save(path)
    assert check(root).findings == []


def test_one_class_in_between_may_be_an_outline_and_is_a_warning(tmp_path: Path) -> None:
    classes = Classes(("field", "outline", "disc"), ((0, 90, 0), (255, 255, 255), (220, 60, 60)))

    def outlined(seed: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = healthy.cells(seed)
        label = label * 2
        edge = np.zeros_like(label, dtype=bool)
        edge[:, 1:] |= label[:, 1:] != label[:, :-1]
        edge[1:] |= label[1:] != label[:-1]
        label[edge] = 1
        return image, label

    report = check(healthy.save(tmp_path, classes, map(outlined, range(8))))
    assert found(report) == {("warning", "blended label")}


def test_jpeg_labels_are_found_though_their_values_are_known(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    for path in healthy.labels_of(root):
        Image.fromarray(np.zeros((72, 96), np.uint8)).save(path.with_suffix(".jpg"))
        path.unlink()
    report = check(root)
    jpeg = [f for f in report.findings if f.kind == "JPEG label"]
    assert [f.severity for f in jpeg] == ["error", "error"]
    assert jpeg[0].text.startswith("train: 6 of 6 labels are JPEG")


def test_a_jpeg_in_a_file_called_png_is_found(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    path = healthy.labels_of(root)[0]
    Image.fromarray(np.zeros((72, 96), np.uint8)).save(path, format="JPEG")
    assert found(check(root)) == {("error", "JPEG label")}


def test_labels_of_a_single_class_are_an_error(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    rewrite(root, lambda label: label * 0 + 3)
    report = check(root)
    single = [(f.severity, f.text.split(";")[0]) for f in report.findings if f.kind == "one class only"]
    assert single == [
        ("error", "train: every label holds 'road' and no other class"),
        ("warning", "val: every label holds 'road' and no other class"),
    ]


def test_labels_that_nearly_all_hold_one_class_are_a_warning(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path, 28)
    kept = {path for path in healthy.labels_of(root) if path.parent.name == "val"} | {healthy.labels_of(root)[0]}
    for path in set(healthy.labels_of(root)) - kept:
        Image.fromarray(np.full((72, 96), 3, np.uint8)).save(path)
    report = check(root)
    assert found(report) == {("warning", "one class only")}
    assert "20 of 21 labels hold 'road'" in report.findings[0].text


def test_a_class_that_val_lacks_cannot_be_measured(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    for path in (root / "labels" / "val").iterdir():
        label = np.array(Image.open(path))
        label[label == 4] = 3
        Image.fromarray(label).save(path)
    report = check(root)
    assert [(f.severity, f.text) for f in report.findings] == [
        ("warning", "val: no pixel is 'car', so no IoU can be measured of it")
    ]


def test_a_label_that_is_its_image_is_found(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    label = root / "labels" / "train" / "s0.png"
    gray = np.random.default_rng(0).integers(0, 5, (72, 96), dtype=np.uint8)
    for path in (label, root / "images" / "train" / "s0.png"):
        Image.fromarray(gray).save(path)
    assert found(check(root)) == {("error", "label is the image")}


def test_an_image_and_label_that_were_swapped_are_found(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    image, label = root / "images" / "train" / "s0.png", root / "labels" / "train" / "s0.png"
    photo = Image.open(image).copy()
    image.write_bytes(label.read_bytes())
    photo.save(label)
    assert found(check(root)) == {("error", "unreadable label"), ("error", "image and label swapped")}
    photo.convert("L").save(label)
    report = check(root)
    assert ("error", "unknown label value") in found(report)
    assert ("error", "image and label swapped") not in found(report)  # a grey photograph has too few tones to be sure


def oriented(path: Path, orientation: int) -> None:
    image = Image.open(path).copy()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def test_a_label_of_an_image_that_exif_turns_is_told_to_be_turned(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    oriented(root / "images" / "train" / "s0.png", 6)
    report = check(root)
    assert found(report) == {("error", "label of another size")}
    assert report.findings[0].hint.startswith("rotate the label")


def test_an_image_upside_down_by_exif_is_a_warning(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    oriented(root / "images" / "train" / "s0.png", 3)
    report = check(root)
    assert found(report) == {("warning", "rotated image")}
    assert report.splits["train"].rotated_images == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 255), st.integers(0, 2**32 - 1))
def test_areas_of_any_two_values_are_never_blended(high: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    label = np.repeat(np.repeat(random.integers(0, 2, (8, 8)) * high, 5, 0), 5, 1)
    assert _find_blended_values(label) == frozenset()
    assert _find_blended_values(random.integers(0, 256, (40, 40))) == frozenset()  # noise has no edges


def test_classes_without_any_value_are_no_reason_to_stop(tmp_path: Path) -> None:
    healthy.streets(tmp_path)
    names = '[[class]]\nname = "sky"\ncolor = [0, 0, 0]\nvalues = []\n'
    (tmp_path / "classes.toml").write_text(names)
    assert {finding.kind for finding in check(tmp_path).errors} == {"unknown label value"}
