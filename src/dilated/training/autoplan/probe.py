"""What a training step and a validation cost on this machine, measured.

    cost = measure_cost(recipe, data.classes, (data.samples("train"), data.samples("val")), World())
    cost.step_seconds[16], cost.step_seconds[8], cost.prediction_seconds[8]

A step is measured on noise of the crop's size; the second of two, since the first allocates. Where memory is too small
the batch is computed in parts, and their number is part of the answer. Where time runs out, what is left is estimated.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import psutil
import torch

from dilated.data.augment import AugmentConfig
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.data.training_samples import TrainingSamples
from dilated.models.base import BaseSegmenter
from dilated.prediction.predictor import Predictor
from dilated.training import stages
from dilated.training.budget import COST_PER_HALVING, Deadline
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.step import TrainStep

_STRIDES = (16, 8)


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes."""

    step_seconds: dict[int, float]
    """Seconds of a step, by output stride."""
    prediction_seconds: dict[int, float]
    """Seconds to label an image of the validation split, by output stride."""
    sample_seconds: float
    """Seconds to read and augment a training sample."""
    peak_bytes: int
    """Bytes that a step needs at its peak, beyond what was in use before; 0 where they are not known."""
    free_bytes: int
    """Bytes that were free before."""
    micro_batches: int
    """Number of parts in which a batch fits into memory."""
    complete: bool = True
    """Whether everything was measured in the time for it."""

    def scaled(self, factor: float) -> Cost:
        """Return an estimate for a batch that is larger by a factor, with the same samples at a time."""
        seconds = {stride: value * factor for stride, value in self.step_seconds.items()}
        parts = max(1, round(self.micro_batches * factor)) if self.micro_batches > 1 else 1
        return replace(self, step_seconds=seconds, micro_batches=parts, complete=False)


def check_network(recipe: Recipe, classes: Classes) -> None:
    """Build a recipe's network without memory for its weights.

    Raises:
        InputError: a network that cannot be built.
    """
    with torch.device("meta"):
        recipe.network.with_output_stride(8).build(classes.names, classes.colors)


def measure_cost(
    recipe: Recipe,
    classes: Classes,
    samples: tuple[list[Sample], list[Sample]],
    world: World,
    deadline: Deadline = Deadline(),  # noqa: B008 -- frozen
) -> Cost:
    """Measure the output strides 16 and 8, one after the other until the deadline; one step at least.

    Args:
        samples: of training and of validation.
        world: with the device; the processes share nothing here.
        deadline: once it has passed, the first timing is taken, a finer stride is extrapolated, and one sample is
            read.

    Raises:
        InputError: a network that cannot be built, an image that cannot be read, or no memory for one sample.
    """
    world = World(device_name=world.device_name)
    free, before = free_memory(world.device), _peak_memory(world.device)
    step_seconds: dict[int, float] = {}
    prediction_seconds: dict[int, float] = {}
    micro_batches = 1
    for stride in _STRIDES:
        if step_seconds and deadline.expired:
            coarse = _STRIDES[0]
            step_seconds[stride] = step_seconds[coarse] * COST_PER_HALVING
            prediction_seconds[stride] = prediction_seconds[coarse] * COST_PER_HALVING
            continue
        segmenter = recipe.network.with_output_stride(stride).build(classes.names, classes.colors).to(world.device)
        step_seconds[stride], micro_batches = _time_step(segmenter, recipe, world, micro_batches, deadline)
        predictor = stages.build_predictor(segmenter, recipe, world.device)
        prediction_seconds[stride] = _time_prediction(predictor, samples[1], deadline)
    complete = not deadline.expired
    peak = max(0, _peak_memory(world.device) - before)
    sample_seconds = _time_sample(recipe, classes, samples[0], deadline)
    return Cost(step_seconds, prediction_seconds, sample_seconds, peak, free, micro_batches, complete)


def _time_step(
    segmenter: BaseSegmenter, recipe: Recipe, world: World, micro_batches: int, deadline: Deadline
) -> tuple[float, int]:
    kind: Literal["joint", "frontend"] = "joint" if segmenter.context is not None else "frontend"
    stage = replace(recipe.stage[0], kind=kind)
    stages.set_modes(segmenter, stage, stages.should_freeze_norm(stage, recipe))
    assert isinstance(recipe.augment, AugmentConfig)
    height, width = recipe.augment.crop
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(recipe.batch, 3, height, width, generator=generator)
    label = torch.randint(len(segmenter.classes), (recipe.batch, height, width), generator=generator)
    step = TrainStep(segmenter, stage, recipe, world, micro_batches, notify=lambda line: None)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        float(step(image, label, recipe.batch, 0))  # waits for the GPU
        seconds = time.perf_counter() - started
        if deadline.expired:
            break
    return seconds, step.micro_batches


def _time_prediction(predictor: Predictor, samples: list[Sample], deadline: Deadline) -> float:
    """Time up to three images, the first one to warm up."""
    timings: list[float] = []
    for i in np.linspace(0, len(samples) - 1, 3).round().astype(int):
        image = samples[i].read_image()
        started = time.perf_counter()
        predictor(image)
        timings.append(time.perf_counter() - started)
        if deadline.expired:
            break
    measured = timings[1:] or timings
    return sum(measured) / len(measured)


def _time_sample(recipe: Recipe, classes: Classes, samples: list[Sample], deadline: Deadline) -> float:
    dataset = TrainingSamples(samples, classes, recipe.augment)
    timings: list[float] = []
    for draw in range(4):
        started = time.perf_counter()
        dataset[(draw % len(samples), draw)]
        timings.append(time.perf_counter() - started)
        if deadline.expired:
            break
    return sum(timings) / len(timings)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _peak_memory(device: torch.device) -> int:
    """Return the most bytes that were in use so far; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
