"""A trial of two ways to treat the pretrained backbone, inside the budget: which one fits the data is measured.

    results = try_settings(recipes, data, samples=480, world=World())
    best = choose_setting(results)                       # the first where they are level

A careful backbone keeps ImageNet's statistics and learns slowly; a moving one normalizes by large batches and learns in
all its levels. The first has won on street scenes and on cells, the second on photographs of one large object, and no
size or number that a look at the data gives tells which a new set is like. So both are trained on as many samples,
and measured on training images that neither has seen. Steps are counted, not timed: the same data, seed and number of
samples give the same result.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import torch

from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset
from dilated.data.device_batches import DeviceBatches
from dilated.data.groups import Groups
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples
from dilated.data.units import MIN_GROUPS
from dilated.evaluation.evaluate import evaluate
from dilated.evaluation.result import EvaluationResult
from dilated.training import optim, stages
from dilated.training.batch_source import DeviceImageCache
from dilated.training.budget import StepLimit
from dilated.training.checkpoint import TrainingState
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.optim import WeightEMA
from dilated.training.self_training import SelfTraining, open_unlabelled
from dilated.training.step import TrainStep

TRIAL_SHARE = 0.08
"""Share of a budget that each setting is trained for."""
MIN_SAMPLES = 160
"""Samples below which a trial would tell nothing: 20 steps of 8."""
MOVING_STAGE: dict[str, Any] = {"freeze_norm": "never", "freeze": 0}
"""What a stage has where the backbone moves; its batch is the largest there is."""
_HELD_OUT = 6
"""One of so many groups is measured on and not trained on."""
_MOST_MEASURED = 24


@dataclass(frozen=True)
class TrialResult:
    """What a setting reached."""

    setting: str
    mean_iou: float
    steps: int
    batch: int
    seconds: float
    result: EvaluationResult | None = None
    """All that was measured."""

    def __str__(self) -> str:
        return f"{self.setting} {self.mean_iou:.3f} after {self.steps} steps of {self.batch}"


def try_settings(recipes: Mapping[str, Recipe], data: Dataset, samples: int, world: World) -> list[TrialResult]:
    """Train each recipe's first stage on so many samples, and measure it on images held out of train.

    Args:
        recipes: by the name of the setting.
        samples: that each setting sees; a setting of twice the batch has half the steps.
        world: with the device; the processes share nothing here. The generators of random numbers stay as they were.

    Raises:
        InputError: an unreadable image or label, or weights that are not available.
    """
    everything, groups = data.samples("train"), data.groups("train")
    learned, measured = hold_out(groups)
    places = np.linspace(0, len(measured) - 1, min(_MOST_MEASURED, len(measured))).round().astype(int)
    chosen = [measured[place] for place in places]
    parts = [everything[i] for i in learned], [everything[i] for i in chosen]
    results = []
    for setting, recipe in recipes.items():
        with torch.random.fork_rng(devices=[]):
            results.append(_run(setting, recipe, data, parts, max(1, samples // recipe.batch), world))
    return results


def choose_setting(results: Sequence[TrialResult]) -> str:
    """Return the setting of the highest mean IoU; the first of those that are level.

    Example:
        >>> choose_setting([TrialResult("careful", 0.5, 9, 2, 1.0), TrialResult("moving", 0.5, 9, 2, 1.0)])
        'careful'
    """
    return max(results, key=lambda result: -1.0 if np.isnan(result.mean_iou) else result.mean_iou).setting


def hold_out(groups: Groups) -> tuple[list[int], list[int]]:
    """Divide images into those to train on and those to measure on, by group where there are three or more.

    Returns:
        Indices of both: every sixth group is measured on, the smallest of fewer than six, and the last sixth of the
        images where there is one group or two.

    Example:
        >>> hold_out(Groups(tuple("abcdefg"), (None,) * 7, "given"))
        ([0, 1, 2, 3, 4, 6], [5])
    """
    members = list(groups.indices.values())
    if len(members) < MIN_GROUPS:
        first = len(groups) - max(1, len(groups) // _HELD_OUT)
        return list(range(first)) or [0], list(range(first, len(groups)))
    chosen = members[_HELD_OUT - 1 :: _HELD_OUT] or [min(members, key=len)]
    measured = sorted(index for group in chosen for index in group)
    held_out = set(measured)
    return [index for index in range(len(groups)) if index not in held_out], measured


def _run(
    setting: str,
    recipe: Recipe,
    data: Dataset,
    parts: tuple[list[Sample], list[Sample]],
    steps: int,
    world: World,
) -> TrialResult:
    """Train one setting for so many steps in this process, and measure the moving average of its weights."""
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    stage, world = recipe.stage[0], World(device_name=world.device_name)
    segmenter, _ = stages.build_initial_segmenter(data.classes, recipe, None)
    segmenter.to(world.device)
    stages.set_modes(segmenter, stage, stages.should_freeze_norm(stage, recipe))
    step = TrainStep(segmenter, stage, recipe, world, notify=lambda line: None)
    average = WeightEMA(segmenter, recipe.ema)
    keys = iter_batch_keys(len(parts[0]), recipe.batch, recipe.seed, 0, steps)
    images = DeviceImageCache(world.device).find("train", parts[0], recipe.augment, Event())
    if images is not None:
        assert isinstance(recipe.augment, AugmentConfig)
        batches = DeviceBatches(images, recipe.augment, recipe.seed).iterate(keys)
    else:
        samples = TrainingSamples(parts[0], recipe.augment, recipe.seed, cache=recipe.cache)
        batches = iter_batches(samples, keys, workers=0)
    state = TrainingState(segmenter, average)
    if recipe.unlabelled:
        unlabelled = open_unlabelled(recipe, data, 1, lambda line: None)
        batches = SelfTraining(unlabelled, stage, recipe, state).extend_all(batches, step, StepLimit(steps))
    for image, label in batches:
        optim.set_learning_rate(step.optimizer, stage, state.step, state.step / steps)
        step(image, label, len(image), 0)
        average.update(segmenter)
        state.step += 1
    predictor = stages.build_predictor(average.segmenter, recipe, world.device)
    result = evaluate(predictor, parts[1], data.classes)
    seconds = time.monotonic() - started
    return TrialResult(setting, result.confusion.mean_iou, steps, recipe.batch, seconds, result)
