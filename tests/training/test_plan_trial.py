"""A plan by trial trains both settings on as many samples, on images apart, and takes the better one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from dilated import InputError, load_recipe, open_dataset, train
from dilated.api import TrainOptions
from dilated.data.dataset import Dataset
from dilated.data.groups import Groups
from dilated.training.autoplan import plan as planning
from dilated.training.autoplan.measure import Cost
from dilated.training.autoplan.plan import TrainingPlan, make_plan
from dilated.training.autoplan.trial import TrialResult, hold_out, try_settings
from dilated.training.config import Recipe
from dilated.training.distributed.world import World

SMALL = ["network.backbone=test_efficientnet", "weights=random", "network.features=8", "network.detail=4"]


@pytest.fixture
def data(folder: Path) -> Dataset:
    return open_dataset(folder)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Mapping[str, Recipe], int]]:
    """The trials that a plan asks for, on a machine with a step a second; the moving backbone wins them."""
    asked: list[tuple[Mapping[str, Recipe], int]] = []

    def answer(recipes: Mapping[str, Recipe], data: Dataset, samples: int, world: World) -> list[TrialResult]:
        asked.append((recipes, samples))
        values = {"careful": 0.4, "moving": 0.5}
        return [TrialResult(n, values[n], samples // r.batch, r.batch, 1.0) for n, r in recipes.items()]

    cost = Cost({16: 1.0, 8: 2.6}, {16: 0.0, 8: 0.0}, 0.01, peak_bytes=0, free_bytes=2**30, micro_batches=1)
    monkeypatch.setattr(planning, "measure_cost", lambda *_: cost)
    monkeypatch.setattr(planning, "try_settings", answer)
    return asked


def reason(plan: TrainingPlan, name: str) -> tuple[str, str]:
    (choice,) = (choice for choice in plan.choices if choice.choice == name)
    return choice.value, choice.reason


def test_the_better_setting_is_planned_and_both_are_said(
    data: Dataset, trials: list[tuple[Mapping[str, Recipe], int]]
) -> None:
    plan = make_plan(data, 1200, trial=True)
    ((recipes, samples),) = trials
    assert samples == pytest.approx(0.08 * 1200 * recipes["careful"].batch)
    assert recipes["careful"].stage[0].freeze_norm == "always"
    assert recipes["moving"].stage[0].freeze_norm == "never"
    assert recipes["moving"].batch == plan.recipe.batch == 6  # of 6 images
    learning = [stage for stage in plan.recipe.stage if stage.kind != "context"]
    assert {(stage.freeze_norm, stage.freeze) for stage in learning} == {("never", 0)}
    value, why = reason(plan, "trial")
    assert value == "moving backbone"
    assert "careful 0.400" in why
    assert "moving 0.500" in why


def test_the_batch_that_the_moving_backbone_takes_is_the_one_that_is_said(
    data: Dataset, trials: list[tuple[Mapping[str, Recipe], int]]
) -> None:
    plan = make_plan(data, 1200, trial=True)
    assert trials
    assert reason(plan, "batch")[0] == str(plan.recipe.batch)


def test_settings_that_adjust_logits_are_tried_with_the_priors_of_the_data(
    data: Dataset, trials: list[tuple[Mapping[str, Recipe], int]]
) -> None:
    plan = make_plan(data, 1200, ["loss.logit_adjustment=1"], trial=True)
    ((recipes, _),) = trials
    assert len(plan.recipe.loss.class_priors) == len(data.classes)
    assert {recipe.loss for recipe in recipes.values()} == {plan.recipe.loss}


def test_without_a_trial_nothing_is_tried(data: Dataset, trials: list[tuple[Mapping[str, Recipe], int]]) -> None:
    plan = make_plan(data, 1200)
    assert not trials
    assert all(stage.freeze_norm == "always" for stage in plan.recipe.stage)


@pytest.mark.parametrize(
    ("budget", "overrides", "why"),
    [(300, [], "there is time for 48 samples"), (1200, ["batch=4"], "batch as --set asks"), (1200, SMALL, "weights")],
)
def test_a_trial_that_would_tell_nothing_is_left_out_and_said(
    data: Dataset, trials: list[tuple[Mapping[str, Recipe], int]], budget: int, overrides: list[str], why: str
) -> None:
    plan = make_plan(data, budget, overrides, trial=True)
    assert not trials
    assert reason(plan, "trial")[0] == "none"
    assert why in reason(plan, "trial")[1]


def test_a_trial_is_exact_and_draws_nothing_from_the_training(data: Dataset) -> None:
    recipe = load_recipe("quick", [*SMALL, "augment.crop=[32, 32]", "batch=2"])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = try_settings({"a": recipe}, data, 6, World())
    assert torch.equal(torch.rand(3), expected)
    (again,) = try_settings({"a": recipe}, data, 6, World())
    assert again.mean_iou == first[0].mean_iou
    assert (first[0].steps, first[0].batch) == (3, 2)


@pytest.mark.parametrize("labels", ["aabbccddeeffgg", "aaabbbbcc", "aaaaaaaaaaaa", "aaabbb", "abcdefghijklm", "a"])
def test_no_group_of_three_or_more_is_on_both_sides(labels: str) -> None:
    groups = Groups(tuple(labels), (None,) * len(labels), "given")
    learned, measured = hold_out(groups)
    assert learned
    assert measured
    assert sorted({*learned, *measured}) == list(range(len(labels)))
    if len(set(labels)) >= 3:
        assert not {labels[i] for i in learned} & {labels[i] for i in measured}
    elif len(labels) > 1:
        assert not set(learned) & set(measured)


def test_a_trial_takes_a_budget_and_no_recipe(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no budget"):
        make_plan(data, 0, SMALL, trial=True)
    with pytest.raises(InputError, match="there is a recipe"):
        train(data, tmp_path / "run", recipe=load_recipe("quick"), options=TrainOptions(trial=True))
