"""What holds for every loss alike; the values of each are in test_losses_values.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dilated.errors import InputError
from dilated.tables import build
from dilated.train.losses import Loss, cross_entropy, dice, focal, jaccard, labelled, loss, lovasz, ohem

Function = Callable[[Tensor, Tensor], Tensor]
WEIGHTS = (0.5, 3.0, 1.0, 0.0)
MIX = Loss(smoothing=0.1, ohem=0.5, focal=0.5, dice=0.7, jaccard=0.3, lovasz=2.0, class_weights=WEIGHTS)

LOSSES: dict[str, Function] = {
    "cross_entropy": cross_entropy,
    "weighted cross_entropy": partial(cross_entropy, weights=WEIGHTS),
    "smoothed cross_entropy": partial(cross_entropy, smoothing=0.2, weights=WEIGHTS),
    "ohem": partial(ohem, keep=0.4),
    "weighted ohem": partial(ohem, keep=0.4, min_kept=5, weights=WEIGHTS, smoothing=0.1),
    "focal": focal,
    "focal below 1": partial(focal, gamma=0.5, weights=WEIGHTS),
    "dice": dice,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "mix": partial(loss, options=MIX),
}
every = pytest.mark.parametrize("name", LOSSES)
SMOOTH = ["cross_entropy", "smoothed cross_entropy", "focal", "focal below 1", "dice", "jaccard"]
PLAIN = [name for name in LOSSES if name not in ("smoothed cross_entropy", "weighted ohem", "mix")]


def batch(
    seed: int = 0, classes: int = 4, dtype: torch.dtype = torch.float32, ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(2, classes, 5, 6, generator=generator, dtype=dtype)
    target = torch.randint(0, classes, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < ignored] = 255
    return scores, target


def with_gradient(function: Function, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = scores.clone().requires_grad_()
    value = function(leaf, target)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_without_labels_costs_exactly_0_and_has_gradients_of_0(name: str, dtype: torch.dtype) -> None:
    scores, target = batch(dtype=dtype)
    value, gradient = with_gradient(LOSSES[name], scores, torch.full_like(target, 255))
    assert value.dtype == dtype
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(scores))


@every
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), other=st.sampled_from([0.0, -1e30, 1e4, 1e30]), share=st.sampled_from([0.05, 0.9]))
def test_ignored_pixels_change_no_bit_of_value_and_gradient(name: str, seed: int, other: float, share: float) -> None:
    scores, target = batch(seed, ignored=share)
    ignored = (target == 255)[:, None]
    value, gradient = with_gradient(LOSSES[name], scores, target)
    assert not (gradient * ignored).any()
    changed = scores.clone()
    changed[:, 1] = torch.where(ignored[:, 0], other, changed[:, 1])
    for without in (changed, torch.where(ignored, torch.randn_like(scores), scores)):
        again, its_gradient = with_gradient(LOSSES[name], without, target)
        assert torch.equal(again, value)
        assert torch.equal(its_gradient, gradient)


@every
def test_a_pixel_that_becomes_labelled_changes_the_value(name: str) -> None:
    scores, target = batch()
    n, y, x = (target == 255).nonzero()[0].tolist()
    scores[n, 1, y, x] = -9.0  # so hard that ohem keeps it
    more = target.clone()
    more[n, y, x] = 1
    assert LOSSES[name](scores, more) != LOSSES[name](scores, target)


@every
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), coarse=st.booleans())
def test_the_order_of_pictures_and_pixels_does_not_matter(name: str, seed: int, coarse: bool) -> None:
    scores, target = batch(seed)
    scores = scores.round() if coarse else scores  # rounded, many pixels are equally hard
    value = LOSSES[name](scores, target)
    torch.testing.assert_close(LOSSES[name](scores.flip(0), target.flip(0)), value, rtol=1e-6, atol=1e-6)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    mixed = scores.flatten(2)[:, :, order].view_as(scores), target.flatten(1)[:, order].view_as(target)
    torch.testing.assert_close(LOSSES[name](*mixed), value, rtol=1e-6, atol=1e-6)


@every
def test_the_batch_is_pooled_and_pictures_are_not_averaged(name: str) -> None:
    scores, target = batch()
    side_by_side = scores.permute(1, 2, 0, 3).reshape(1, 4, 5, 12), target.permute(1, 0, 2).reshape(1, 5, 12)
    torch.testing.assert_close(LOSSES[name](*side_by_side), LOSSES[name](scores, target))


@pytest.mark.parametrize("name", PLAIN)
def test_certain_and_right_costs_nothing_and_certain_and_wrong_does(name: str) -> None:
    _, target = batch()
    right = torch.nn.functional.one_hot(target.where(target != 255, 0), 4).permute(0, 3, 1, 2) * 50.0
    assert 0 <= LOSSES[name](right, target).item() <= 1e-6
    assert LOSSES[name](right.roll(1, dims=1), target).item() >= 0.99


@every
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.0, 0.1, 3.0, 30.0, 1000.0]))
def test_no_loss_is_below_0_and_no_gradient_is_infinite(name: str, seed: int, scale: float) -> None:
    scores, target = batch(seed)
    value, gradient = with_gradient(LOSSES[name], scores * scale, target)
    assert value >= 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    scores, target = batch(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, target), scores.requires_grad_())


@pytest.mark.parametrize("name", ["ohem", "weighted ohem", "lovasz", "mix"])
def test_gradients_are_those_of_finite_differences_where_no_two_pixels_are_equally_hard(name: str) -> None:
    scores, target = batch(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, target), scores.requires_grad_())


@every
def test_float32_gives_what_float64_gives(name: str) -> None:
    scores, target = batch(3)
    value, gradient = with_gradient(LOSSES[name], scores, target)
    exact, exact_gradient = with_gradient(LOSSES[name], scores.double(), target)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_scores_in_channels_last_give_the_same(name: str) -> None:
    scores, target = batch()
    value, gradient = with_gradient(LOSSES[name], scores, target)
    other, its_gradient = with_gradient(LOSSES[name], scores.to(memory_format=torch.channels_last), target)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(its_gradient, gradient)


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        (Loss(), {"cross_entropy": 1.0}),
        (Loss(cross_entropy=0.3, dice=0.5, jaccard=2.0), {"cross_entropy": 0.3, "dice": 0.5, "jaccard": 2.0}),
        (Loss(ohem=0.4, lovasz=3.0), {"ohem": 1.0, "lovasz": 3.0}),
        (Loss(cross_entropy=0, focal=0.7), {"focal": 0.7}),
        (
            Loss(focal=2.0, focal_gamma=0.5, class_weights=WEIGHTS),
            {"weighted cross_entropy": 1.0, "focal below 1": 2.0},
        ),
        (Loss(smoothing=0.2, class_weights=WEIGHTS), {"smoothed cross_entropy": 1.0}),
        (
            Loss(cross_entropy=2.0, ohem=0.4, min_kept=5, class_weights=WEIGHTS, smoothing=0.1),
            {"weighted ohem": 2.0},
        ),
    ],
)
def test_the_loss_is_the_weighted_sum_of_its_terms(options: Loss, terms: dict[str, float]) -> None:
    scores, target = batch()
    expected = sum(weight * LOSSES[name](scores, target) for name, weight in terms.items())
    torch.testing.assert_close(loss(scores, target, options), torch.as_tensor(expected))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 6), max_size=4),
    weights=st.sampled_from([(), WEIGHTS]),
    smoothing=st.sampled_from([0.0, 0.3]),
)
def test_the_parts_of_a_batch_add_up_to_the_whole(
    seed: int, cuts: list[int], weights: tuple[float, ...], smoothing: float
) -> None:
    """Parts as of accumulation and of processes, some of them without a label."""
    batches = [batch(seed + i, dtype=torch.float64) for i in range(3)]
    scores, target = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
    target[1] = 255
    options = Loss(focal=0.5, smoothing=smoothing, class_weights=weights)
    value, gradient = with_gradient(partial(loss, options=options), scores, target)
    at = sorted({0, *cuts, 6})
    ranges = [slice(a, b) for a, b in pairwise(at)]
    total = torch.stack([labelled(target[r], options) for r in ranges]).sum()
    parts = [with_gradient(partial(loss, options=options, total=total), scores[r], target[r]) for r in ranges]
    torch.testing.assert_close(sum(v for v, _ in parts), value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.cat([g for _, g in parts]), gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("term", ["ohem", "dice", "jaccard", "lovasz"])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_a_part_counts_by_its_share_in_losses_of_sets(term: str, weights: tuple[float, ...]) -> None:
    scores, target = batch(dtype=torch.float64)
    options = Loss(ohem=0.4, class_weights=weights) if term == "ohem" else Loss(**{term: 2.0}, class_weights=weights)
    rest = Loss(class_weights=weights)
    total = labelled(target, options)
    for n in range(2):
        part = scores[n : n + 1], target[n : n + 1]
        share = labelled(part[1], options) / total
        if term == "ohem":
            expected = ohem(*part, keep=0.4, weights=weights) * share
        else:
            expected = loss(*part, rest, total) + 2.0 * LOSSES[term](*part) * share
        torch.testing.assert_close(loss(*part, options, total), expected)
    assert labelled(target[:1], options) + labelled(target[1:], options) == pytest.approx(total.item(), rel=1e-15)


def test_a_total_of_0_costs_0() -> None:
    scores, target = batch()
    target.fill_(255)
    for options in (MIX, Loss(dice=1.0, lovasz=1.0)):
        value, gradient = with_gradient(partial(loss, options=options, total=labelled(target, options)), scores, target)
        assert value.item() == 0
        assert torch.equal(gradient, torch.zeros_like(scores))


def test_labelled_is_an_exact_count_or_a_sum_in_float64() -> None:
    target = torch.tensor([[[0, 1, 1, 3, 255]]])
    count, weight = labelled(target, Loss()), labelled(target, Loss(class_weights=(0.1, 0.2, 7.0, 0.0)))
    assert (count.item(), count.dtype) == (4, torch.int64)
    assert (weight.item(), weight.dtype) == (pytest.approx(0.5, rel=1e-15), torch.float64)


@pytest.mark.parametrize("options", [Loss(class_weights=(1.0,) * 3), Loss(class_weights=(1.0,) * 5, ohem=0.5)])
def test_class_weights_of_another_number_are_refused(options: Loss) -> None:
    scores, target = batch()
    with pytest.raises(InputError, match=rf"class_weights: found {len(options.class_weights)}"):
        loss(scores, target, options)


def test_a_label_beyond_the_class_weights_is_refused() -> None:
    with pytest.raises(InputError, match="found 2 for a label 3"):
        labelled(torch.tensor([[[0, 3, 255]]]), Loss(class_weights=(1.0, 1.0)))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        *(({key: -0.5}, rf"loss\.{key}: found -0\.5") for key in ("cross_entropy", "focal", "dice", "jaccard")),
        ({"lovasz": float("nan")}, r"loss\.lovasz: found nan"),
        ({"dice": float("inf")}, r"loss\.dice: found inf"),
        ({"focal_gamma": -1.0}, r"loss\.focal_gamma"),
        ({"cross_entropy": 0.0}, "found every weight 0"),
        ({"smoothing": 1.0}, r"loss\.smoothing: found 1\.0"),
        ({"smoothing": -0.1}, r"loss\.smoothing"),
        ({"ohem": 0.0}, r"loss\.ohem: found 0\.0"),
        ({"ohem": 1.5}, r"loss\.ohem"),
        ({"min_kept": 0}, r"loss\.min_kept: found 0"),
        ({"class_weights": (1.0, -1.0)}, r"loss\.class_weights: found \[1\.0, -1\.0\]"),
        ({"class_weights": (1.0, float("nan"))}, r"loss\.class_weights"),
        ({"class_weights": (0.0, 0.0)}, r"loss\.class_weights"),
        ({"cross_entropy": 0.0, "dice": 1.0, "smoothing": 0.1}, r"smoothing=0\.1 and ohem=1\.0 with cross_entropy=0"),
        ({"cross_entropy": 0.0, "dice": 1.0, "ohem": 0.5}, "with cross_entropy=0"),
        ({"cross_entropy": 0.0, "dice": 1.0, "class_weights": (1.0, 2.0)}, "cross_entropy=0 and focal=0"),
    ],
)
def test_options_out_of_range_are_refused_by_name(values: dict[str, float], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Loss(**values)


def test_the_options_are_a_table_of_a_recipe() -> None:
    table = {"cross_entropy": 0, "focal": 1, "class_weights": [1, 2.5]}
    assert build(Loss, table, "my.toml: loss") == Loss(cross_entropy=0.0, focal=1.0, class_weights=(1.0, 2.5))
