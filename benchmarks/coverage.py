"""How often the printed 95% interval holds the truth: five clustered worlds, 1,000 draws each.

    python benchmarks/coverage.py                        # all worlds, a Markdown table
    python benchmarks/coverage.py --world films --draws 200 --json coverage.json

A world draws groups (films, slides, patients), a group its class proportions and how hard it is for a network, and its
images in turn, which resemble their neighbors. The truth is the metric pooled over 20,000 groups; of the world with one
film it is that film's own long-run value, over 20,000 images. Beside the package's interval stands the usual one, the
percentile bootstrap over images. The difference is between two networks of which the second is no better.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import Groups
from dilated.evaluation.intervals import Interval, compute_differences, compute_intervals
from dilated.evaluation.metrics import compute_metrics

_PIXELS = 20_000  # of an image
_NUM_TRUTH = 20_000  # groups, or images of one film
_NUM_RESAMPLES = 500  # of the bootstrap over images


@dataclass(frozen=True)
class World:
    """How groups and their images come about; standard deviations are on the logit scale."""

    sizes: tuple[int, ...]
    """Images of each group."""
    accuracy: tuple[float, ...]
    """Logit of the fraction of each class that is labelled right."""
    fractions: tuple[float, ...]
    """Of the pixels, by class, before a group's own."""
    between: float
    """Standard deviation of a group's accuracy."""
    mixture: float
    """Standard deviation of a group's class fractions."""
    within: float
    """Standard deviation of an image's accuracy."""
    correlation: float = 0.0
    """Of neighboring images."""
    presence: tuple[float, ...] = ()
    """Probability that a group has the class; 1 if not given."""


WORLDS = {
    "films": World(
        sizes=(20, 60, 35, 50, 15, 40, 25, 30, 55, 20, 45, 30),
        accuracy=(3, 2, 1, 0.5),
        fractions=(0.5, 0.3, 0.15, 0.05),
        between=0.7,
        mixture=0.6,
        within=0.4,
        correlation=0.8,
    ),
    "slides": World((5, 8, 12, 25, 10, 6, 9, 15, 20, 7) * 4, (3, 1.5), (0.8, 0.2), between=0.9, mixture=1, within=0.5),
    "few groups": World((20, 40, 10, 30, 15), (3, 1.5, 1), (0.7, 0.2, 0.1), 0.6, 0.6, 0.5, correlation=0.3),
    "rare classes": World(
        sizes=(20, 10, 12, 8, 30, 15) * 4,
        accuracy=(3, 2, 1, 0.5, 0),
        fractions=(0.5, 0.3, 0.15, 0.02, 0.01),
        between=0.7,
        mixture=0.6,
        within=0.4,
        correlation=0.5,
        presence=(1, 1, 1, 0.25, 0.2),
    ),
    "one film": World((100,), (3, 2, 1, 0.5), (0.5, 0.3, 0.15, 0.05), 0.0, 0.0, within=0.5, correlation=0.64),
}


def simulate(world: World, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Simulate data sets: (draws, 2 networks, images, 3 C) counts as `stack_image_counts` lays them out."""
    sizes, num_classes = np.array(world.sizes), len(world.fractions)
    shape = draws, len(sizes), 1, num_classes
    hardness = world.between * (rng.normal(0, 0.7, shape) + rng.normal(0, 0.7, (*shape[:3], 1)))
    effects = [hardness + world.between * rng.normal(0, 0.2, shape) for _ in range(2)]
    present = rng.random(shape) < np.array(world.presence or (1,) * num_classes)
    steps = _draw_series(world, draws, rng), _draw_series(world, draws, rng)
    logits = np.log(world.fractions) + world.mixture * rng.normal(0, 1, shape) + 0.4 * steps[0]
    fractions = np.exp(logits) * present
    truth = np.round(_PIXELS * fractions / fractions.sum(-1, keepdims=True))
    is_image = np.arange(sizes.max()) < sizes[:, None]
    networks = []
    for effect in effects:
        noise = world.within * (0.9 * steps[1] + 0.44 * _draw_series(world, draws, rng))
        right = np.round(truth / (1 + np.exp(-(np.array(world.accuracy) + effect + noise))))
        networks.append(np.concatenate([right, truth, _spread_errors(right, truth, world)], axis=-1)[:, is_image])
    return np.stack(networks, axis=1).astype(np.int64)


def _draw_series(world: World, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw first-order autoregressions of variance 1, (draws, groups, images, C)."""
    innovations = rng.normal(0, 1, (draws, len(world.sizes), max(world.sizes), len(world.fractions)))
    for i in range(1, max(world.sizes)):
        scaled = (1 - world.correlation**2) ** 0.5 * innovations[:, :, i]
        innovations[:, :, i] = world.correlation * innovations[:, :, i - 1] + scaled
    return innovations


def _spread_errors(right: NDArray[np.float64], truth: NDArray[np.float64], world: World) -> NDArray[np.float64]:
    """Count the predicted pixels of each class, wrong ones going to other classes in proportion to their size."""
    predicted, fractions = right.copy(), np.array(world.fractions)
    for i in range(len(fractions)):
        others = np.delete(np.arange(len(fractions)), i)
        weights = fractions[others] / fractions[others].sum()
        predicted[..., others] += np.round((truth - right)[..., i, None] * weights)
    return predicted


def compute_truth(world: World, seed: int) -> dict[str, NDArray[np.float64]]:
    """Compute the metrics of the whole population, (2 networks, ...) each."""
    rng = np.random.default_rng(seed)
    pooled, count = np.zeros((2, 3 * len(world.fractions)), dtype=np.int64), 0
    while count < _NUM_TRUTH:
        counts = simulate(world, 200, rng)
        pooled += counts.sum((0, 2))
        count += 200 * (len(world.sizes) if len(world.sizes) > 1 else world.sizes[0])
    return compute_metrics(pooled, len(world.fractions))


def bootstrap_images(counts: NDArray[np.int64], num_classes: int, rng: np.random.Generator) -> Interval:
    """Compute the usual interval of mean IoU: the middle 95% over images drawn with replacement."""
    weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_NUM_RESAMPLES)
    values = compute_metrics(weights @ counts, num_classes)["mean_iou"][:, 0]
    return Interval(float("nan"), *np.nanquantile(values, [0.025, 0.975]).tolist())


