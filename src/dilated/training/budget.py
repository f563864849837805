"""A time budget: how one is written, and how a recipe of passes or steps is made one of shares of it.

seconds = parse_duration("30m")
recipe = with_budget(load_recipe("street"), seconds, images=367)
"""

from __future__ import annotations

import re
from dataclasses import replace

from dilated.errors import InputError
from dilated.training.config import Recipe
from dilated.training.stage import StageConfig

_SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COST_PER_HALVING = 2.6
"""What a step costs at half the output stride, as a multiple; measured on EfficientNet-lite0."""


def parse_duration(text: str) -> float:
    """Seconds of a time such as `90s`, `30m`, `1h30m`.

    Raises:
        InputError: anything else, or none at all.

    Example:
        >>> parse_duration("1h30m"), parse_duration("90s"), parse_duration("1.5h")
        (5400.0, 90.0, 5400.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    seconds = sum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.strip() or seconds <= 0:
        raise InputError(f"--budget: found {text!r}; expected a time such as 90s, 30m, 2h or 1h30m")
    return seconds


def with_budget(recipe: Recipe, seconds: float, images: int) -> Recipe:
    """The same stages in a given time: each gets the share that its steps would have taken.

    Args:
        images: of training.

    Example:
        >>> from dilated.training.config import load_recipe
        >>> [round(stage.share, 2) for stage in with_budget(load_recipe("quick"), 600, images=100).stage]
        [...]
    """
    if recipe.budget:
        return replace(recipe, budget=seconds)
    costs = [_relative_cost(stage, recipe, images) for stage in recipe.stage]
    stages = tuple(
        replace(stage, epochs=0.0, iterations=0, share=cost / sum(costs), val_interval=0.0)
        for stage, cost in zip(recipe.stage, costs, strict=True)
    )
    return replace(recipe, stage=stages, budget=seconds)


def _relative_cost(stage: StageConfig, recipe: Recipe, images: int) -> float:
    """In units that mean something between stages alone: samples, by what one costs at the stage's stride."""
    samples = stage.epochs * images or float(stage.iterations * (stage.batch or recipe.batch))
    forward_only = 0.5 if stage.kind == "context" else 1.0
    halvings = {32: 0, 16: 1, 8: 2}[stage.output_stride]
    return samples * forward_only * _COST_PER_HALVING**halvings
