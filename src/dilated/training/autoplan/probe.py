"""What a training step and a validation cost on this machine, measured.

    cost = measure_cost(recipe, data.classes, samples=(data.samples("train"), data.samples("val")))
    cost.step_seconds[16], cost.step_seconds[8], cost.prediction_seconds[8]         # seconds

A step is measured on noise of the crop's size; the second of two, since the first allocates. Where memory does not
suffice the batch is computed in parts, and in how many is part of the answer.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from dilated.data.augment import AugmentConfig
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.data.training_samples import TrainingSamples
from dilated.models.base import BaseSegmenter
from dilated.prediction.predictor import Predictor
from dilated.training import stages
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.step import TrainStep


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes."""

    step_seconds: dict[int, float]
    """Seconds of a step by output stride."""
    prediction_seconds: dict[int, float]
    """Seconds to label an image of the validation split, by output stride."""
    sample_seconds: float
    """Seconds to read and augment a training sample."""
    peak_bytes: int
    """Bytes that a step needs at its peak, beside what was there before."""
    free_bytes: int
    """Bytes that were free before."""
    micro_batches: int
    """In how many parts a batch fits."""


def measure_cost(
    recipe: Recipe, classes: Classes, samples: tuple[list[Sample], list[Sample]], strides: tuple[int, ...]
) -> Cost:
    """Measure.

    Args:
        pairs: of training and of validation.
        strides: output strides to measure at.

    Raises:
        InputError: a network that cannot be built, an image that cannot be read, or no memory for one sample.
    """
    world = World()
    free, before = free_memory(world.device), _peak_memory(world.device)
    step_seconds, prediction_seconds, micro_batches = {}, {}, 1
    for stride in strides:
        segmenter = recipe.network.with_output_stride(stride).build(classes.names, classes.colors).to(world.device)
        step_seconds[stride], micro_batches = _time_step(segmenter, recipe, world, micro_batches)
        prediction_seconds[stride] = _time_prediction(
            stages.build_predictor(segmenter, recipe, world.device), samples[1]
        )
    memory = max(0, _peak_memory(world.device) - before)
    return Cost(
        step_seconds, prediction_seconds, _time_sample(recipe, classes, samples[0]), memory, free, micro_batches
    )


def _time_step(segmenter: BaseSegmenter, recipe: Recipe, world: World, micro_batches: int) -> tuple[float, int]:
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
    return seconds, step.micro_batches


def _time_prediction(predictor: Predictor, samples: list[Sample]) -> float:
    """On up to two images, the first one to warm up."""
    timings = []
    for i in np.linspace(0, len(samples) - 1, 3).round().astype(int):
        image = samples[i].read_image()
        started = time.perf_counter()
        predictor(image)
        timings.append(time.perf_counter() - started)
    return sum(timings[1:]) / 2


def _time_sample(recipe: Recipe, classes: Classes, samples: list[Sample]) -> float:
    dataset = TrainingSamples(samples, classes, recipe.augment)
    started, count = time.perf_counter(), 4
    for draw in range(count):
        dataset[(draw % len(samples), draw)]
    return (time.perf_counter() - started) / count


def free_memory(device: torch.device) -> int:
    """Bytes free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _peak_memory(device: torch.device) -> int:
    """The most bytes so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