def measure(world: World, draws: int, seed: int) -> dict[str, float | list[float]]:
    """Measure the coverage of mean IoU, of each class's IoU, and of a difference of mean IoU, in percent."""
    truth, num_classes = compute_truth(world, seed + 1), len(world.fractions)
    labels = tuple(f"g{i}" for i, size in enumerate(world.sizes) for _ in range(size))
    groups = Groups(labels, tuple(n for size in world.sizes for n in range(size)), "simulated")
    difference = float(truth["mean_iou"][0, 0] - truth["mean_iou"][1, 0])
    rows = []
    for ours, theirs in _iter_draws(world, draws, seed):
        intervals = compute_intervals(ours, num_classes, groups)
        paired = compute_differences([ours], [theirs], num_classes, groups).metrics["mean_iou"][0]
        mean = intervals.metrics["mean_iou"][0]
        usual = bootstrap_images(ours, num_classes, np.random.default_rng(seed))
        classes = [
            _holds(interval, value) for interval, value in zip(intervals.metrics["iou"], truth["iou"][0], strict=True)
        ]
        rows.append(
            [
                _holds(mean, truth["mean_iou"][0, 0]),
                _holds(paired, difference),
                _holds(usual, truth["mean_iou"][0, 0]),
                mean.high - mean.low,
                usual.high - usual.low,
                intervals.units.effective_images or np.nan,
                *classes,
            ]
        )
    table = np.array(rows)
    means = np.nanmean(table, axis=0)
    return {
        "images": sum(world.sizes),
        "groups": len(world.sizes),
        "mean_iou": 100 * means[0],
        "difference": 100 * means[1],
        "bootstrap_over_images": 100 * means[2],
        "width": float(np.nanmedian(table[:, 3])),
        "width_over_images": float(np.nanmedian(table[:, 4])),
        "effective_n": float(np.nanmedian(table[:, 5])),
        "refused": 100 * float(np.isnan(table[:, 0]).mean()),
        "iou": [100 * value for value in means[6:]],
    }


def _iter_draws(world: World, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for start in range(0, draws, 100):
        yield from simulate(world, min(100, draws - start), rng)


def _holds(interval: Interval, truth: float) -> float:
    """Return 1 where an interval holds the truth, 0 where it does not, NaN where there is none."""
    return float("nan") if np.isnan(interval.low) else float(interval.low <= truth <= interval.high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=WORLDS)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    titles = "world", "images in groups", "worth", "mean IoU held", "difference held", "classes' IoU held", "width"
    print("| " + " | ".join((*titles, "bootstrap over images: held, width")) + " |\n" + "|---" * 8 + "|")
    results = {}
    for name in [options.world] if options.world else list(WORLDS):
        row = results[name] = measure(WORLDS[name], options.draws, options.seed)
        classes = ", ".join(f"{value:.1f}" for value in row["iou"])
        print(
            f"| {name} | {row['images']} in {row['groups']} | {row['effective_n']:.0f} | **{row['mean_iou']:.1f}%** | "
            f"{row['difference']:.1f}% | {classes} | {row['width']:.3f} | {row['bootstrap_over_images']:.1f}%, "
            f"{row['width_over_images']:.3f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + os.linesep, encoding="utf-8")


if __name__ == "__main__":
    main()
