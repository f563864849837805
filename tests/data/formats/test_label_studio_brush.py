"""Label Studio's masks by task, as label-studio-converter names them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_label_studio import annotation, region, task
from tool_files import image, labels, text

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.errors import InputError


def mask(folder: Path, name: str, columns: slice, value: int = 255) -> Path:
    pixels = np.zeros((4, 6), np.uint8)
    pixels[:, columns] = value
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder / f"{name}.png"


def export(root: Path, folder: str = "", images: tuple[str, ...] = ("images/7.jpg", "images/task-8.jpg")) -> Path:
    for number in (7, 8):
        mask(root / folder, f"task-{number}-annotation-1{number}-by-ann@example.org-tag-Air plane-0", slice(0, 4))
        mask(root / folder, f"task-{number}-annotation-1{number}-by-ann@example.org-tag-Car-x-0", slice(3, 5), 128)
    for path in images:
        image(root / path)
    return root


@pytest.mark.parametrize("folder", ["", "masks"])
def test_masks_are_their_labels_and_the_smaller_is_on_top(folder: str, tmp_path: Path) -> None:
    data = open_dataset(export(tmp_path, folder))
    assert (data.format, data.classes.names) == ("label_studio_brush", ("background", "Air plane", "Car-x"))
    assert [labels(data, split) for split in data.splits] == [[[[1, 1, 1, 2, 2, 0]] * 4]] * 2
    assert {sample.name for split in data.splits for sample in data.samples(split)} == {"7", "task-8"}
    assert "The labels are what follows tag- in the names." in data.notes


def test_several_masks_of_a_label_are_one_class_and_the_last_annotation_is_read(tmp_path: Path) -> None:
    root = export(tmp_path)
    mask(root, "task-7-annotation-20-by-1-tag-Car-x-0", slice(0, 1))
    mask(root, "task-7-annotation-20-by-1-tag-Car-x-1", slice(2, 3))
    mask(root, "task-7-annotation-9-by-1-tag-Old-0", slice(0, 6))
    data = open_dataset(root)
    read = {sample.name: sample.read_label().tolist() for split in data.splits for sample in data.samples(split)}
    assert read["7"] == [[2, 0, 2, 0, 0, 0]] * 4
    assert data.classes.names == ("background", "Air plane", "Car-x")
    assert "1 task with several annotations, of which that of the highest number is read." in data.notes


def test_without_images_of_the_tasks_numbers_check_says_what_to_do(tmp_path: Path) -> None:
    report = check(export(tmp_path, images=("images/0a1b2c3d-p0.jpg", "images/0a1b2c3e-p1.jpg")))
    assert any(
        "found no image of task 7; call it images/7.jpg, or export the project as JSON" in finding.text
        for finding in report.errors
    )


def test_beside_the_json_export_that_is_read(tmp_path: Path) -> None:
    square = region("polygon", "a", points=[[0, 0], [50, 0], [50, 50], [0, 50]])
    root = export(tmp_path, images=("images/0a1b2c30-p0.jpg", "images/0a1b2c31-p1.jpg"))
    text(root / "project.json", json.dumps([task(i, annotation(square)) for i in range(2)]))
    data = open_dataset(root)
    assert data.format == "label_studio"
    assert not any("looks like" in note for note in data.notes)


def test_a_mask_of_another_size_or_mode_is_an_error(tmp_path: Path) -> None:
    path = mask(export(tmp_path), "task-7-annotation-17-by-1-tag-z-0", slice(0, 1))
    Image.new("L", (5, 4)).save(path)
    with pytest.raises(InputError, match=r"z-0\.png.*: found a label of 5x4; expected 6x4"):
        [labels(data, split) for data in [open_dataset(tmp_path)] for split in data.splits]
    Image.new("RGB", (6, 4)).save(path)
    with pytest.raises(InputError, match=r"z-0\.png: has the mode 'RGB'"):
        [labels(data, split) for data in [open_dataset(tmp_path)] for split in data.splits]
