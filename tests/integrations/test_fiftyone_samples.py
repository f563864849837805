"""FiftyOne's samples of a data set and of predictions, and a data set of its samples."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dilated import Classes, Predictor, Segmenter, SegmenterConfig
from dilated.data.dataset import open_dataset
from dilated.data.labels import save_classes
from dilated.errors import InputError
from dilated.integrations.fiftyone import to_mask_targets, to_samples, write_dataset

CLASSES = Classes(("sky", "road"), ((0, 0, 255), (128, 64, 128)))


@pytest.fixture(scope="module")
def fiftyone() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        return pytest.importorskip("fiftyone", reason="FiftyOne is not installed; `pip install fiftyone` tests it")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random, root = np.random.default_rng(0), tmp_path / "data"
    for split, number in (("train", 2), ("val", 1)):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for i in range(number):
            pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{split}{i}.png")
            label = random.choice([0, 1, 255], (40, 50)).astype(np.uint8)
            Image.fromarray(label).save(root / "labels" / split / f"{split}{i}.png")
    save_classes(CLASSES, root / "classes.toml")
    return root


def read_all(root: Path) -> dict[str, list[list[int]]]:
    data = open_dataset(root)
    return {sample.name: sample.read_label().tolist() for split in data.splits for sample in data.samples(split)}


def test_a_data_set_comes_back_from_fiftyone_as_it_went(fiftyone: Any, data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    samples = [sample for split in dataset.splits for sample in to_samples(dataset, split)]
    assert all(isinstance(sample, fiftyone.Sample) for sample in samples)
    assert samples[0].ground_truth.mask.max() == 2
    write_dataset(samples, "ground_truth", CLASSES, tmp_path / "back")
    assert open_dataset(tmp_path / "back").classes.names == CLASSES.names
    assert read_all(tmp_path / "back") == read_all(data)


def test_predictions_lie_beside_the_labels_in_the_same_values(fiftyone: Any, data: Path) -> None:
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="resnet18", features=8)
    predictor = Predictor(Segmenter(CLASSES.names, CLASSES.colors, config), device="cpu")
    (sample,) = to_samples(open_dataset(data), "val", predictor)
    prediction = predictor(sample.filepath)
    assert (sample.prediction.mask == prediction.labels + 1).all()
    assert {to_mask_targets(CLASSES.names)[value] for value in np.unique(sample.prediction.mask)} <= {"sky", "road"}
    assert 0.5 < sample.confidence < 1
    with pytest.raises(InputError, match="other classes"):
        list(to_samples(open_dataset(data), "val", Predictor("street", device="cpu")))


def test_samples_that_are_no_labels_of_the_classes_are_refused(fiftyone: Any, data: Path, tmp_path: Path) -> None:
    image = str(data / "images" / "val" / "val0.png")
    for mask, words in (
        (np.full((40, 50), 3, np.uint8), "values up to 3"),
        (np.ones((40, 51), np.uint8), "40x51|51x40"),
        (np.ones((40, 50, 3), np.uint8), "the shape"),
        (None, "no sample has 'seg'"),
    ):
        sample = fiftyone.Sample(filepath=image, seg=None if mask is None else fiftyone.Segmentation(mask=mask))
        with pytest.raises(InputError, match=words):
            write_dataset([sample], "seg", CLASSES, tmp_path / words.replace("|", ""))
    with pytest.raises(InputError, match="is not empty"):
        write_dataset([], "seg", CLASSES, data)
