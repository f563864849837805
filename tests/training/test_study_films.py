"""benchmarks/study_films.py: arms on features in memory are trained and measured as `dilated` does it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dilated import Predictor, Segmenter, SegmenterConfig
from dilated.evaluation.pair_counts import pair_labels
from dilated.training.config import Recipe, StageConfig
from dilated.training.study_arms import ArmLength, find_arm, make_arm_recipe
from dilated.training.study_measure import build_arm_network

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from frozen_arms import ArmTraining, FoldFeatures, count_classes, extract, pack, unpack

CLASSES = ["sky", "road", "tree"]
CONFIG = SegmenterConfig(backbone="test_efficientnet", features=8)


def make_training(steps: int) -> tuple[ArmTraining, np.ndarray, torch.Tensor]:
    torch.manual_seed(0)
    front = Segmenter(CLASSES, config=CONFIG).eval()
    images = torch.rand(3, 3, 40, 56).mul(255).round() / 255
    labels = torch.randint(0, 3, (3, 40, 56))
    features = extract(front, [(images, labels)], torch.device("cpu"))
    recipe = Recipe(network=CONFIG, stage=(StageConfig("frontend", iterations=1),), batch=2, precision="fp32")
    recipe = replace(recipe, augment=replace(recipe.augment, crop=(40, 56)))
    arm = make_arm_recipe(recipe, find_arm("basic"), ArmLength(steps, views=1), 1, front.backbone_levels)
    classes = type("Classes", (), {"names": tuple(CLASSES), "colors": tuple(front.colors)})()
    training = ArmTraining(build_arm_network(classes, arm, front), arm, FoldFeatures(features, features))
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return training, pixels, labels


def test_counts_of_features_are_those_of_the_predictor_on_the_images() -> None:
    training, images, labels = make_training(4)
    training.run(4, 4)
    training.take_average()
    predictor = Predictor(training.network)
    expected = [
        pair_labels(predictor(image).labels, label, 3).class_counts for image, label in zip(images, labels, strict=True)
    ]
    assert training.evaluate().tolist() == np.stack(expected).tolist()


def test_an_arm_learns_and_leaves_the_backbone_as_it_was() -> None:
    training, _, _ = make_training(30)
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    training.run(30, 30)
    changed = {name for name, value in training.network.state_dict().items() if not value.equal(before[name])}
    assert any(name.startswith("context.") for name in changed)
    assert not any(name.startswith("backbone.") for name in changed)


def test_ignored_pixels_count_nowhere() -> None:
    prediction, target = torch.randint(0, 3, (4, 5, 6)), torch.randint(0, 3, (4, 5, 6))
    target[:, 0] = 255
    expected = [pair_labels(p, t, 3).class_counts for p, t in zip(prediction, target, strict=True)]
    assert count_classes(prediction, target, 3).tolist() == np.stack(expected).tolist()


def test_packed_counts_are_the_counts() -> None:
    counts = np.random.default_rng(0).integers(0, 172_800, (7, 33))
    assert unpack(pack(counts)).tolist() == counts.tolist()
