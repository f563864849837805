"""What holds for every loss alike; the values of each are in test_losses_values.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dilated.config import build_dataclass
from dilated.errors import InputError
from dilated.training.losses import (
    LossConfig,
    combined_loss,
    cross_entropy,
    dice,
    focal,
    jaccard,
    loss_normalizer,
    lovasz,
    ohem,
    overlap,
    pixelwise,
)
from dilated.training.losses.pixelwise import accumulation_dtype

Function = Callable[[Tensor, Tensor], Tensor]
WEIGHTS = (0.5, 3.0, 1.0, 0.0)
MIX = LossConfig(smoothing=0.1, ohem=0.5, focal=0.5, dice=0.7, jaccard=0.3, lovasz=2.0, class_weights=WEIGHTS)

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
    "mix": partial(combined_loss, options=MIX),
}
every = pytest.mark.parametrize("name", LOSSES)
SMOOTH = ["cross_entropy", "smoothed cross_entropy", "focal", "focal below 1", "dice", "jaccard"]
PLAIN = [name for name in LOSSES if name not in ("smoothed cross_entropy", "weighted ohem", "mix")]


def batch(
    seed: int = 0, classes: int = 4, dtype: torch.dtype = torch.float32, ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, 5, 6, generator=generator, dtype=dtype)
    target = torch.randint(0, classes, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < ignored] = 255
    return logits, target


def with_gradient(function: Function, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = function(leaf, target)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_without_labels_costs_exactly_0_and_has_gradients_of_0(name: str, dtype: torch.dtype) -> None:
    logits, target = batch(dtype=dtype)
    value, gradient = with_gradient(LOSSES[name], logits, torch.full_like(target, 255))
    assert value.dtype == dtype
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(logits))


@every
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), other=st.sampled_from([0.0, -1e30, 1e4, 1e30]), share=st.sampled_from([0.05, 0.9]))
def test_ignored_pixels_change_no_bit_of_value_and_gradient(name: str, seed: int, other: float, share: float) -> None:
    logits, target = batch(seed, ignored=share)
    ignored = (target == 255)[:, None]
    value, gradient = with_gradient(LOSSES[name], logits, target)
    assert not (gradient * ignored).any()
    changed = logits.clone()
    changed[:, 1] = torch.where(ignored[:, 0], other, changed[:, 1])
    for without in (changed, torch.where(ignored, torch.randn_like(logits), logits)):
        again, its_gradient = with_gradient(LOSSES[name], without, target)
        assert torch.equal(again, value)
        assert torch.equal(its_gradient, gradient)


@every
def test_a_pixel_that_becomes_labelled_changes_the_value(name: str) -> None:
    logits, target = batch()
    n, y, x = (target == 255).nonzero()[0].tolist()
    logits[n, 1, y, x] = -9.0  # so hard that ohem keeps it
    more = target.clone()
    more[n, y, x] = 1
    assert LOSSES[name](logits, more) != LOSSES[name](logits, target)


@every
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), coarse=st.booleans())
def test_the_order_of_images_and_pixels_does_not_matter(name: str, seed: int, coarse: bool) -> None:
    logits, target = batch(seed)
    logits = logits.round() if coarse else logits  # rounded, many pixels are equally hard
    value = LOSSES[name](logits, target)
    torch.testing.assert_close(LOSSES[name](logits.flip(0), target.flip(0)), value, rtol=1e-6, atol=1e-6)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    mixed = logits.flatten(2)[:, :, order].view_as(logits), target.flatten(1)[:, order].view_as(target)
    torch.testing.assert_close(LOSSES[name](*mixed), value, rtol=1e-6, atol=1e-6)


@every
def test_the_batch_is_pooled_and_images_are_not_averaged(name: str) -> None:
    logits, target = batch()
    side_by_side = logits.permute(1, 2, 0, 3).reshape(1, 4, 5, 12), target.permute(1, 0, 2).reshape(1, 5, 12)
    torch.testing.assert_close(LOSSES[name](*side_by_side), LOSSES[name](logits, target))


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
    logits, target = batch(seed)
    value, gradient = with_gradient(LOSSES[name], logits * scale, target)
    assert value >= 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    logits, target = batch(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, target), logits.requires_grad_())


@pytest.mark.parametrize("name", ["ohem", "weighted ohem", "lovasz", "mix"])
def test_gradients_are_those_of_finite_differences_where_no_two_pixels_are_equally_hard(name: str) -> None:
    logits, target = batch(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, target), logits.requires_grad_())


@every
def test_float32_gives_what_float64_gives(name: str) -> None:
    logits, target = batch(3)
    value, gradient = with_gradient(LOSSES[name], logits, target)
    exact, exact_gradient = with_gradient(LOSSES[name], logits.double(), target)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_logits_in_channels_last_give_the_same(name: str) -> None:
    logits, target = batch()
    value, gradient = with_gradient(LOSSES[name], logits, target)
    other, its_gradient = with_gradient(LOSSES[name], logits.to(memory_format=torch.channels_last), target)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(its_gradient, gradient)


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        (LossConfig(), {"cross_entropy": 1.0}),
        (LossConfig(cross_entropy=0.3, dice=0.5, jaccard=2.0), {"cross_entropy": 0.3, "dice": 0.5, "jaccard": 2.0}),
        (LossConfig(ohem=0.4, lovasz=3.0), {"ohem": 1.0, "lovasz": 3.0}),
        (LossConfig(cross_entropy=0, focal=0.7), {"focal": 0.7}),
        (
            LossConfig(focal=2.0, focal_gamma=0.5, class_weights=WEIGHTS),
            {"weighted cross_entropy": 1.0, "focal below 1": 2.0},
        ),
        (LossConfig(smoothing=0.2, class_weights=WEIGHTS), {"smoothed cross_entropy": 1.0}),
        (
            LossConfig(cross_entropy=2.0, ohem=0.4, min_kept=5, class_weights=WEIGHTS, smoothing=0.1),
            {"weighted ohem": 2.0},
        ),
    ],
)
def test_the_loss_is_the_weighted_sum_of_its_terms(options: LossConfig, terms: dict[str, float]) -> None:
    logits, target = batch()
    expected = sum(weight * LOSSES[name](logits, target) for name, weight in terms.items())
    torch.testing.assert_close(combined_loss(logits, target, options), torch.as_tensor(expected))


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
    logits, target = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
    target[1] = 255
    options = LossConfig(focal=0.5, smoothing=smoothing, class_weights=weights)
    value, gradient = with_gradient(partial(combined_loss, options=options), logits, target)
    at = sorted({0, *cuts, 6})
    ranges = [slice(a, b) for a, b in pairwise(at)]
    normalizer = torch.stack([loss_normalizer(target[r], options) for r in ranges]).sum()
    parts = [
        with_gradient(partial(combined_loss, options=options, normalizer=normalizer), logits[r], target[r])
        for r in ranges
    ]
    torch.testing.assert_close(sum(v for v, _ in parts), value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.cat([g for _, g in parts]), gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("term", ["ohem", "dice", "jaccard", "lovasz"])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_a_part_counts_by_its_share_in_losses_of_sets(term: str, weights: tuple[float, ...]) -> None:
    logits, target = batch(dtype=torch.float64)
    options = (
        LossConfig(ohem=0.4, class_weights=weights)
        if term == "ohem"
        else LossConfig(**{term: 2.0}, class_weights=weights)
    )
    rest = LossConfig(class_weights=weights)
    normalizer = loss_normalizer(target, options)
    for n in range(2):
        part = logits[n : n + 1], target[n : n + 1]
        share = loss_normalizer(part[1], options) / normalizer
        if term == "ohem":
            expected = ohem(*part, keep=0.4, weights=weights) * share
        else:
            expected = combined_loss(*part, rest, normalizer) + 2.0 * LOSSES[term](*part) * share
        torch.testing.assert_close(combined_loss(*part, options, normalizer), expected)
    assert loss_normalizer(target[:1], options) + loss_normalizer(target[1:], options) == pytest.approx(
        normalizer.item(), rel=1e-15
    )


def test_a_total_of_0_costs_0() -> None:
    logits, target = batch()
    target.fill_(255)
    for options in (MIX, LossConfig(dice=1.0, lovasz=1.0)):
        value, gradient = with_gradient(
            partial(combined_loss, options=options, normalizer=loss_normalizer(target, options)), logits, target
        )
        assert value.item() == 0
        assert torch.equal(gradient, torch.zeros_like(logits))


def test_labelled_is_an_exact_count_or_a_sum_in_float64() -> None:
    target = torch.tensor([[[0, 1, 1, 3, 255]]])
    count, weight = (
        loss_normalizer(target, LossConfig()),
        loss_normalizer(target, LossConfig(class_weights=(0.1, 0.2, 7.0, 0.0))),
    )
    assert (count.item(), count.dtype) == (4, torch.int64)
    assert (weight.item(), weight.dtype) == (pytest.approx(0.5, rel=1e-15), torch.float64)


@pytest.mark.parametrize(
    "options", [LossConfig(class_weights=(1.0,) * 3), LossConfig(class_weights=(1.0,) * 5, ohem=0.5)]
)
def test_class_weights_of_another_number_are_refused(options: LossConfig) -> None:
    logits, target = batch()
    with pytest.raises(InputError, match=rf"class_weights: found {len(options.class_weights)}"):
        combined_loss(logits, target, options)


def test_a_label_beyond_the_class_weights_is_refused() -> None:
    with pytest.raises(InputError, match="found 2 for a label 3"):
        loss_normalizer(torch.tensor([[[0, 3, 255]]]), LossConfig(class_weights=(1.0, 1.0)))


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
        LossConfig(**values)


def test_the_options_are_a_table_of_a_recipe() -> None:
    table = {"cross_entropy": 0, "focal": 1, "class_weights": [1, 2.5]}
    assert build_dataclass(LossConfig, table, "my.toml: loss") == LossConfig(
        cross_entropy=0.0, focal=1.0, class_weights=(1.0, 2.5)
    )


class _NoFloat64(TorchDispatchMode):
    """Refuse float64, as MPS does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        assert not (isinstance(result, Tensor) and result.dtype == torch.float64), func
        return result


def test_no_loss_needs_float64_on_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = batch()
    expected = combined_loss(logits, target, MIX, loss_normalizer(target, MIX))
    with pytest.raises(AssertionError), _NoFloat64():
        combined_loss(logits, target, MIX)
    assert accumulation_dtype(torch.device("mps")) == torch.float32
    for module in (pixelwise, overlap):
        monkeypatch.setattr(module, "accumulation_dtype", lambda device: torch.float32)
    with _NoFloat64():
        value = combined_loss(logits.requires_grad_(), target, MIX, loss_normalizer(target, MIX))
        value.backward()
    torch.testing.assert_close(value.detach(), expected)
