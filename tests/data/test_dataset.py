"""A data set as Python has it: each file read once, samples that know their classes, splits as torch data sets."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

import dilated
from dilated.data.dataset import Dataset, open_dataset, require_disjoint_splits
from dilated.data.formats import FORMATS
from dilated.data.labels import Classes, save_classes
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = Classes(("background", "disc", "bar"), ((0, 0, 0), (220, 60, 60), (60, 60, 220)))
_opened: list[Counter[str]] = []


def _count_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened[-1][os.fsdecode(arguments[0])] += 1


sys.addaudithook(_count_open)  # which cannot be removed, and does nothing without a counter


@contextmanager
def count_opens(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Counter[str], Counter[bytes | str]]]:
    """How often each file is opened, and each text is parsed as JSON."""
    opened: Counter[str] = Counter()
    parsed: Counter[bytes | str] = Counter()
    real = json.loads

    def loads(content: bytes | str, **options: Any) -> Any:
        parsed[content] += 1
        return real(content, **options)

    monkeypatch.setattr(json, "loads", loads)
    _opened.append(opened)
    try:
        yield opened, parsed
    finally:
        _opened.pop()


def write(root: Path, name: str, toml: bool) -> Path:
    """Two splits of two images each."""
    random = np.random.default_rng(0)
    classes = FORMATS[name].adapt_classes(CLASSES)
    for split in ("train", "val"):
        labels = [random.integers(0, 3, (8, 9)).astype(np.uint8) for _ in range(2)]
        samples = [
            (f"{split}{i}", random.integers(0, 256, (8, 9, 3), dtype=np.uint8), ids) for i, ids in enumerate(labels)
        ]
        FORMATS[name].save(root, split, samples, classes)
    if toml:
        save_classes(classes, root / "classes.toml")
    elif name == "labelme":
        (root / "labels.txt").unlink()  # so that the classes are those of the files
    return root


@pytest.mark.parametrize("toml", [True, False])
@pytest.mark.parametrize(
    ("name", "described_by"),
    [
        ("yolo", ["data.yaml"]),
        ("coco_json", ["annotations/instances_train.json", "annotations/instances_val.json"]),
        ("labelme", []),
        ("cvat", ["labelmap.txt", "ImageSets/Segmentation/Train.txt", "ImageSets/Segmentation/Validation.txt"]),
        ("mapillary", []),  # the beginning of whose config.json is looked at for labelme's too
        ("ade20k", ["objectInfo150.txt"]),
        ("voc", ["VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"]),
        ("folders", []),
        ("colors", []),
    ],
)
def test_no_file_that_describes_a_data_set_is_opened_or_parsed_twice(
    name: str, described_by: list[str], toml: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not toml and name in ("folders", "colors"):
        pytest.skip("such data has no classes without a classes.toml")
    root = write(tmp_path / "data", name, toml)
    with count_opens(monkeypatch) as (opened, parsed):
        data = open_dataset(root)
        for _ in range(2):
            for split in data.splits:
                data.samples(split)
    assert (data.format, data.splits) == (name, ("train", "val"))
    files = {root / file for file in described_by} | ({root / "classes.toml"} if toml else set())
    if toml and name in ("mapillary", "ade20k"):  # whose own names are then not needed
        files = {root / "classes.toml"}
    assert {path: opened[str(path)] for path in files} == dict.fromkeys(files, 1)
    texts = [path for path in root.rglob("*.json") if name != "mapillary" or not toml]
    assert {path: parsed[path.read_bytes()] for path in texts} == dict.fromkeys(texts, 1)


def test_of_labelmes_files_only_the_beginning_of_the_first_is_read_to_recognize_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "data", "labelme", toml=False)
    with count_opens(monkeypatch) as (opened, _):
        open_dataset(root).samples("train")
    assert {path.name: opened[str(path)] for path in root.rglob("*.json")} == {
        "train0.json": 2,
        "train1.json": 1,
        "val0.json": 2,
        "val1.json": 1,
    }


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return open_dataset(write(tmp_path / "data", "folders", toml=True))


def test_a_sample_knows_its_classes(data: Dataset) -> None:
    sample = data.samples("train")[0]
    assert sample.classes == data.classes
    assert np.array_equal(sample.read_label(), np.asarray(Image.open(sample.label)))
    with pytest.raises(InputError, match="found a label of 9x8; expected 9x7"):
        sample.read_label((7, 9))


def test_a_sample_without_classes_is_an_error_that_says_where_to_get_them(data: Dataset) -> None:
    sample = data.samples("train")[0]
    with pytest.raises(InputError, match=r"has no classes\. Take it from open_dataset"):
        Sample(sample.image, sample.label).read_label()


def test_a_split_is_a_torch_data_set_of_images_from_0_to_1_and_class_ids(data: Dataset) -> None:
    split = data["train"]
    assert isinstance(split, torch.utils.data.Dataset)
    assert len(split) == 2
    for (image, label), sample in zip((split[i] for i in range(len(split))), data.samples("train"), strict=True):
        assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
        assert torch.equal((image * 255).round().byte(), torch.tensor(sample.read_image()).permute(2, 0, 1))
        assert np.array_equal(label.numpy(), sample.read_label())


def test_ignored_pixels_are_255_in_the_tensors(tmp_path: Path) -> None:
    ids = np.array([[0, 255, 1]], np.uint8)
    FORMATS["folders"].save(tmp_path, "train", [("a", np.zeros((1, 3, 3), np.uint8), ids)], CLASSES)
    save_classes(CLASSES, tmp_path / "classes.toml")
    assert open_dataset(tmp_path)["train"][0][1].tolist() == [[0, 255, 1]]


def test_a_transform_gets_image_and_label_together(data: Dataset) -> None:
    def flip(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return image.flip(-1), label.flip(-1)

    plain, flipped = data["val"], data["val"].with_transform(flip)
    assert torch.equal(flipped[1][0], plain[1][0].flip(-1))
    assert torch.equal(flipped[1][1], plain[1][1].flip(-1))


def test_a_loader_iterates_over_a_split_once_with_workers(data: Dataset) -> None:
    batches = list(DataLoader(data["train"], batch_size=2, num_workers=1))  # type: ignore[arg-type, var-annotated]
    assert [(tuple(images.shape), tuple(labels.shape)) for images, labels in batches] == [((2, 3, 8, 9), (2, 8, 9))]
    assert len(list(data["train"])) == 2  # type: ignore[call-overload]


def test_a_split_that_does_not_exist_is_an_error(data: Dataset) -> None:
    with pytest.raises(InputError, match="has no split 'test'; found train, val"):
        data["test"]


def test_a_data_set_shows_itself_without_its_samples(data: Dataset) -> None:
    assert len(repr(data)) < 1000


def test_convert_takes_a_folder_and_is_public(data: Dataset, tmp_path: Path) -> None:
    options = dilated.ConvertOptions(splits=("val",))
    assert dilated.convert(str(data.root), str(tmp_path / "out"), "coco_json", options).images == {"val": 2}
    assert open_dataset(tmp_path / "out").splits == ("val",)


def test_lists_that_overlap_are_refused_to_train_on(tmp_path: Path) -> None:
    for stem in "ab":
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("L", (4, 3)).save(tmp_path / kind / f"{stem}.png")
    (tmp_path / "classes.toml").write_text('[[class]]\nname = "a"\ncolor = [0, 0, 0]\n')
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("b\n")
    with pytest.raises(InputError, match=r"1 image in train and in val, the first is .*images/b\.png\. Remove"):
        require_disjoint_splits(open_dataset(tmp_path))
    (tmp_path / "train.txt").write_text("a\n")
    require_disjoint_splits(open_dataset(tmp_path))
