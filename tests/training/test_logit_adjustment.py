"""Logits are adjusted by the class priors in the loss alone, as balanced softmax is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dilated import InputError, load_recipe, open_dataset
from dilated.training.autoplan.choices import fill_class_priors
from dilated.training.autoplan.measure import summarize_dataset
from dilated.training.autoplan.plan import make_plan
from dilated.training.losses import LossConfig, combined_loss, loss_normalizer

PRIORS = (0.7, 0.25, 0.05)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 5, 7), generator=generator)
    target[0, 0] = 255
    return torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64), target


def test_a_factor_of_one_is_balanced_softmax(batch: tuple[Tensor, Tensor]) -> None:
    logits, target = batch
    value = combined_loss(logits, target, LossConfig(logit_adjustment=1.0, class_priors=PRIORS))
    counts = torch.tensor(PRIORS, dtype=torch.float64).view(1, -1, 1, 1) * logits.exp()
    probabilities = (counts / counts.sum(1, keepdim=True)).gather(1, target.where(target < 255, 0)[:, None])[:, 0]
    assert value.item() == pytest.approx(-probabilities[target < 255].log().mean().item(), rel=1e-12)


@pytest.mark.parametrize("options", [LossConfig(), LossConfig(dice=1.0, focal=0.5)])
def test_equal_priors_change_nothing(batch: tuple[Tensor, Tensor], options: LossConfig) -> None:
    adjusted = replace(options, logit_adjustment=1.0, class_priors=(1 / 3,) * 3)
    assert combined_loss(*batch, adjusted).item() == pytest.approx(combined_loss(*batch, options).item(), rel=1e-12)


def test_a_rare_class_is_pushed_up_by_more(batch: tuple[Tensor, Tensor]) -> None:
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    slopes = []
    for options in (LossConfig(), LossConfig(logit_adjustment=1.0, class_priors=PRIORS)):
        combined_loss(logits, torch.full((1, 1, 1), 2), options).backward()
        assert logits.grad is not None
        slopes.append(-logits.grad[0, 2].item())
        logits.grad = None
    assert slopes == pytest.approx([2 / 3, 0.95])


def test_the_parts_of_a_batch_add_up_to_it(batch: tuple[Tensor, Tensor]) -> None:
    logits, target = batch
    options = LossConfig(logit_adjustment=0.5, class_priors=PRIORS)
    normalizer = loss_normalizer(target, options)
    parts = [combined_loss(logits[i : i + 1], target[i : i + 1], options, normalizer) for i in range(2)]
    assert sum(parts).item() == pytest.approx(combined_loss(logits, target, options).item())  # type: ignore[union-attr]


def test_missing_priors_are_named_with_the_key_that_needs_them(batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(InputError, match=r"loss\.class_priors: found 0 for 3 classes"):
        combined_loss(*batch, LossConfig(logit_adjustment=1.0))
    with pytest.raises(InputError, match="class_priors"):
        LossConfig(class_priors=(0.5, 0.0))


def test_a_plan_fills_in_the_fractions_of_the_data_once(folder: Path) -> None:
    data = open_dataset(folder)
    summary = summarize_dataset(data.samples("train"), data.classes)
    plain = load_recipe("quick")
    assert fill_class_priors(plain, summary) is plain
    adjusting = load_recipe("quick", ["loss.logit_adjustment=1"])
    filled = fill_class_priors(adjusting, summary).loss.class_priors
    assert filled == pytest.approx(summary.statistics.class_fractions, rel=1e-3)
    given = replace(adjusting, loss=replace(adjusting.loss, class_priors=(0.5, 0.3, 0.2)))
    assert fill_class_priors(given, summary) is given


def test_a_plan_measures_steps_whose_logits_are_adjusted(folder: Path) -> None:
    settings = ["network.backbone=test_efficientnet", "weights=random", "augment.crop=[32,48]"]
    plan = make_plan(open_dataset(folder), 0, [*settings, "loss.logit_adjustment=1"])
    assert len(plan.recipe.loss.class_priors) == 3
