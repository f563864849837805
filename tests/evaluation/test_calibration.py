from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from dilated.evaluation.calibration import (
    CONFIDENCE_BITS,
    NUM_BINS,
    ReliabilityCounts,
    compute_reliability_bins,
    expected_calibration_error,
    reliability_counts,
)


def random_case(seed: int, classes: int = 5) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(3 * random.standard_normal((classes, 20, 30))).float()
    target = np.where(random.random((20, 30)) < 0.2, 255, random.integers(0, classes, (20, 30))).astype(np.uint8)
    return logits, logits.argmax(0).numpy(), target


def test_nothing_labelled_has_no_error() -> None:
    counts = reliability_counts(torch.zeros(2, 1, 1), np.zeros((1, 1), np.uint8), np.full((1, 1), 255, np.uint8))
    assert counts.pixels.sum() == 0
    assert math.isnan(expected_calibration_error(counts))
    assert all(math.isnan(one.accuracy) for one in compute_reliability_bins(counts))


def test_a_network_that_is_sure_and_right_has_no_error() -> None:
    logits = torch.tensor([0.0, 200.0]).view(2, 1, 1)
    counts = reliability_counts(logits, np.array([[1]]), np.array([[1]]))
    assert (counts.pixels[-1], counts.correct[-1], counts.confidence[-1]) == (1, 1, 2**CONFIDENCE_BITS)
    assert expected_calibration_error(counts) == 0


def test_a_confidence_at_a_bins_end_is_in_the_lower_bin() -> None:
    logits = torch.zeros(3, 1, 1, dtype=torch.float64)  # a third each, which in 32 bits is just above
    (place,) = reliability_counts(logits, np.array([[0]]), np.array([[0]])).pixels.nonzero()[0]
    units = round(float(np.float32(1 / 3)) * 2**CONFIDENCE_BITS)
    assert place == math.ceil(Fraction(units * NUM_BINS, 2**CONFIDENCE_BITS)) - 1
    counts = reliability_counts(torch.zeros(1, 1, 1), np.array([[0]]), np.array([[0]]))
    assert counts.pixels.nonzero()[0].tolist() == [NUM_BINS - 1]


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_counting_by_hand(seed: int) -> None:
    logits, labels, target = random_case(seed)
    sure = logits.softmax(0).amax(0).numpy()
    found = reliability_counts(logits, labels, target)
    pixels, correct, total = [0] * NUM_BINS, [0] * NUM_BINS, [Fraction(0)] * NUM_BINS
    for y, x in zip(*np.nonzero(target != 255), strict=True):
        confidence = Fraction(float(sure[y, x]))
        place = math.ceil(confidence * NUM_BINS) - 1
        pixels[place] += 1
        correct[place] += int(labels[y, x] == target[y, x])
        total[place] += confidence
    assert found.pixels.tolist() == pixels
    assert found.correct.tolist() == correct
    assert [
        Fraction(int(units), 2**CONFIDENCE_BITS) for units in found.confidence
    ] == total  # exact: nothing is rounded
    assert expected_calibration_error(found) == pytest.approx(
        float(sum(abs(h - t) for h, t in zip(correct, total, strict=True)) / sum(pixels))
    )


def test_sums_beyond_64_bits_are_pooled() -> None:
    counts = np.zeros((3, NUM_BINS), np.int64)
    counts[:, -1] = 2**62
    pooled = compute_reliability_bins(ReliabilityCounts(counts >> CONFIDENCE_BITS, counts >> CONFIDENCE_BITS, counts))[
        -1
    ]
    assert (pooled.pixels, pooled.confidence, pooled.accuracy) == (3 * 2**31, 1.0, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_torchmetrics(seed: int) -> None:
    classification = pytest.importorskip("torchmetrics.classification")
    logits, labels, target = random_case(seed)
    metric = classification.MulticlassCalibrationError(num_classes=5, n_bins=NUM_BINS, norm="l1", ignore_index=255)
    metric.update(logits[None], torch.from_numpy(target.astype(np.int64))[None])
    assert expected_calibration_error(reliability_counts(logits, labels, target)) == pytest.approx(
        metric.compute().item(), abs=1e-6
    )
