"""What a plan needs to know: the data set, from some of its images, and what a step costs on this machine.

    summary = summarize_dataset(data.samples("train"), data.classes)
    summary.median_size, summary.statistics.class_fractions, summary.region_sides
    cost = measure_cost(recipe, data.classes, (data.samples("train"), data.samples("val")), World())
    cost.step_seconds[16], cost.step_seconds[8], cost.prediction_seconds[8]

A plan for a hundred thousand images takes no longer than one for sixty; `dilated check` reads all of them. A step is
measured on noise of the crop's size; the second of two, since the first allocates. Where memory is too small
the batch is computed in parts, and their number is part of the answer. Where time runs out, what is left is estimated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any, Literal

import numpy as np
import psutil
import torch

from dilated.data.augment import AugmentConfig
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.data.statistics import SplitStatistics, StatisticsAccumulator, count_pixels
from dilated.data.torch_dataset import TrainingSamples
from dilated.models.base import BaseSegmenter
from dilated.system import peak_memory
from dilated.training import stages
from dilated.training.budget import COST_PER_HALVING, Deadline
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.step import TrainStep

_MAX_IMAGES = 48
_STRIDES = (16, 8)


@dataclass(frozen=True)
class DatasetSummary:
    """Statistics of the training images."""

    statistics: SplitStatistics
    """Statistics of the images that were read, with their regions."""
    vertical_asymmetry: float
    """How much the classes of the upper half differ from those of the lower: 0 not at all, 1 entirely."""

    @property
    def images(self) -> int:
        """How many images the split has, read or not."""
        return self.statistics.images

    @property
    def median_size(self) -> tuple[int, int]:
        """Height and width of the median image, by area."""
        assert self.statistics.sizes is not None  # at least one image was read
        return self.statistics.sizes.median

    @property
    def region_sides(self) -> tuple[float, ...]:
        """By class: half of its pixels are in regions of at least this side; 0 where the class is absent."""
        return tuple(c.area_weighted_median if c else 0.0 for c in self.statistics.components)

    @property
    def decoded_bytes(self) -> int:
        """The memory that all images and labels take, decoded."""
        pixels = self.statistics.labeled_pixels + self.statistics.ignored
        return int(pixels / self.statistics.labels_read * 4 * self.images)


def summarize_dataset(
    samples: list[Sample],
    classes: Classes,
    deadline: Deadline = Deadline(),  # noqa: B008 -- frozen
) -> DatasetSummary:
    """Read up to 48 samples, evenly spaced; fewer, but at least one, where the deadline passes.

    Raises:
        InputError: an unreadable image or label, or a value outside the classes.
    """
    chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, min(_MAX_IMAGES, len(samples))).round().astype(int)]
    sums = StatisticsAccumulator(len(classes))
    halves = np.zeros((2, len(classes)))  # pixels by class of the upper halves, of the lower
    chosen = chosen if deadline == Deadline() else [chosen[i] for i in _spread_order(len(chosen))]
    for sample in chosen:
        if sums.labels_read and deadline.expired:
            break
        _, label = sample.read()
        height = len(label)
        sums.add_label(label, measure_regions=True)
        for half, rows in enumerate((label[: height // 2], label[height - height // 2 :])):
            halves[half] += count_pixels(rows, len(classes))[:-1]
    halves /= halves.sum(1, keepdims=True).clip(min=1)
    return DatasetSummary(
        statistics=sums.statistics(len(samples)),
        vertical_asymmetry=float(np.abs(halves[0] - halves[1]).sum() / 2),
    )


def _spread_order(count: int) -> list[int]:
    """Return 0 to count - 1 in an order whose every beginning is spread over the whole range.

    Example:
        >>> _spread_order(6)
        [0, 4, 2, 1, 5, 3]
    """
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [i for i in reversed_bits if i < count]


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes that a step, a prediction and a sample take."""

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
    channels_last: bool = False
    """Whether steps are faster with the channels of a pixel side by side; the seconds of a step are of the faster."""
    other_step_seconds: float = 0.0
    """Seconds of a step at stride 16 in the slower of the two layouts; 0 where only one was timed, off GPUs."""

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
    """Measure the output strides 16 and 8, one after the other; nothing begins that would end after the deadline.

    One step, one prediction and one sample are timed in any case; a finer stride is extrapolated where time is short.

    Args:
        samples: of training and of validation.
        world: with the device; the processes share nothing here.

    Raises:
        InputError: a network that cannot be built, an image that cannot be read, or no memory for one sample.
    """
    world = World(device_name=world.device_name)
    free, before = free_memory(world.device), _peak_memory(world.device)
    step_seconds: dict[int, float] = {}
    prediction_seconds: dict[int, float] = {}
    micro_batches, coarse, complete = 1, _STRIDES[0], True
    layout: dict[str, Any] = {"channels_last": recipe.channels_last}
    for stride in _STRIDES:
        if stride != coarse and not deadline.leaves(step_seconds[coarse] * COST_PER_HALVING):
            step_seconds[stride] = step_seconds[coarse] * COST_PER_HALVING
            prediction_seconds[stride] = prediction_seconds[coarse] * COST_PER_HALVING
            complete = False
            continue
        segmenter = recipe.network.with_output_stride(stride).build(classes.names, classes.colors).to(world.device)
        step_seconds[stride], micro_batches = _time_step(segmenter, recipe, world, micro_batches, deadline)
        if stride == coarse and world.device.type == "cuda" and not recipe.channels_last:
            other_recipe = replace(recipe, channels_last=True)
            other_seconds, _ = _time_step(segmenter, other_recipe, world, micro_batches, deadline)
            if is_faster := other_seconds < step_seconds[stride]:
                recipe = other_recipe
                other_seconds, step_seconds[stride] = step_seconds[stride], other_seconds
            layout = {"channels_last": is_faster, "other_step_seconds": other_seconds}
        predictor = stages.build_predictor(segmenter, recipe, world.device)
        indices = np.linspace(0, len(samples[1]) - 1, 3).round().astype(int)
        calls = (partial(predictor, samples[1][i].read_image()) for i in indices)
        timings = _time_calls(calls, deadline)
        prediction_seconds[stride] = fmean(timings[1:] or timings)  # the first one warms up
    peak = max(0, _peak_memory(world.device) - before)
    dataset = TrainingSamples(samples[0], recipe.augment)
    draws = (partial(dataset.__getitem__, (draw % len(dataset), draw)) for draw in range(4))
    sample_seconds = fmean(_time_calls(draws, deadline))
    return Cost(step_seconds, prediction_seconds, sample_seconds, peak, free, micro_batches, complete, **layout)


