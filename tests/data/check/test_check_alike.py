"""What `check` says of images that are in a data set more than once."""

from __future__ import annotations

import shutil
from pathlib import Path

import healthy
import numpy as np
import pytest
from PIL import Image

from dilated.data.check.check import CheckReport, check


def found(report: CheckReport) -> list[tuple[str, str]]:
    return [(f.severity, f.kind) for f in report.findings]


def copy(root: Path, source: str, target: str) -> None:
    """Copy an image with its label; names are SPLIT/STEM."""
    for kind in ("images", "labels"):
        (root / kind / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / kind / f"{source}.png", root / kind / f"{target}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return healthy.streets(tmp_path)


def test_a_copy_in_val_is_an_error_with_both_files(root: Path) -> None:
    copy(root, "train/s0", "val/copy")
    report = check(root)
    assert found(report) == [("error", "same image in two splits")]
    assert report.findings[0].text.startswith(
        f"{root}/images/val/copy.png (val): is the same image as {root}/images/train/s0.png (train)"
    )
    assert [pair.name for pair in report.findings[0].samples] == ["copy", "s0"]


def test_the_same_pixels_in_another_format_are_a_copy(root: Path) -> None:
    copy(root, "train/s0", "val/copy")
    path = root / "images" / "val" / "copy.png"
    Image.open(path).save(path.with_suffix(".bmp"))
    path.unlink()
    assert found(check(root)) == [("error", "same image in two splits")]


def test_a_copy_in_test_is_a_warning(root: Path) -> None:
    copy(root, "train/s0", "test/copy")
    assert found(check(root)) == [("warning", "same image in two splits")]


def test_a_compressed_copy_in_val_is_a_warning_with_the_distance(root: Path) -> None:
    copy(root, "train/s0", "val/copy")
    path = root / "images" / "val" / "copy.png"
    Image.open(path).save(path.with_suffix(".jpg"), quality=70)
    path.unlink()
    report = check(root)
    assert found(report) == [("warning", "similar image in two splits")]
    assert f"{root}/images/val/copy.jpg (val): looks like {root}/images/train/s0.png (train)" in report.findings[0].text
    assert "of 64 bits" in report.findings[0].text


def test_copies_within_a_split_are_counted(root: Path) -> None:
    for i in range(3):
        copy(root, "train/s0", f"train/copy {i}")
    report = check(root)
    assert found(report) == [("warning", "same image twice")]
    assert report.findings[0].text.startswith("train: 3 of its images have the same pixels")


def test_frames_of_a_film_within_a_split_are_counted(root: Path) -> None:
    copy(root, "train/s0", "train/next")
    path = root / "images" / "train" / "next.png"
    Image.fromarray(np.asarray(Image.open(path)) // 10 * 10).save(path)
    report = check(root)
    assert found(report) == [("warning", "similar images")]
    assert report.findings[0].text.startswith("train: 2 of its images look like another")


@pytest.mark.parametrize(("pixels", "severity"), [(1, "warning"), (2000, "error")])
def test_an_image_with_two_labels_is_found(root: Path, pixels: int, severity: str) -> None:
    copy(root, "train/s0", "train/copy")
    path = root / "labels" / "train" / "copy.png"
    label = np.array(Image.open(path))
    label.ravel()[:pixels] = 4
    Image.fromarray(label).save(path)
    report = check(root)
    assert set(found(report)) == {("warning", "same image twice"), (severity, "same image, other label")}
    text = next(f.text for f in report.findings if f.kind == "same image, other label")
    assert f"differ in {pixels / label.size:.2%} of the pixels" in text


def test_black_tiles_are_no_copies(root: Path) -> None:
    for name in ("train/s0", "train/s1", "val/s3"):
        Image.new("RGB", (96, 72)).save(root / "images" / f"{name}.png")
    report = check(root)
    assert report.findings == []
    assert [split.blank_images for split in report.splits.values()] == [2, 1]
