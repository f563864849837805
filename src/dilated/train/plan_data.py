"""What a plan takes from the data alone: network, crop, flips, loss.

table, choices = from_data(survey(data.pairs("train"), data.classes), cuda=False)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dilated.train.survey import Survey

AFFORDED = {"cpu": 288 * 384, "cuda": 512 * 512}
"""Pixels of a sample at most, by kind of machine."""


@dataclass(frozen=True)
class Choice:
    """One decision, with the fact that it follows from."""

    key: str
    value: str
    reason: str


def from_data(seen: Survey, cuda: bool) -> tuple[dict[str, Any], list[Choice]]:
    """Tables of a recipe, and why they are what they are."""
    crop, why = crop_of(seen, AFFORDED["cuda" if cuda else "cpu"])
    rarest = min((share for share in seen.shares if share > 0), default=1.0)
    turned = seen.upright < 0.1
    side = side_of(seen)
    table: dict[str, Any] = {
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
        "augment": {"crop": list(crop), "scale": [0.6, 1.8], "upside_down": turned},
        "loss": {"dice": 1.0},
    }
    lack = [] if min(seen.shares, default=0) > 0 else ["some classes are not in the sample"]
    choices = [
        Choice("network", "tf_efficientnet_lite0", "its ImageNet weights come with the package, nothing is downloaded"),
        Choice("detail", "64", f"scores at stride 4: the finest class is mostly in regions of some {side:.0f} pixels"),
        Choice("crop", f"{crop[0]}x{crop[1]}", why),
        Choice(
            "flips",
            "both ways" if turned else "left-right",
            f"the upper half's classes differ from the lower's by {seen.upright:.0%}",
        ),
        Choice(
            "loss",
            "cross-entropy + Dice",
            "; ".join([f"the rarest class has {rarest:.2%} of the pixels, and Dice weighs classes alike", *lack]),
        ),
    ]
    return table, choices


def crop_of(seen: Survey, most: int) -> tuple[tuple[int, int], str]:
    """Height and width of a sample, multiples of 32, and why.

    Args:
        most: pixels.
    """
    height, width = seen.size
    what = f"the median picture, {width}x{height}"
    if height * width <= 0.75 * most:
        return (_grid(height), _grid(width)), f"the whole of {what}"
    shrink = 0.8
    if height * width * shrink**2 > most * 1.01:
        shrink = (most / (height * width)) ** 0.5
        what += f"; {most} pixels are what a step affords here"
    return (_grid(shrink * height), _grid(shrink * width)), f"{shrink:.0%} of {what}"


def _grid(side: float) -> int:
    return max(64, round(side / 32) * 32)


def side_of(seen: Survey) -> float:
    """A typical side of the regions of the finest class that is there."""
    return min((side for side in seen.sides if side), default=0.0)