def _time_calls(calls: Iterable[Callable[[], object]], deadline: Deadline) -> list[float]:
    """Return the seconds of each call, of the first in any case, until the deadline leaves no time for another."""
    timings: list[float] = []
    for call in calls:
        started = time.perf_counter()
        call()
        timings.append(time.perf_counter() - started)
        if not deadline.leaves(timings[-1]):
            break
    return timings


def _time_step(
    segmenter: BaseSegmenter, recipe: Recipe, world: World, micro_batches: int, deadline: Deadline
) -> tuple[float, int]:
    """Return the seconds of the second step, since the first allocates, and the parts in which a batch fits."""
    kind: Literal["joint", "frontend"] = "joint" if segmenter.context is not None else "frontend"
    stage = replace(recipe.stage[0], kind=kind)
    stages.set_modes(segmenter, stage, stages.should_freeze_norm(stage, recipe))
    assert isinstance(recipe.augment, AugmentConfig)
    height, width = recipe.augment.crop
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(recipe.batch, segmenter.num_bands, height, width, generator=generator)
    label = torch.randint(len(segmenter.classes), (recipe.batch, height, width), generator=generator)
    step = TrainStep(segmenter, stage, recipe, world, micro_batches, notify=lambda line: None)
    calls = [lambda: float(step(image, label, recipe.batch, 0))]  # a number, for which the GPU is waited for
    timings = _time_calls(calls * (4 if world.device.type == "cuda" else 2), deadline)
    return min(timings[1:], default=timings[0]), step.micro_batches


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _peak_memory(device: torch.device) -> int:
    """Return the most bytes that were in use so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_memory()
