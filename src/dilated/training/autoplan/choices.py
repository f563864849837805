"""What a plan decides, with a reason for each choice: from the data alone, and from the time that there is.

    table, choices = choose_from_data(summarize_dataset(data.samples("train"), data.classes), cuda=False)
    size, choice = choose_batch_size(sizes, samples)
    tables, choices = plan_stages(summary, cost, seconds, size, images)

The thresholds are from trainings of a few minutes on CamVid and nuclei, on two cores (docs/your-own-data.md).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

from dilated.training.autoplan.measure import Cost, DatasetSummary
from dilated.training.config import Recipe

MAX_SAMPLE_PIXELS = {"cpu": 288 * 384, "cuda": 512 * 512}
"""Pixels of a sample at most, by type of device."""
_SMALL_OBJECT_SIDE = 24.0
"""Pixels of a side below which an object is lost between the samples of a coarse stride."""
_MAX_WARMUP_STEPS = 50
"""Steps of warm-up that are enough for a long stage; all of a short one would be too many."""
_MIN_STEPS = 800
"""Steps below which a smaller batch, and so more of them, teaches more than a steadier gradient."""
_MIN_FINE_SAMPLES = 4000
"""Coarse samples for which there must be time before a fine stage is worth its share; half for small objects."""
_MIN_CONTEXT_SAMPLES = 12_000
"""Coarse samples for which there must be time before a context module is worth its share: some 400 fine steps of 8."""
_EMA_SPAN = 0.03
"""Of the last stage's steps, the share that the moving average of the weights spans: with a rate that falls to 0, more
only lags behind."""

DEFAULT_TABLE: dict[str, Any] = {
    "weights": "bundled",
    "network": {
        "backbone": "tf_efficientnet_lite0",
        "features": 128,
        "context": "basic",
        "detail": 64,
        "detail_reads": "features",
        "detail_layers": 2,
        "dropout": 0.1,
    },
}
"""What a planned recipe has for any data."""


@dataclass(frozen=True)
class Choice:
    """One decision, with the fact that it follows from."""

    choice: str
    value: str
    reason: str


def choose_from_data(summary: DatasetSummary, cuda: bool) -> tuple[dict[str, Any], list[Choice]]:
    """Choose the tables of a recipe, with the reasons."""
    crop, reason = _choose_crop(summary, MAX_SAMPLE_PIXELS["cuda" if cuda else "cpu"])
    rarest_fraction = min((fraction for fraction in summary.statistics.class_fractions if fraction > 0), default=1.0)
    flip_vertically = summary.vertical_asymmetry < 0.1
    side = _finest_region_side(summary)
    table: dict[str, Any] = {
        **copy.deepcopy(DEFAULT_TABLE),
        "augment": {"crop": list(crop), "scale": [0.6, 1.8], "vertical_flip": flip_vertically},
        "loss": {"dice": 1.0},
    }
    notes = [] if min(summary.statistics.class_fractions, default=0) > 0 else ["some classes are not in the sample"]
    choices = [
        Choice("network", "tf_efficientnet_lite0", "its ImageNet weights come with the package, nothing is downloaded"),
        Choice("detail", "64", f"logits at stride 4: the finest class is mostly in regions of some {side:.0f} pixels"),
        Choice("crop", f"{crop[0]}x{crop[1]}", reason),
        Choice(
            "flips",
            "both ways" if flip_vertically else "left-right",
            f"the upper half's classes differ from the lower's by {summary.vertical_asymmetry:.0%}",
        ),
        Choice(
            "loss",
            "cross-entropy + Dice",
            "; ".join(
                [f"the rarest class has {rarest_fraction:.2%} of the pixels, and Dice weighs classes alike", *notes]
            ),
        ),
    ]
    return table, choices


def _choose_crop(summary: DatasetSummary, max_pixels: int) -> tuple[tuple[int, int], str]:
    """Choose height and width of a sample, multiples of 32, with the reason.

    Args:
        max_pixels: pixels of a sample at most.
    """
    height, width = summary.median_size
    description = f"the median image, {width}x{height}"
    if height * width <= 0.75 * max_pixels:
        return (_round_to_grid(height), _round_to_grid(width)), f"the whole of {description}"
    scale = 0.8
    if height * width * scale**2 > max_pixels * 1.01:
        scale = (max_pixels / (height * width)) ** 0.5
        description += f"; {max_pixels} pixels are what a step can afford here"
    return (_round_to_grid(scale * height), _round_to_grid(scale * width)), f"{scale:.0%} of {description}"


def _round_to_grid(side: float) -> int:
    return max(64, round(side / 32) * 32)


def _finest_region_side(summary: DatasetSummary) -> float:
    return min((side for side in summary.region_sides if side), default=0.0)


def candidate_batch_sizes(summary: DatasetSummary, cuda: bool, processes: int) -> list[int]:
    """Return the batch sizes to choose from, ascending."""
    max_size = max(processes, min(16 if cuda else 8, max(2, summary.images)))
    return sorted({max(processes, min(size, max_size)) for size in ((8, 16) if cuda else (2, 4, 8))})


def choose_batch_size(sizes: list[int], samples: float) -> tuple[int, Choice]:
    """Choose the batch size for the number of samples that there is time for.

    Example:
        >>> [choose_batch_size(*arguments)[0] for arguments in (([2, 4, 8], 4000), ([2, 4, 8], 500), ([8], 0))]
        [4, 2, 8]
    """
    if len(sizes) == 1:
        return sizes[0], Choice("batch", str(sizes[0]), "samples a step")
    size = max((size_option for size_option in sizes if samples / size_option >= _MIN_STEPS), default=sizes[0])
    reason = f"the most that leave {_MIN_STEPS} steps" if size > sizes[0] else "few, for as many steps as there is time"
    return size, Choice("batch", str(size), f"samples a step: {reason}")


def choose_workers(reading: float, cores: int, is_device: bool) -> int:
    """Choose the number of processes that read samples, so that no step waits for its batch.

    Args:
        reading: seconds to read a batch in one process, as a fraction of those of a step.
        cores: of this machine.
        is_device: whether steps are computed elsewhere, so that processors are free to read; half more than needed then
            make up for samples that take longer.

    Example:
        >>> choose_workers(3.77, 16, is_device=True), choose_workers(3.77, 2, True), choose_workers(0.2, 2, False)
        (6, 1, 1)
    """
    needed = math.ceil(1.5 * reading) if is_device else 1 + int(reading)
    return max(1, min(needed, cores - 1))


def choose_ema_decay(steps: float) -> tuple[float, Choice]:
    """Choose the decay of the moving average for a last stage of so many steps.

    Example:
        >>> choose_ema_decay(1000)[0]
        0.9667
    """
    decay = round(min(0.998, max(0.5, 1 - 1 / (_EMA_SPAN * max(steps, 1.0)))), 4)
    return decay, Choice("ema", f"{decay:g}", f"averages the last {_EMA_SPAN:.0%} of some {steps:.0f} steps")


def plan_stages(
    summary: DatasetSummary, cost: Cost, seconds: float, batch_size: int, images: int, pretrained: bool
) -> tuple[list[dict[str, Any]], list[Choice]]:
    """Choose stages by the number of samples that there is time for; without a budget, by passes over the images.

    Args:
        images: number of validation images.
        pretrained: whether the backbone is pretrained.
    """
    parts = {"accumulate": cost.micro_batches} if cost.micro_batches > 1 else {}
    side = _finest_region_side(summary)
    has_small_objects = side < _SMALL_OBJECT_SIDE
    if not seconds:
        epochs = min(200.0, max(4.0, round(1600 * batch_size / summary.images)))
        reason = f"about 1600 steps at stride 16, {epochs:.0f} passes over {summary.images} images, then finer"
        lengths = {
            ("frontend", 16): epochs,
            ("frontend", 8): epochs / 5,
            ("context", 8): epochs / 4,
            ("joint", 8): epochs / 10,
        }
        length = "epochs"
    else:
        steps = max(0.0, seconds - cost.prediction_seconds[16] * images) / cost.step_seconds[16]
        reason = f"time for some {steps:.0f} coarse steps"
        length = "share"
        if steps * batch_size >= _MIN_CONTEXT_SAMPLES:
            lengths = {("frontend", 16): 0.55, ("frontend", 8): 0.15, ("context", 8): 0.15, ("joint", 8): 0.15}
            reason += ": coarse, fine, the context module alone, then all"
        elif steps * batch_size >= _MIN_FINE_SAMPLES / (2 if has_small_objects else 1):
            coarse, fine = (0.6, 0.4) if has_small_objects else (0.7, 0.3)
            lengths = {("frontend", 16): coarse, ("frontend", 8): fine}
            reason += ", too few for a context module to learn: coarse, then fine"
        else:
            lengths = {("frontend", 16): 1.0}
            reason += ", too few for finer ones of more than twice the cost"
    if has_small_objects and len(lengths) > 1:
        reason += f"; regions of some {side:.0f} pixels want the fine stride"
    tables = []
    for (kind, stride), value in lengths.items():
        steps = value * seconds / sum(lengths.values()) / cost.step_seconds[stride]
        warmup = max(1, min(_MAX_WARMUP_STEPS, round(0.1 * steps))) if seconds else _MAX_WARMUP_STEPS
        tables.append(stage_table(kind, stride, pretrained, **{length: value, "warmup": warmup, **parts}))
    warmups = ", ".join(str(table["warmup"]) for table in tables)
    return tables, [
        Choice("stages", f"{len(tables)}", reason),
        Choice(
            "backbone",
            "slower" if pretrained else "as the head",
            "0.1 to 0.2 of the rate, its normalization frozen: what it learned before is worth keeping"
            if pretrained
            else "it starts from random weights",
        ),
        Choice("warm-up", f"{warmups} steps", "a tenth of each stage's steps, at most 50"),
    ]


def fill_class_priors(recipe: Recipe, summary: DatasetSummary) -> Recipe:
    """Fill in the class priors where the recipe adjusts logits by them and has none.

    A class that the images read do not hold gets a tenth of the rarest one's fraction.

    Args:
        recipe: any.
        summary: of the data, with the fraction of each class.

    Returns:
        The recipe; the same where nothing is to be filled in.
    """
    if not recipe.loss.logit_adjustment or recipe.loss.class_priors:
        return recipe
    fractions = summary.statistics.class_fractions
    least = min((fraction for fraction in fractions if fraction > 0), default=1.0) / 10
    priors = tuple(float(f"{max(fraction, least):.4g}") for fraction in fractions)
    return replace(recipe, loss=replace(recipe.loss, class_priors=priors))


def stage_table(kind: str, stride: int, pretrained: bool, **extra: Any) -> dict[str, Any]:
    """Return a stage with the learning rates that have worked on street scenes and on microscopy.

    A pretrained backbone that learns four times as fast, or that normalizes by small batches, forgets what it
    knew before the fresh layers have found it: rare classes are then not learned in hundreds of steps.
    """
    table = {"kind": kind, "output_stride": stride, "lr": 3e-3 if stride == 16 else 1e-3}
    if pretrained:
        table |= {"freeze_norm": "always", "freeze": 2}
    if kind != "context":
        table["backbone_lr_factor"] = (0.1 if stride == 16 else 0.2) if pretrained else 1.0
    return table | extra
