"""Labels of a few points or scribbles, ignored elsewhere."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dilated import load, load_recipe, open_dataset
from dilated.data.augment import AugmentConfig
from dilated.evaluation.evaluate import evaluate
from dilated.prediction.predictor import Predictor
from dilated.training.losses.combined import LossConfig, combined_loss
from dilated.training.train import train

TRAINING = """batch=6 stage.0.epochs=100 stage.0.backbone_lr_factor=1.0 stage.0.val_interval=100 stage.0.output_stride=8
    augment.scale=[1.0,1.0] augment.crop=[40,56] augment.brightness=0.0 augment.contrast=0.0 augment.saturation=0.0
    augment.flip=false network.features=32 network.dropout=0.0 ema=0.0 workers=0"""

NUCLEI_TRAINING = """batch=6 stage.0.epochs=30 stage.0.backbone_lr_factor=1.0 stage.0.val_interval=1000
    stage.0.output_stride=8 augment.crop=[96,96] network.features=32 network.dropout=0.0 ema=0.0 workers=0"""


def sparse(height: int, width: int, *points: tuple[int, int]) -> Tensor:
    label = torch.full((height, width), 255, dtype=torch.uint8)
    for row, column in points:
        label[row, column] = 1
    return label


@pytest.mark.parametrize("point", [(0, 0), (299, 399), (150, 10), (160, 222)])
def test_every_crop_of_a_large_image_holds_a_labelled_pixel(point: tuple[int, int]) -> None:
    torch.manual_seed(0)
    augment = AugmentConfig(crop=(64, 48), scale=(1.0, 1.5)).build()
    image, label = torch.zeros(3, 300, 400, dtype=torch.uint8), sparse(300, 400, point)
    crops = [augment(image, label) for _ in range(40)]
    assert all(cropped.shape == (3, 64, 48) and target.shape == (64, 48) for cropped, target in crops)
    assert np.mean([bool((target == 1).any()) for _, target in crops]) > 0.9


def test_labels_and_pixels_of_a_crop_belong_together() -> None:
    torch.manual_seed(1)
    image, label = torch.zeros(3, 200, 200, dtype=torch.uint8), sparse(200, 200, (30, 170))
    image[:, 30, 170] = 250
    settings = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    augment = AugmentConfig(crop=(20, 20), scale=(1.0, 1.0), vertical_flip=True, **settings).build()
    for _ in range(20):
        cropped, target = augment(image, label)
        assert torch.equal(cropped[0] == 250, target == 1)


def test_an_image_without_labels_is_cropped_once() -> None:
    image, label = torch.zeros(3, 90, 90, dtype=torch.uint8), sparse(90, 90)
    _, target = AugmentConfig(crop=(20, 20)).build()(image, label)
    assert (target == 255).all()


@pytest.mark.parametrize("dice", [0.0, 1.0])
def test_samples_without_labels_change_no_loss_of_the_others(dice: float) -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.full((2, 8, 8), 255)
    target[0, 2, 3] = 1
    loss = combined_loss(logits, target, LossConfig(dice=dice))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert not logits.grad[1].any()
    assert logits.grad[0, :, 2, 3].any()


@pytest.mark.slow
def test_points_train_nearly_as_well_as_full_labels(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for path in sorted((folder / "labels" / "train").iterdir()):
        label = np.asarray(Image.open(path)).copy()
        label[random.random(label.shape) > 0.03] = 255
        Image.fromarray(label).save(path)
    best = train(open_dataset(folder), load_recipe(str(recipe_file), TRAINING.split()), tmp_path / "run")
    assert best > 0.45  # full labels: above 0.5; guessing the field everywhere: 0.28


ROOT = Path(__file__).resolve().parents[2]


def make_points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data of points that docs/your-own-data.md makes, by its own lines."""
    text = (ROOT / "docs" / "your-own-data.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text[text.index("Labels may be sparse") :], re.DOTALL)
    (folder / "examples").mkdir()
    shutil.copytree(ROOT / "examples" / "nuclei", folder / "examples" / "nuclei")
    monkeypatch.chdir(folder)
    exec(compile(block, "docs/your-own-data.md", "exec"), {})
    return folder / "points"


def test_the_example_of_the_docs_keeps_20_pixels_of_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = open_dataset(make_points(tmp_path, monkeypatch)).samples("train")
    full = {s.name: s.read_label() for s in open_dataset(ROOT / "examples" / "nuclei").samples("train")}
    for sample in samples:
        label = sample.read_label()
        assert [int((label == i).sum()) for i in (0, 1)] == [
            min(20, int((full[sample.name] == i).sum())) for i in (0, 1)
        ]
        assert (label == full[sample.name])[label != 255].all()


@pytest.mark.slow
def test_points_of_real_nuclei_beat_chance_and_ignored_is_not_background(
    tmp_path: Path, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = open_dataset(make_points(tmp_path, monkeypatch))
    recipe = load_recipe(str(recipe_file), NUCLEI_TRAINING.split())
    recipe = replace(recipe, stage=recipe.stage[:1], network=replace(recipe.network, context="none"))
    train(points, recipe, tmp_path / "run")
    data = open_dataset(ROOT / "examples" / "nuclei")
    counts = evaluate(
        Predictor(load(tmp_path / "run"), device="cpu"), data.samples("val"), data.classes
    ).confusion.counts
    truth, predicted = counts.sum(1) / counts.sum(), counts.sum(0) / counts.sum()
    iou = counts[1, 1] / (counts[1].sum() + counts[:, 1].sum() - counts[1, 1])
    assert iou > 0.45, (iou, truth, predicted)  # everything nucleus gives its fraction; everything background gives 0
    assert predicted[1] > 0.5 * truth[1]  # 99.9% of the pixels are ignored: as background they would hide all nuclei
