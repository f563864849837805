"""The boundary loss is the F1 of soft boundaries, as loops over pixels count it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dilated.training.losses import LossConfig, boundary, combined_loss


def batch(seed: int, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 6, 7), generator=generator)
    target[torch.rand(2, 6, 7, generator=generator) < ignored] = 255
    return logits, target


def certain(target: Tensor, classes: int = 2) -> Tensor:
    return 60.0 * torch.nn.functional.one_hot(target, classes).movedim(-1, 1)


def window(n: int, y: int, x: int, radius: int, shape: torch.Size) -> list[tuple[int, int, int]]:
    rows = range(max(0, y - radius), min(shape[1], y + radius + 1))
    return [(n, v, u) for v in rows for u in range(max(0, x - radius), min(shape[2], x + radius + 1))]


def by_loops(logits: Tensor, target: Tensor, tolerance: int) -> float:
    places = [tuple(place) for place in (target >= 0).nonzero().tolist()]
    losses = []
    for c in range(logits.shape[1]):
        maps = logits.softmax(1)[:, c], (target == c).double()
        edges = []
        for values in maps:
            edge = torch.zeros_like(values)
            for place in places:
                if target[place] != 255:
                    near = [values[p] for p in window(*place, 1, target.shape) if target[p] != 255]
                    edge[place] = values[place] - min(near)
            edges.append(edge)
        predicted, true = edges
        if not true.any():
            continue
        wide = [
            torch.stack([max(edge[p] for p in window(*place, tolerance, target.shape)) for place in places])
            for edge in edges
        ]
        precision = (predicted.flatten() * wide[1]).sum() / predicted.sum()
        recall = (true.flatten() * wide[0]).sum() / true.sum()
        losses.append(1 - 2 * precision * recall / (precision + recall))
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize(("seed", "tolerance"), [(0, 1), (1, 2)])
def test_it_is_what_loops_count(seed: int, tolerance: int) -> None:
    logits, target = batch(seed)
    assert boundary(logits, target, tolerance).item() == pytest.approx(by_loops(logits, target, tolerance), rel=1e-9)


def test_ignored_pixels_have_no_gradient_and_change_nothing() -> None:
    logits, target = batch(2)
    leaf = logits.clone().requires_grad_()
    value = boundary(leaf, target)
    value.backward()
    ignored = (target == 255)[:, None].expand_as(logits)
    assert leaf.grad is not None
    assert not leaf.grad[ignored].any()
    assert torch.equal(boundary(torch.where(ignored, 7.0, logits), target), value.detach())


@pytest.mark.parametrize("value", [255, 1])
def test_where_there_is_no_boundary_it_costs_nothing(value: int) -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = boundary(logits, torch.full((1, 4, 4), value))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_boundary_within_the_tolerance_is_right_and_beyond_it_is_not() -> None:
    target = torch.zeros(1, 8, 24, dtype=torch.int64)
    target[..., 12:] = 1
    losses = [boundary(certain(target.roll(shift, -1))[..., 8:], target[..., 8:]).item() for shift in (0, 1, 2, 3, 6)]
    assert losses[:3] == pytest.approx([0, 0, 0], abs=1e-6)
    assert losses[3:] == pytest.approx([1, 1], abs=1e-6)


def test_a_thin_pole_that_is_missed_costs_most_though_few_pixels_are_wrong() -> None:
    target = torch.zeros(1, 32, 32, dtype=torch.int64)
    target[:, :, 16] = 1
    missed = certain(torch.zeros_like(target))
    assert boundary(missed, target).item() > 0.9


def test_gradients_are_those_of_finite_differences() -> None:
    logits, target = batch(3)
    assert torch.autograd.gradcheck(lambda s: boundary(s, target[:1]), logits[:1].clone().requires_grad_())


def test_it_is_a_term_of_the_loss_with_its_weight() -> None:
    logits, target = batch(4)
    without, term = combined_loss(logits, target, LossConfig()), boundary(logits, target)
    value = combined_loss(logits, target, LossConfig(boundary=0.5))
    assert value.item() == pytest.approx((without + 0.5 * term).item())
