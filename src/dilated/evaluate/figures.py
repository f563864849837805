"""All figures that follow from counts by picture, pooled, with their intervals.

    totals = by_picture(per_picture, boundary)           # (pictures, K) counts, all that the figures need
    figures(totals.sum(0), classes)["iou"]               # (C,)
    intervals(totals, classes)["iou"]                    # C intervals, over the pictures

Figures are ratios of sums over pictures, so one table of counts by picture serves them all, and so do the same draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dilated.evaluate.bootstrap import DRAWS, Interval, bounded, redrawn
from dilated.evaluate.boundary import BoundaryCounts
from dilated.evaluate.confusion import marginals, mean_of_known, ratio


def by_picture(per_picture: NDArray[np.int64], boundary: BoundaryCounts | None = None) -> NDArray[np.int64]:
    """(P, C, C) counts -> (P, 3 C): right pixels, truth, prediction by class; (P, 5 C) with those of the boundaries."""
    parts = list(marginals(per_picture))
    if boundary is not None:
        parts += [boundary.hits, boundary.union]
    return np.concatenate(parts, axis=-1)


def figures(totals: NDArray[np.int64], classes: int) -> dict[str, NDArray[np.float64]]:
    """The figures of pooled counts; NaN where a figure has nothing to be about.

    Args:
        totals: (..., K), sums over pictures of `by_picture`.
        classes: C.

    Returns:
        (..., C) each: `iou`, `dice` (which is F1), `precision`, `recall`, with boundaries `boundary_iou`. (..., 1)
        each: `mean_iou`, `mean_dice`, `pixel_accuracy`, `mean_boundary_iou`.

    Example:
        >>> totals = by_picture(np.array([[[3, 1], [0, 4]]])).sum(0)
        >>> {name: values.round(3).tolist() for name, values in figures(totals, 2).items() if name.endswith("iou")}
        {'iou': [0.75, 0.8], 'mean_iou': [0.775]}
    """
    parts = [totals[..., start : start + classes] for start in range(0, totals.shape[-1], classes)]
    hits, truth, guess = parts[:3]
    found = {
        "iou": ratio(hits, truth + guess - hits),
        "dice": ratio(2 * hits, truth + guess),
        "precision": ratio(hits, guess),
        "recall": ratio(hits, truth),
        "pixel_accuracy": ratio(hits.sum(-1, keepdims=True), truth.sum(-1, keepdims=True)),
    }
    if len(parts) > 3:
        found["boundary_iou"] = ratio(parts[3], parts[4])
    for name in ("iou", "dice", "boundary_iou"):
        if name in found:
            found[f"mean_{name}"] = mean_of_known(found[name])[..., None]
    return found


def intervals(totals: NDArray[np.int64], classes: int, draws: int = DRAWS, seed: int = 0) -> dict[str, list[Interval]]:
    """The figures of all pictures, each with its interval.

    Args:
        totals: (P, K), as `by_picture`.
    """
    drawn = figures(redrawn(totals, draws, seed), classes)
    return {name: bounded(values, drawn[name]) for name, values in figures(totals.sum(0), classes).items()}


def differences(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], classes: int, draws: int = DRAWS, seed: int = 0
) -> dict[str, list[Interval]]:
    """The figures of one network less those of another, on the same pictures and the same draws.

    Raises:
        ValueError: counts of different shapes.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"differences: found counts of {ours.shape} and {theirs.shape}; expected the same pictures")
    ours_drawn = figures(redrawn(ours, draws, seed), classes)
    theirs_drawn = figures(redrawn(theirs, draws, seed), classes)
    a, b = figures(ours.sum(0), classes), figures(theirs.sum(0), classes)
    return {name: bounded(a[name] - b[name], ours_drawn[name] - theirs_drawn[name]) for name in a}


def known(value: float) -> float | None:
    """A number as JSON has it: null for NaN, which is no JSON."""
    return None if np.isnan(value) else float(value)
