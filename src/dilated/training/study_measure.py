"""What a step of an arm costs on this machine, from a few of its steps on noise.

segmenter = build_arm_network(classes, recipe, front_end)
seconds = measure_step_seconds(segmenter, recipe, World())
"""

from __future__ import annotations

import time
from math import prod
from statistics import median

import torch

from dilated.data.labels import Classes
from dilated.models.base import BaseSegmenter
from dilated.models.segmenter import Segmenter
from dilated.training import stages
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.step import TrainStep

_STEPS = 4
_CACHED_BYTES = 4 * 2**30
"""That the features of all views take on the disk at most."""


def build_arm_network(classes: Classes, recipe: Recipe, front: BaseSegmenter) -> BaseSegmenter:
    """Build the network of an arm as its training does.

    Raises:
        InputError: settings that nothing can be built of.
    """
    segmenter, _ = stages.build_initial_segmenter(classes, recipe, front)
    return stages.rebuild_for_stage(segmenter, recipe.stage[0], recipe)


def measure_step_seconds(segmenter: BaseSegmenter, recipe: Recipe, world: World) -> float:
    """Measure the seconds of a step; the first of several is left out, since it allocates.

    Raises:
        InputError: no memory for one sample, or a module that fails.
    """
    stage = recipe.stage[0]
    segmenter = segmenter.to(world.device)
    stages.set_modes(segmenter, stage, stages.should_freeze_norm(stage, recipe))
    height, width = recipe.augment.crop
    generator = torch.Generator().manual_seed(0)
    shape: tuple[int, ...] = (segmenter.num_bands, height, width)
    if stage.views and isinstance(segmenter, Segmenter):
        shape = (_packed_length(segmenter, (height, width)),)
    images = torch.rand(recipe.batch, *shape, generator=generator)
    labels = torch.randint(len(segmenter.classes), (recipe.batch, height, width), generator=generator)
    step = TrainStep(segmenter, stage, recipe, world, notify=lambda line: None)
    timings = []
    for _ in range(_STEPS):
        started = time.perf_counter()
        float(step(images, labels, recipe.batch, 0))  # a number, for which the GPU is waited for
        timings.append(time.perf_counter() - started)
    return median(timings[1:])


def choose_views(front: Segmenter, recipe: Recipe, images: int, seconds: float, image_seconds: float) -> int:
    """Choose how many views of each image are kept: 1 to 4, by the time and the disk that they take; 1 in any case.

    Args:
        images: of the training split.
        seconds: for computing them; infinite for no limit.
        image_seconds: that one view takes.
    """
    nbytes = 4 * _packed_length(front, recipe.augment.crop)
    by_disk = _CACHED_BYTES // (nbytes * images)
    by_time = seconds / (image_seconds * images)
    return max(1, int(min(4, by_disk, by_time)))


def _packed_length(segmenter: Segmenter, size: tuple[int, int]) -> int:
    return sum(prod(shape) for shape in segmenter.backbone_shapes(size))
