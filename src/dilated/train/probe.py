"""What a training step and a validation cost on this machine, measured.

    cost = probe(recipe, data.classes, pairs=(data.pairs("train"), data.pairs("val")))
    cost.step[16], cost.step[8], cost.picture[8]         # seconds

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

from dilated.data.formats.pairs import Pair
from dilated.data.labels import Classes
from dilated.data.samples import Samples
from dilated.data.transforms import Augment
from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.nn.build import build_segmenter
from dilated.nn.segmenter import Network
from dilated.predict.predictor import Predictor
from dilated.train import stages
from dilated.train.recipe import Recipe
from dilated.train.step import Step
from dilated.train.world import World


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes."""

    step: dict[int, float]
    """Seconds of a step by output stride."""
    picture: dict[int, float]
    """Seconds to label a picture of the validation split, by output stride."""
    sample: float
    """Seconds to read and augment a training sample."""
    memory: int
    """Bytes that a step needs at its peak, beside what was there before."""
    free: int
    """Bytes that were free before."""
    parts: int
    """In how many parts a batch fits."""


def probe(recipe: Recipe, classes: Classes, pairs: tuple[list[Pair], list[Pair]], strides: tuple[int, ...]) -> Cost:
    """Measure.

    Args:
        pairs: of training and of validation.
        strides: output strides to measure at.

    Raises:
        InputError: a network that cannot be built, a picture that cannot be read, or no memory for one sample.
    """
    world = World()
    free, before = free_memory(world.device), _peak(world.device)
    steps, pictures, parts = {}, {}, 1
    for stride in strides:
        segmenter = _build(recipe, classes, stride).to(world.device)
        steps[stride], parts = _step(segmenter, recipe, world, parts)
        pictures[stride] = _picture(stages.predictor(segmenter, recipe, world.device), pairs[1])
    memory = max(0, _peak(world.device) - before)
    return Cost(steps, pictures, _sample(recipe, classes, pairs[0]), memory, free, parts)


def _build(recipe: Recipe, classes: Classes, stride: int) -> BaseSegmenter:
    network = recipe.network
    if isinstance(network, Network):
        network = replace(network, output_stride=stride)
    try:
        return build_segmenter(classes.names, classes.colors, network)
    except ValueError as error:
        raise InputError(str(error)) from error


def _step(segmenter: BaseSegmenter, recipe: Recipe, world: World, parts: int) -> tuple[float, int]:
    kind: Literal["joint", "frontend"] = "joint" if segmenter.context is not None else "frontend"
    stage = replace(recipe.stage[0], kind=kind)
    stages.set_modes(segmenter, stage, stages.frozen_norm(stage, recipe))
    assert isinstance(recipe.augment, Augment)
    height, width = recipe.augment.crop
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(recipe.batch, 3, height, width, generator=generator)
    label = torch.randint(len(segmenter.classes), (recipe.batch, height, width), generator=generator)
    step = Step(segmenter, stage, recipe, world, parts, say=lambda line: None)
    took = 0.0
    for _ in range(2):
        began = time.perf_counter()
        float(step(image, label, recipe.batch, 0))  # waits for the GPU
        took = time.perf_counter() - began
    return took, step.parts


def _picture(predictor: Predictor, pairs: list[Pair]) -> float:
    """On up to two pictures, the first one to warm up."""
    took = []
    for i in np.linspace(0, len(pairs) - 1, 3).round().astype(int):
        image = pairs[i].read_image()
        began = time.perf_counter()
        predictor(image)
        took.append(time.perf_counter() - began)
    return sum(took[1:]) / 2


def _sample(recipe: Recipe, classes: Classes, pairs: list[Pair]) -> float:
    samples = Samples(pairs, classes, recipe.augment)
    began, number = time.perf_counter(), 4
    for draw in range(number):
        samples[(draw % len(pairs), draw)]
    return (time.perf_counter() - began) / number


def free_memory(device: torch.device) -> int:
    """Bytes free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _peak(device: torch.device) -> int:
    """The most bytes so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
