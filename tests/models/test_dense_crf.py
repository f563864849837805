"""Mean field against plain loops, the authors' code where it is installed, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated.errors import InputError
from dilated.models.dense_crf import DenseCRF, mean_field


class _ExactKernel:
    """The Gaussian between all pairs of points, normalized on both sides."""

    def __init__(self, features: Tensor) -> None:
        matrix = torch.exp(-torch.cdist(features, features).square() / 2)
        scale = matrix.sum(1).rsqrt()
        self.matrix = scale[:, None] * matrix * scale

    def add_filtered(self, total: Tensor, values: Tensor, weight: float) -> Tensor:
        return total + weight * (self.matrix @ values)


def _brute_force(unary: list[list[float]], features: list[list[list[float]]], weights: list[float], steps: int) -> list:
    """Mean field in loops over all pairs of pixels, as the paper's algorithm 1 with the authors' normalization."""
    points, classes = len(unary), len(unary[0])

    def softmax(row: list[float]) -> list[float]:
        greatest = max(row)
        parts = [math.exp(x - greatest) for x in row]
        return [x / sum(parts) for x in parts]

    kernels = []
    for positions in features:
        kernel = [[math.exp(-(math.dist(a, b) ** 2) / 2) for b in positions] for a in positions]
        sums = [sum(row) for row in kernel]
        kernels.append([[kernel[i][j] / math.sqrt(sums[i] * sums[j]) for j in range(points)] for i in range(points)])
    marginals = [softmax(row) for row in unary]
    for _ in range(steps):
        messages = [
            [
                sum(w * k[i][j] * marginals[j][c] for w, k in zip(weights, kernels, strict=True) for j in range(points))
                for c in range(classes)
            ]
            for i in range(points)
        ]
        marginals = [softmax([u + m for u, m in zip(*rows, strict=True)]) for rows in zip(unary, messages, strict=True)]
    return marginals


def test_mean_field_with_exact_kernels_equals_loops_over_all_pairs() -> None:
    random = torch.Generator().manual_seed(0)
    height, width, classes = 5, 6, 3
    unary = torch.randn(height * width, classes, generator=random, dtype=torch.float64)
    positions = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    colors = torch.randint(256, (height * width, 3), generator=random).double()
    features = [positions / 2, torch.cat([positions / 4, colors / 60], 1)]
    kernels = [(weight, _ExactKernel(f)) for weight, f in zip((1.5, 4.0), features, strict=True)]
    expected = torch.tensor(_brute_force(unary.tolist(), [f.tolist() for f in features], [1.5, 4.0], 5))
    assert (mean_field(unary, kernels, 5).exp() - expected).abs().max() < 1e-4


def _example(height: int, width: int, classes: int = 3) -> tuple[Tensor, NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    image = np.kron(random.integers(0, 256, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    noise = random.normal(size=(classes, height, width)).astype(np.float32)
    return torch.from_numpy(noise + np.eye(classes)[image[..., 0] % classes].transpose(2, 0, 1) * 1.5), image


def test_marginals_are_those_of_the_authors_code() -> None:
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    logits, image = _example(64, 96)
    crf = DenseCRF(bilateral_position=20, bilateral_weight=4)
    reference = densecrf.DenseCRF2D(96, 64, 3)
    reference.setUnaryEnergy(np.ascontiguousarray(-logits.log_softmax(0).flatten(1).numpy(), dtype=np.float32))
    reference.addPairwiseGaussian(sxy=3, compat=3)
    reference.addPairwiseBilateral(sxy=20, srgb=13, rgbim=image.copy(), compat=4)
    expected = torch.from_numpy(np.array(reference.inference(10))).view(3, 64, 96)
    assert (crf.refine(logits, image).exp() - expected).abs().max() < 1e-4


def test_noise_is_removed_within_regions_of_one_color() -> None:
    logits, image = _example(64, 64)
    truth = torch.from_numpy(image[..., 0] % 3).long()
    before, after = ((x.argmax(0) != truth).float().mean() for x in (logits, DenseCRF().refine(logits, image)))
    assert before > 0.2
    assert after < before / 3


def test_weights_of_zero_leave_the_logits() -> None:
    logits, image = _example(16, 24)
    refined = DenseCRF(bilateral_weight=0, smooth_weight=0).refine(logits, image)
    torch.testing.assert_close(refined, logits.float().log_softmax(0))


def test_blocks_change_few_labels() -> None:
    logits, image = _example(160, 200)
    crf = DenseCRF(bilateral_position=10)
    blocks = DenseCRF(bilateral_position=10, block=64).refine(logits, image).argmax(0)
    assert (blocks != crf.refine(logits, image).argmax(0)).float().mean() < 0.002


def test_pixels_without_data_have_no_part_in_it() -> None:
    logits, image = _example(16, 24)
    valid = np.ones((16, 24), bool)
    valid[:, 20:] = False
    changed_logits, changed_image = logits.clone(), image.copy()
    changed_logits[:, :, 20:], changed_image[:, 20:] = 50, 0
    crf = DenseCRF()
    refined, changed = crf.refine(logits, image, valid), crf.refine(changed_logits, changed_image, valid)
    torch.testing.assert_close(refined[:, :, :20], changed[:, :, :20])
    torch.testing.assert_close(refined[:, :, :20], crf.refine(logits[:, :, :20], image[:, :20]), atol=1e-4, rtol=1e-4)


def test_an_image_without_data_keeps_its_logits() -> None:
    logits, image = _example(8, 8)
    refined = DenseCRF().refine(logits, image, np.zeros((8, 8), bool))
    torch.testing.assert_close(refined, logits.float().log_softmax(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["bilateral_weight"], "no setting"),
        (["bilateral_weight=much"], "no number"),
        (["bilateral_wait=3"], "Did you mean 'bilateral_weight'"),
        (["iterations=3.5"], "no number"),
        (["iterations=1000"], "crf.iterations: found 1000"),
        (["smooth_position=0"], "crf.smooth_position: found 0"),
        (["bilateral_color=nan"], "crf.bilateral_color: found nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DenseCRF.parse(settings)


def test_settings_are_read_back_as_they_are_described() -> None:
    crf = DenseCRF(bilateral_weight=2.5, iterations=4)
    assert DenseCRF.parse(crf.describe()) == crf == DenseCRF.from_dict(crf.to_dict())
