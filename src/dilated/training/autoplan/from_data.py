"""What a plan decides from the data alone: network, crop, flips, loss.

table, choices = choose_from_data(summarize_dataset(data.samples("train"), data.classes), cuda=False)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from dilated.training.autoplan.survey import DatasetSummary

MAX_SAMPLE_PIXELS = {"cpu": 288 * 384, "cuda": 512 * 512}
"""Pixels of a sample at most, by type of device."""


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
    crop, reason = choose_crop(summary, MAX_SAMPLE_PIXELS["cuda" if cuda else "cpu"])
    rarest_fraction = min((fraction for fraction in summary.statistics.class_fractions if fraction > 0), default=1.0)
    flip_vertically = summary.vertical_asymmetry < 0.1
    side = finest_region_side(summary)
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


def choose_crop(summary: DatasetSummary, max_pixels: int) -> tuple[tuple[int, int], str]:
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


def finest_region_side(summary: DatasetSummary) -> float:
    """Return a typical side, in pixels, of the regions of the finest class that occurs."""
    return min((side for side in summary.region_sides if side), default=0.0)
