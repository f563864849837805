"""Whether images without labels help is measured, inside the budget, on training images that were held out.

    helps, choice = try_unlabelled(recipe, data, samples=480, world=World())
    choice.reason                                        # what both reached, and the difference with its interval

Self-training may also teach a network its own errors. So one is trained with the images and one without, on as many
labelled samples, and the plan uses the images only where the first is better.
"""

from __future__ import annotations

import dataclasses

from dilated.data.dataset import Dataset
from dilated.evaluation.intervals import compute_differences
from dilated.training.autoplan.choices import Choice, choose_ema_decay, stage_table
from dilated.training.autoplan.trial import MIN_SAMPLES, try_settings
from dilated.training.config import Recipe, StageConfig
from dilated.training.distributed.world import World


def try_unlabelled(recipe: Recipe, data: Dataset, samples: int, world: World) -> tuple[bool, Choice]:
    """Train with unlabelled images and without, and measure both on images held out of train.

    Args:
        recipe: that names the images.
        data: with train.
        samples: labelled ones, that there is time for with each.
        world: with the device.

    Returns:
        Whether the images are used, with the reason. They are where no budget leaves time to try.

    Raises:
        InputError: no such images, images of another split, or unreadable ones.
    """
    if samples < MIN_SAMPLES:
        return True, Choice(
            "unlabelled",
            recipe.unlabelled,
            f"as asked; there is no time to try: {samples} samples, {MIN_SAMPLES} would",
        )
    steps = max(1, samples // recipe.batch)
    ema, _ = choose_ema_decay(steps)
    warmup = max(1, min(50, steps // 10))
    stage = StageConfig(**stage_table("frontend", 16, recipe.weights != "random", iterations=steps, warmup=warmup))
    settled = dataclasses.replace(recipe, stage=(stage,), ema=ema, cache=True, workers=0, budget=0.0)
    recipes = {"with them": settled, "without": dataclasses.replace(settled, unlabelled="")}
    ours, theirs = try_settings(recipes, data, samples, world)
    assert ours.result is not None
    assert theirs.result is not None
    counts = [ours.result.image_counts], [theirs.result.image_counts]
    difference = compute_differences(*counts, len(data.classes), ours.result.groups).metrics["mean_iou"][0]
    chance = "more than chance" if difference.excludes_zero else "which may be chance"
    seconds = f"{ours.seconds + theirs.seconds:.0f} s"
    reason = f"mean IoU on images held out of train: {ours}; {theirs}: {difference}, {chance}; {seconds}"
    helps = difference.value > 0
    return helps, Choice("unlabelled", recipe.unlabelled if helps else "not used", reason)
