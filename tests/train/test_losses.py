from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dilated.train.losses import cross_entropy, jaccard

Loss = Callable[[Tensor, Tensor], Tensor]
both = pytest.mark.parametrize("loss", [cross_entropy, jaccard])


def batch(seed: int = 0, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, classes, 5, 6, generator=generator)
    target = torch.randint(0, classes, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < 0.3] = 255
    return scores, target


def brute_force_jaccard(scores: Tensor, target: Tensor) -> float:
    probability = scores.double().softmax(1)
    ratios = []
    for c in range(scores.shape[1]):
        intersection = union = occurring = 0.0
        for n in range(target.shape[0]):
            for y in range(target.shape[1]):
                for x in range(target.shape[2]):
                    if target[n, y, x] == 255:
                        continue
                    p, t = probability[n, c, y, x].item(), float(target[n, y, x] == c)
                    intersection += p * t
                    union += p + t - p * t
                    occurring += t
        if occurring:
            ratios.append(1 - intersection / union)
    return sum(ratios) / len(ratios)


@both
def test_a_batch_without_labels_costs_0_and_has_finite_gradients(loss: Loss) -> None:
    scores, target = batch()
    scores.requires_grad_()
    value = loss(scores, torch.full_like(target, 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


@both
def test_ignored_pixels_change_neither_value_nor_gradient(loss: Loss) -> None:
    scores, target = batch()
    ignored = (target == 255)[:, None]
    results = []
    for other in (scores, torch.where(ignored, 1e4, scores), torch.where(ignored, torch.randn_like(scores), scores)):
        leaf = other.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        assert not (leaf.grad * ignored).any()
        results.append((value.detach(), leaf.grad))
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-5, atol=1e-8)


@both
def test_a_pixel_that_becomes_labelled_changes_the_value(loss: Loss) -> None:
    scores, target = batch()
    more = target.clone()
    more.view(-1)[(target.view(-1) == 255).nonzero()[0]] = 1
    assert loss(scores, more) != loss(scores, target)


@both
def test_certain_and_right_costs_nothing_and_certain_and_wrong_does(loss: Loss) -> None:
    _, target = batch()
    right = torch.nn.functional.one_hot(target.where(target != 255, 0), 4).permute(0, 3, 1, 2) * 50.0
    assert loss(right, target).item() == pytest.approx(0, abs=1e-5)
    assert loss(right.roll(1, dims=1), target).item() >= 0.99


def test_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    scores, target = batch()
    logs = scores.double().log_softmax(1)
    values = [-logs[n, target[n, y, x], y, x].item() for n, y, x in (target != 255).nonzero().tolist()]
    assert cross_entropy(scores, target).item() == pytest.approx(sum(values) / len(values), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_jaccard_is_that_of_counting_pixel_by_pixel(seed: int) -> None:
    scores, target = batch(seed, classes=3 + seed)
    assert jaccard(scores, target).item() == pytest.approx(brute_force_jaccard(scores, target), rel=1e-5)


def test_jaccard_leaves_out_classes_that_no_label_holds() -> None:
    scores, target = batch()
    target[target == 2] = 0
    assert jaccard(scores, target).item() == pytest.approx(brute_force_jaccard(scores, target), rel=1e-5)


def test_jaccard_pools_the_batch_and_does_not_average_pictures() -> None:
    scores, target = batch()
    side_by_side = scores.permute(1, 2, 0, 3).reshape(1, 4, 5, 12), target.permute(1, 0, 2).reshape(1, 5, 12)
    torch.testing.assert_close(jaccard(*side_by_side), jaccard(scores, target))
