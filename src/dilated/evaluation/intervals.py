"""How certain a metric is: 95% intervals over groups of images, or over blocks of one film.

    intervals = compute_intervals(result.image_counts, len(result.classes), groups)
    print(f"{intervals.metrics['mean_iou'][0]:.3f}")     # 0.726 [0.701, 0.749]
    print(intervals.units.describe())                    # over 12 groups of 233 images, worth about 31 ...

Pixels of an image are not independent of each other, nor are frames of a film or tiles of a slide: groups are. A
percentile bootstrap over few groups is too narrow, as is one over blocks of a film (benchmarks/coverage.py measures
both); so the variance that drawing groups gives is computed in closed form, each group's residual corrected for how
much it pulls the metric to itself (HC2), and the quantile is Student's with the effective number of groups. IoU and its
kin are bounded on the logit scale and never leave [0, 1]. Two networks are compared on the same groups, paired, which
cancels how hard the groups are.

The interval is about groups like these. It does not cover the network that training with another seed would give.

Sources: MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators", 1985; Bell and
McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage samples", 2002; Carter, Schnepel
and Steigerwald, "Asymptotic behavior of a t-test robust to cluster heterogeneity", 2017; see `blocks` for films.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import Groups
from dilated.data.units import SamplingUnits, UnitSummary
from dilated.evaluation.linearize import Linearized, average, linearize_metrics
from dilated.evaluation.metrics import compute_metrics
from dilated.evaluation.variance import Spread, add_variance, group_spread, series_spread, student_quantile

_Estimate = Callable[[NDArray[np.int64]], dict[str, Linearized]]


@dataclass(frozen=True)
class Interval:
    """A value measured on all images, and the 95% interval of what it estimates.

    Example:
        >>> interval = Interval(0.7261, 0.7213, 0.7318)
        >>> print(f"{interval:.3f}"), print(interval)
        0.726 [0.721, 0.732]
        +0.7261 [+0.7213, +0.7318]
        (None, None)
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return f"{self:+.4f}"

    @property
    def is_known(self) -> bool:
        """Whether there is a value and an interval: not without a pixel to measure, nor from one group."""
        return not np.isnan([self.value, self.low]).any()

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; for a difference: whether it is more than the chance of which groups these are."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class MetricIntervals:
    """The metrics by name, each with an interval per class or one, and what these are over."""

    metrics: dict[str, list[Interval]]
    units: UnitSummary


def compute_intervals(counts: NDArray[np.int64], num_classes: int, groups: Groups) -> MetricIntervals:
    """Compute the metrics of all images, each with its interval.

    Args:
        counts: (P, K), as `stack_image_counts` returns them.
        num_classes: C.
        groups: of the P images.

    Returns:
        Intervals with NaN as bounds where nothing can be said: of a class that occurs in one group only, or of all
        metrics where there are too few groups.

    Example:
        >>> from dilated.evaluation.metrics import stack_image_counts
        >>> perfect = stack_image_counts(np.tile(np.eye(2, dtype=np.int64), (5, 1, 1)))
        >>> groups = Groups(tuple("abcde"), (None,) * 5, "given")
        >>> print(*compute_intervals(perfect, 2, groups).metrics["mean_iou"])
        +1.0000 [+1.0000, +1.0000]
    """
    return _compute(counts, groups, lambda rows: linearize_metrics(rows, num_classes), _bound_fraction)


