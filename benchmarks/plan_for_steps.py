"""The plan of `dilated train --budget`, in steps instead of seconds: the same on any machine, whatever else it does.

    recipe = plan_for_steps(data, steps=500, overrides=["loss.ohem=0.3"])

The rules are the plan's own, for time for so many coarse steps of 8 samples; the shares of the stages are turned
into steps at the costs that steps usually have.
"""

from __future__ import annotations

from collections.abc import Sequence

from dilated.config import build_dataclass
from dilated.data.dataset import Dataset
from dilated.training.autoplan.choices import (
    candidate_batch_sizes,
    choose_batch_size,
    choose_ema_decay,
    choose_from_data,
    fill_class_priors,
    plan_stages,
)
from dilated.training.autoplan.measure import Cost, summarize_dataset
from dilated.training.budget import COST_PER_HALVING
from dilated.training.config import Recipe
from dilated.training.recipe_files import apply_override

_NOMINAL_BATCH = 8


def plan_for_steps(data: Dataset, steps: int, overrides: Sequence[str], shorten: float = 1.0) -> Recipe:
    """The plan for time for so many coarse steps of 8 samples, in steps instead of seconds.

    Args:
        shorten: the factor by which each stage is shorter than planned.
    """
    summary = summarize_dataset(data.samples("train"), data.classes)
    table, _ = choose_from_data(summary, cuda=False)
    batch, _ = choose_batch_size(candidate_batch_sizes(summary, False, 1), steps * _NOMINAL_BATCH)
    coarse = batch / _NOMINAL_BATCH  # seconds of a step, where one of 8 samples takes one
    cost = Cost({16: coarse, 8: coarse * COST_PER_HALVING}, {16: 0.0, 8: 0.0}, 0.0, 0, 0, 1)
    stages, _ = plan_stages(summary, cost, float(steps), batch, 0, pretrained=True)
    total = sum(stage["share"] for stage in stages)
    for stage in stages:
        seconds = shorten * steps * stage.pop("share") / total
        stage["iterations"] = max(1, round(seconds / cost.step_seconds[stage["output_stride"]]))
        stage["val_interval"] = float(stage["iterations"])
    if stages[-1]["kind"] == "frontend":
        table["network"]["context"] = "none"
    ema, _ = choose_ema_decay(stages[-1]["iterations"])
    table |= {"batch": batch, "stage": stages, "ema": ema, "cache": True, "workers": 0}
    changed = [text for text in overrides if text.replace(" ", "").startswith("batch=")]
    for text in changed:  # as many samples in steps of another size
        apply_override(table, text, Recipe)
        for stage in stages:
            stage["iterations"] = max(1, round(stage["iterations"] * batch / table["batch"]))
            stage["val_interval"] = float(stage["iterations"])
        batch = table["batch"]
        table["ema"], _ = choose_ema_decay(stages[-1]["iterations"])
    for text in overrides:
        apply_override(table, text, Recipe)
    return fill_class_priors(build_dataclass(Recipe, table, "plan"), summary)
