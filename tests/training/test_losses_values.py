"""The value of each loss, held against counting pixel by pixel, against torch and against another package."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.training.losses import cross_entropy, dice, focal, jaccard, lovasz, ohem

WEIGHTS = (0.5, 3.0, 1.0, 0.0)
seeds = pytest.mark.parametrize("seed", range(3))


def batch(seed: int, classes: int = 4, ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, 5, 6, generator=generator)
    target = torch.randint(0, classes, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < ignored] = 255
    return logits, target


def pixels(logits: Tensor, target: Tensor) -> list[tuple[list[float], int]]:
    """The probabilities and the label of each labelled pixel."""
    table = []
    for n, y, x in (target != 255).nonzero().tolist():
        powers = [math.exp(s) for s in logits[n, :, y, x].double().tolist()]
        table.append(([p / sum(powers) for p in powers], int(target[n, y, x])))
    return table


def sets(logits: Tensor, target: Tensor) -> list[tuple[list[float], list[float]]]:
    """The probabilities of each class that occurs at its own pixels and at the others."""
    table = pixels(logits, target)
    found = []
    for c in range(logits.shape[1]):
        own, others = [p[c] for p, t in table if t == c], [p[c] for p, t in table if t != c]
        if own:
            found.append((own, others))
    return found


@seeds
@pytest.mark.parametrize("weights", [(), WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_counting(seed: int, weights: tuple[float, ...], smoothing: float) -> None:
    logits, target = batch(seed)
    w = weights or (1.0,) * 4
    top = below = 0.0
    for p, t in pixels(logits, target):
        spread = sum(w[c] * -math.log(p[c]) for c in range(4)) / 4
        top += (1 - smoothing) * w[t] * -math.log(p[t]) + smoothing * spread
        below += w[t]
    found = cross_entropy(logits, target, weights=weights, smoothing=smoothing)
    assert found.item() == pytest.approx(top / below, rel=1e-5)


@seeds
@pytest.mark.parametrize("weights", [(), WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torchs(seed: int, weights: tuple[float, ...], smoothing: float) -> None:
    logits, target = batch(seed)
    weight = torch.tensor(weights) if weights else None
    expected = F.cross_entropy(logits, target, weight=weight, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, target, weights=weights, smoothing=smoothing), expected)


@seeds
@pytest.mark.parametrize(("keep", "min_kept"), [(0.1, 1), (0.33, 1), (0.001, 1), (0.1, 17), (0.1, 10**6), (1.0, 1)])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_ohem_is_the_mean_of_the_hardest(seed: int, keep: float, min_kept: int, weights: tuple[float, ...]) -> None:
    logits, target = batch(seed)
    table = sorted(pixels(logits, target), key=lambda pixel: pixel[0][pixel[1]])
    kept = table[: max(min_kept, round(keep * len(table)))]
    w = weights or (1.0,) * 4
    expected = sum(w[t] * -math.log(p[t]) for p, t in kept) / (sum(w[t] for _, t in kept) or 1)
    found = ohem(logits, target, keep, min_kept=min_kept, weights=weights)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_equally_hard_pixels_share_the_places_that_are_left() -> None:
    logits = torch.zeros(1, 2, 1, 5)
    logits[0, 0, 0, 0] = -3.0
    target = torch.tensor([[[0, 0, 1, 1, 255]]])
    leaf = logits.clone().requires_grad_()
    value = ohem(leaf, target, keep=0.5)  # the first, and of the other three one
    value.backward()
    assert value.item() == pytest.approx((math.log(1 + math.exp(3)) + math.log(2)) / 2)
    assert leaf.grad is not None
    assert leaf.grad[0, 0, 0, 1:].tolist() == pytest.approx([-0.5 / 6, 0.5 / 6, 0.5 / 6, 0])


@seeds
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_focal_is_that_of_counting(seed: int, gamma: float, weights: tuple[float, ...]) -> None:
    logits, target = batch(seed)
    table, w = pixels(logits, target), weights or (1.0,) * 4
    top = sum(w[t] * (1 - p[t]) ** gamma * -math.log(p[t]) for p, t in table)
    found = focal(logits, target, gamma, weights=weights)
    assert found.item() == pytest.approx(top / sum(w[t] for _, t in table), rel=1e-5)


@seeds
def test_dice_and_jaccard_are_those_of_counting(seed: int) -> None:
    logits, target = batch(seed, classes=3 + seed)
    of_dice, of_jaccard = [], []
    for own, others in sets(logits, target):
        both, area = sum(own), sum(own) + sum(others) + len(own)
        of_dice.append(1 - 2 * both / area)
        of_jaccard.append(1 - both / (area - both))
    assert dice(logits, target).item() == pytest.approx(sum(of_dice) / len(of_dice), rel=1e-5)
    assert jaccard(logits, target).item() == pytest.approx(sum(of_jaccard) / len(of_jaccard), rel=1e-5)


def lovasz_by_definition(own: list[float], others: list[float]) -> float:
    """The integral of the Jaccard loss of the pixels whose error is beyond a threshold, over the thresholds."""
    wrong_own, wrong_others = [1 - p for p in own], others
    steps = sorted({0.0, *wrong_own, *wrong_others})
    value = 0.0
    for low, high in pairwise(steps):
        missed, extra = sum(e >= high for e in wrong_own), sum(e >= high for e in wrong_others)
        value += (high - low) * (1 - (len(own) - missed) / (len(own) + extra))
    return value


@seeds
@pytest.mark.parametrize("coarse", [False, True])
def test_lovasz_is_the_integral_that_defines_it(seed: int, coarse: bool) -> None:
    logits, target = batch(seed, classes=3 + seed)
    logits = logits.round() if coarse else logits
    values = [lovasz_by_definition(own, others) for own, others in sets(logits, target)]
    assert lovasz(logits, target).item() == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_lovasz_of_certain_logits_is_the_jaccard_loss_of_the_labels_they_mean() -> None:
    _, target = batch(0)
    chosen = torch.randint(0, 4, target.shape, generator=torch.Generator().manual_seed(5))
    logits = F.one_hot(chosen, 4).permute(0, 3, 1, 2) * 200.0
    assert lovasz(logits, target).item() == pytest.approx(jaccard(logits, target).item(), rel=1e-6)


@pytest.mark.parametrize("function", [dice, jaccard, lovasz])
def test_classes_that_no_label_holds_are_left_out(function: object) -> None:
    logits, target = batch(0)
    target[target == 2] = 0
    table = sets(logits, target)
    assert len(table) == 3
    by_hand = {
        dice: lambda own, others: 1 - 2 * sum(own) / (sum(own) + sum(others) + len(own)),
        jaccard: lambda own, others: 1 - sum(own) / (sum(others) + len(own)),
        lovasz: lovasz_by_definition,
    }[function]
    assert function(logits, target).item() == pytest.approx(sum(by_hand(*s) for s in table) / 3, rel=1e-5)


@pytest.mark.parametrize("function", [dice, jaccard, lovasz])
def test_a_wrong_class_that_fills_an_image_costs_as_much_in_float32_as_in_float64(function: object) -> None:
    """A million pixels, where running sums and differences of float32 would lose digits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 1000, 1000, generator=generator)
    target = (torch.rand(1, 1000, 1000, generator=generator) < 0.001).long()
    values, gradients = [], []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype, copy=True).requires_grad_()
        value = function(leaf, target)
        value.backward()
        values.append(value.item())
        gradients.append(leaf.grad.double())
    assert values[0] == pytest.approx(values[1], rel=2e-6)
    if function is not lovasz:  # where equal errors in float32 change places
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-11)


@seeds
def test_losses_are_those_of_segmentation_models_pytorch(seed: int) -> None:
    theirs = pytest.importorskip("segmentation_models_pytorch.losses")
    functional = pytest.importorskip("segmentation_models_pytorch.losses._functional")
    logits, target = batch(seed, ignored=0)
    assert len(target.unique()) == 4  # else theirs counts absent classes as right
    torch.testing.assert_close(dice(logits, target), theirs.DiceLoss("multiclass")(logits, target))
    torch.testing.assert_close(jaccard(logits, target), theirs.JaccardLoss("multiclass")(logits, target))
    torch.testing.assert_close(lovasz(logits, target), theirs.LovaszLoss("multiclass")(logits, target))
    expected = functional.softmax_focal_loss_with_logits(logits, target, gamma=1.5)
    torch.testing.assert_close(focal(logits, target, 1.5), expected)


@seeds
def test_gradients_of_lovasz_are_those_of_segmentation_models_pytorch(seed: int) -> None:
    theirs = pytest.importorskip("segmentation_models_pytorch.losses").LovaszLoss("multiclass")
    logits, target = batch(seed, ignored=0)
    gradients = []
    for function in (lovasz, theirs):
        leaf = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf, target), leaf)
        gradients.append(gradient)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