def compute_differences(
    candidates: Sequence[NDArray[np.int64]],
    baselines: Sequence[NDArray[np.int64]],
    num_classes: int,
    groups: Groups,
) -> MetricIntervals:
    """Compute the mean metrics of several trainings less those of others: over groups, and over seeds where there are.

    The difference is paired: on the same images in the same groups. The variance between the trainings of a side is
    added to that between groups; that of a side with one training is not known, and is left out.

    Args:
        candidates, baselines: (P, K) for each training, as `stack_image_counts` returns them.
        num_classes: C.
        groups: of the P images.

    Raises:
        ValueError: counts of different shapes.
    """
    runs = [*candidates, *baselines]
    if len({counts.shape for counts in runs}) > 1:
        raise ValueError(f"differences: found counts of {[c.shape for c in runs]}; expected the same images")
    width = runs[0].shape[1]

    def subtract(rows: NDArray[np.int64]) -> dict[str, Linearized]:
        estimates = [linearize_metrics(rows[:, i * width :][:, :width], num_classes) for i in range(len(runs))]
        sides = estimates[: len(candidates)], estimates[len(candidates) :]
        ours, theirs = ({name: average([run[name] for run in side]) for name in estimates[0]} for side in sides)
        return {name: ours[name] - theirs[name] for name in ours}

    values = [compute_metrics(counts.sum(0), num_classes) for counts in runs]

    def widen(name: str, spread: Spread) -> Spread:
        for side in (values[: len(candidates)], values[len(candidates) :]):
            if len(side) > 1:
                runs_of_side = np.stack([run[name] for run in side])
                spread = add_variance(spread, runs_of_side.var(axis=0, ddof=1) / len(side), len(side) - 1)
        return spread

    return _compute(np.concatenate(runs, axis=1), groups, subtract, _bound_difference, widen)


def _compute(
    counts: NDArray[np.int64],
    groups: Groups,
    estimate: _Estimate,
    bound: Callable[[Spread], list[Interval]],
    widen: Callable[[str, Spread], Spread] | None = None,
) -> MetricIntervals:
    """Compute the intervals over the units that the groups give; `widen` adds what else varies."""
    if len(counts) != len(groups):
        raise ValueError(f"intervals: found groups of {len(groups)} images and counts of {len(counts)}")
    units = SamplingUnits(groups)
    by_image = {} if units.kind == "image" else estimate(counts)
    if units.kind in ("image", "group"):
        estimates = estimate(units.sum_by_group(counts))
        spreads = {name: group_spread(estimate) for name, estimate in estimates.items()}
    else:
        series = units.series if units.kind == "block" else []
        spreads = {name: series_spread(estimate, series) for name, estimate in by_image.items()}
    wider = {name: widen(name, spread) for name, spread in spreads.items()} if widen is not None else spreads
    metrics = {name: bound(spread) for name, spread in wider.items()}
    return MetricIntervals(metrics, _summarize(units, spreads["mean_iou"], by_image.get("mean_iou")))


def _summarize(units: SamplingUnits, spread: Spread, by_image: Linearized | None) -> UnitSummary:
    """Say what the intervals are over, and what that is worth in independent images."""
    effective: float | None = float(units.num_images) if by_image is None else None
    if by_image is not None and spread.variance[0] > 0:
        independent = float((by_image.summed_influence**2).sum())
        effective = min(units.num_images * independent / float(spread.variance[0]), float(units.num_images))
    return units.summarize(int(spread.block_length[0]), effective)


def _bound_fraction(spread: Spread) -> list[Interval]:
    """Bound values between 0 and 1 on the logit scale; a value that no group departs from is its own interval."""
    value = spread.value
    inside = (value > 0) & (value < 1)
    safe = np.where(inside, value, 0.5)
    slope = 1 / (safe * (1 - safe))
    center = np.log(safe / (1 - safe)) - spread.bias * slope
    half = student_quantile(spread.freedom) * np.sqrt(spread.variance) * slope
    with np.errstate(over="ignore"):
        low, high = (1 / (1 + np.exp(-bounds)) for bounds in (center - half, center + half))
    has_spread = inside & (spread.variance > 0)
    unknown = np.where(np.isnan(spread.variance), np.nan, value)
    return _make_intervals(value, np.where(has_spread, low, unknown), np.where(has_spread, high, unknown))


def _bound_difference(spread: Spread) -> list[Interval]:
    half = student_quantile(spread.freedom) * np.sqrt(spread.variance)
    center = spread.value - np.where(spread.variance > 0, spread.bias, 0.0)
    return _make_intervals(spread.value, np.maximum(center - half, -1.0), np.minimum(center + half, 1.0))


def _make_intervals(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> list[Interval]:
    """Make intervals that hold their value, though the correction of its bias may move it to the edge."""
    low, high = np.minimum(low, values), np.maximum(high, values)
    return [Interval(*bounds) for bounds in zip(values.tolist(), low.tolist(), high.tolist(), strict=True)]
