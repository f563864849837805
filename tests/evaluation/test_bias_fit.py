from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.evaluation.bias_fit import PixelSample, _best_bias, fit_biases, fit_temperature
from dilated.evaluation.metrics import compute_metrics, stack_image_counts


def make_sample(seed: int, classes: int, pixels: int, images: int = 1) -> PixelSample:
    """Logits that are multiples of 1/8, so that ties occur and sums are exact."""
    random = np.random.default_rng(seed)
    sample = PixelSample.empty(classes, images)
    for _ in range(images):
        logits = torch.from_numpy(random.integers(-16, 17, (classes, 1, pixels)) / 8).float()
        sample.add(logits, random.choice([*range(classes), 255], (1, pixels)))
    return sample


def mean_iou(logits: torch.Tensor, target: np.ndarray, classes: int) -> float:
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (target, logits.argmax(1).numpy()), 1)
    return float(compute_metrics(stack_image_counts(counts), classes)["mean_iou"][0])


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(2, 4), st.integers(1, 40))
def test_the_best_step_of_a_class_is_the_best_of_all_steps_tried_one_by_one(
    seed: int, classes: int, pixels: int
) -> None:
    logits, target, weights = make_sample(seed, classes, pixels).join()
    if not len(target):
        return
    biases = np.round(np.random.default_rng(seed).uniform(-1, 1, classes) * 64) / 64
    index = seed % classes
    bias, value = _best_bias(logits, biases, index, target, weights)

    def measured(step: float) -> float:
        tried = biases.copy()
        tried[index] = step
        return mean_iou(logits + torch.from_numpy(tried).float(), target, classes)

    grid = [measured(step) for step in np.arange(-128, 129) / 64]
    assert value == pytest.approx(max(grid), abs=1e-12)
    assert measured(bias) == pytest.approx(max(grid), abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_fitted_biases_never_lower_mean_iou_on_the_sample(seed: int, classes: int) -> None:
    sample = make_sample(seed, classes, 60, images=2)
    logits, target, _ = sample.join()
    fitted = logits + torch.tensor(fit_biases(sample))
    assert mean_iou(fitted, target, classes) >= mean_iou(logits, target, classes) - 1e-12


def test_a_planted_bias_is_found() -> None:
    random = np.random.default_rng(0)
    target = random.integers(0, 3, (100, 100))
    logits = torch.from_numpy(np.eye(3)[target].transpose(2, 0, 1) + random.normal(0, 0.4, (3, 100, 100))).float()
    logits[1] -= 0.75
    sample = PixelSample.empty(3, 1)
    sample.add(logits, target)
    biases = np.array(fit_biases(sample))
    assert biases[1] - biases[[0, 2]].mean() == pytest.approx(0.75, abs=0.1)


def test_a_planted_temperature_is_found() -> None:
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(0, 2, (4, 1, 40_000))).float()
    chances = logits[:, 0].softmax(0).T.numpy().astype(np.float64)
    target = (chances.cumsum(1) < random.random((40_000, 1))).sum(1)[None].clip(0, 3)
    sample = PixelSample.empty(4, 1)
    sample.add(logits * 2.5, target)
    assert fit_temperature(sample) == pytest.approx(2.5, rel=0.03)


def test_pixels_drawn_stand_for_those_left_out() -> None:
    sample = PixelSample(2, 10, [], [], [])
    target = np.zeros((8, 8), np.uint8)
    target[0] = 255
    sample.add(torch.zeros(2, 8, 8), target)
    sample.add(torch.zeros(2, 1, 4), np.ones((1, 4), np.uint8))
    sample.add(torch.zeros(2, 1, 4), np.full((1, 4), 255, np.uint8))
    _, targets, weights = sample.join()
    assert len(targets) == 14
    assert weights.sum() == pytest.approx(56 + 4)
    assert sample.fraction == pytest.approx(14 / 60)
