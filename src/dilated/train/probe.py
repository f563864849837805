"""What a training step and a validation cost on this machine, measured.

    cost = probe(recipe, data.classes, pairs=(data.pairs("train"), data.pairs("val")))
    cost.step[16], cost.step[8], cost.picture            # seconds

A step is measured on noise of the crop's size; the second of two, since the first allocates. Where memory does not
suffice the batch is computed in parts, and in how many is part of the answer.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from dilated.data.formats.pairs import Pair
from dilated.data.labels import Classes
from dilated.data.samples import Samples
from dilated.data.transforms import Augment
from dilated.errors import InputError
from dilated.nn.build import build_segmenter
from dilated.nn.segmenter import Network
from dilated.predict.predictor import Predictor
from dilated.train import stages
from dilated.train.recipe import Recipe
from dilated.train.stage import Stage
from dilated.train.step import Step
from dilated.train.world import World


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes."""

    step: dict[int, float]
    """Seconds of a step by output stride."""
    picture: float
    """Seconds to label a picture of the validation split."""
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
        strides: output strides to measure steps at.

    Raises:
        InputError: a network that cannot be built, a picture that cannot be read, or no memory for one sample.
    """
    world = World()
    free, before = free_memory(world.device), _peak(world.device)
    seconds, parts = {}, 1
    for stride in strides:
        seconds[stride], parts = _step(recipe, classes, stride, world, parts)
    memory = max(0, _peak(world.device) - before)
    return Cost(seconds, _picture(recipe, classes, pairs[1]), _sample(recipe, classes, pairs[0]), memory, free, parts)


def _step(recipe: Recipe, classes: Classes, stride: int, world: World, parts: int) -> tuple[float, int]:
    network = recipe.network
    if isinstance(network, Network):
        network = replace(network, output_stride=stride)
    try:
        segmenter = build_segmenter(classes.names, classes.colors, network).to(world.device)
    except ValueError as error:
        raise InputError(str(error)) from error
    stage = Stage("joint" if network.context != "none" else "frontend", iterations=1, freeze=recipe.stage[0].freeze)
    stages.set_modes(segmenter, stage)
    assert isinstance(recipe.augment, Augment)
    height, width = recipe.augment.crop
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(recipe.batch, 3, height, width, generator=generator)
    label = torch.randint(len(classes), (recipe.batch, height, width), generator=generator)
    step = Step(segmenter, stage, recipe, world, parts, say=lambda line: None)
    took = 0.0
    for _ in range(2):
        began = time.perf_counter()
        float(step(image, label, recipe.batch, 0))  # waits for the GPU
        took = time.perf_counter() - began
    return took, step.parts


def _picture(recipe: Recipe, classes: Classes, pairs: list[Pair]) -> float:
    """On up to two pictures, the first one to warm up."""
    segmenter = build_segmenter(classes.names, classes.colors, recipe.network).eval()
    device = World().device
    bf16 = stages.precision(recipe, device) == "bf16"
    predictor = Predictor(segmenter, device=str(device), precision="bf16" if bf16 else "fp32")
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
