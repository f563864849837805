"""Two networks on the same images: how much better one is, and whether that is more than chance.

    comparison = dilated.compare("street", "runs/mine", "my-data")
    print(comparison)
    comparison.differences["iou"]                        # one interval per class

Both label each image in one pass over the data. The interval of a difference is over the groups of the images, paired:
it says whether other groups like these would show the same sign. Training again with another seed is a different
chance, which takes several trainings to measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import Groups
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.data.units import UnitSummary
from dilated.evaluation.evaluate import (
    EvaluationAccumulator,
    MetricsConfig,
    build_class_id_lut,
    find_groups_by_name,
    iter_predictions,
    require_same_classes,
)
from dilated.evaluation.intervals import Interval, MetricIntervals, compute_differences
from dilated.evaluation.metrics import CLASS_METRICS, nan_to_none
from dilated.evaluation.result import EvaluationResult
from dilated.files import printable
from dilated.label_ids import LabelArray, ignore_id_of
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback, track

MIN_RUNS = 3
"""Trainings of each side, with seeds that differ, below which no way of training is called better."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Two results of the same images, with the same order of classes."""

    candidate: EvaluationResult
    baseline: EvaluationResult
    changed: NDArray[np.int64]
    """(P, 3): the labelled pixels of each image whose label differs, by who is right: candidate, baseline, neither."""
    names: tuple[str, str] = ("the candidate", "the baseline")
    """What the two networks are called in texts."""
    runs: tuple[tuple[EvaluationResult, ...], tuple[EvaluationResult, ...]] = ((), ())
    """All trainings of each side, of which `candidate` and `baseline` are the first; none where there are these two."""

    @property
    def differences(self) -> dict[str, list[Interval]]:
        """Candidate minus baseline: `mean_iou`, `iou` by class, ... with intervals; NaN where nothing can be said."""
        return self._differences.metrics

    @property
    def units(self) -> UnitSummary:
        """What the intervals of the differences are over."""
        return self._differences.units

    @property
    def sides(self) -> tuple[tuple[EvaluationResult, ...], tuple[EvaluationResult, ...]]:
        """The results of each side, one per training."""
        return self.runs[0] or (self.candidate,), self.runs[1] or (self.baseline,)

    def mean_values(self, name: str, index: int = 0) -> tuple[float, float]:
        """Return a metric of both sides, the mean over the trainings of each."""
        first, second = (float(np.mean([run.value(name, index) for run in side])) for side in self.sides)
        return first, second

    @cached_property
    def _differences(self) -> MetricIntervals:
        candidates, baselines = ([run.image_counts for run in side] for side in self.sides)
        return compute_differences(candidates, baselines, len(self.candidate.classes), self.candidate.groups)

    def with_groups(self, groups: Groups) -> Comparison:
        """The same with other groups of the images, which change the intervals alone."""
        return replace(self, candidate=self.candidate.with_groups(groups), baseline=self.baseline.with_groups(groups))

    @property
    def changed_pixels(self) -> dict[str, int]:
        """Labelled pixels whose label differs, over all images."""
        candidate, baseline, neither = self.changed.sum(0).tolist()
        return {
            "labeled": self.candidate.confusion.pixels,
            "changed": candidate + baseline + neither,
            "only_candidate_right": candidate,
            "only_baseline_right": baseline,
            "both_wrong": neither,
        }

    def describe(self) -> str:
        """Say what the metrics tell about the two networks, and what they do not."""
        candidate, baseline = self.names
        counts = [len(side) for side in self.sides]
        if not self.changed.any() and max(counts) == 1:
            return f"{candidate} and {baseline} label every labelled pixel the same."
        (difference,) = self.differences["mean_iou"]
        return describe_difference(difference, self.units, self.names, (counts[0], counts[1]))

    def describe_changes(self) -> str:
        """Say how many pixels change label, and who is right on them."""
        pixels = self.changed_pixels
        return (
            f"{pixels['changed']:,} of {pixels['labeled']:,} labelled pixels change label "
            f"({pixels['changed'] / max(pixels['labeled'], 1):.2%}): only A is right on "
            f"{pixels['only_candidate_right']:,}, only B on {pixels['only_baseline_right']:,}, neither on "
            f"{pixels['both_wrong']:,}."
        )

    def __str__(self) -> str:
        """Both mean IoUs, the difference with its interval, and what that says."""
        a, b = map(_describe_side, self.sides)
        lines = [f"A is {self.names[0]}, B is {self.names[1]}", f"mean IoU: A {a}, B {b}"]
        if self.differences["mean_iou"][0].is_known:
            lines[-1] += f", A minus B {self.differences['mean_iou'][0]:+.3f}"
        return "\n".join(map(printable, [*lines, self.describe_changes(), self.describe()]))

    def __repr__(self) -> str:
        return f"Comparison({self.candidate!r}, {self.baseline!r})"

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: the baseline's metrics, the differences as {value, low, high}, changed pixels."""
        differences: dict[str, Any] = {}
        for key, intervals in self.differences.items():
            values = [_to_json(interval) for interval in intervals]
            is_by_class = key in CLASS_METRICS
            differences[key] = dict(zip(self.candidate.classes, values, strict=True)) if is_by_class else values[0]
        return {
            "baseline": self.baseline.to_dict(),
            "difference": differences,
            "changed_pixels": self.changed_pixels,
            "runs": [[nan_to_none(run.value("mean_iou")) for run in side] for side in self.sides],
            **self.units.to_dict(),
        }


def describe_difference(
    difference: Interval, units: UnitSummary, names: tuple[str, str], counts: tuple[int, int]
) -> str:
    """Say what a difference in mean IoU tells about two ways of training, and what it does not.

    Args:
        difference: the first's mean IoU less the second's.
        units: what its interval is over.
        names: of both.
        counts: trainings of both.
    """
    candidate, baseline = names
    over = units.describe()
    if not difference.is_known:
        return f"Which is better is not shown. {over}"
    if not difference.excludes_zero:
        return (
            f"Which is better is not shown: the interval of the difference holds 0, so {candidate} and {baseline} "
            f"cannot be told apart by mean IoU. {over}"
        )
    better, worse = (candidate, baseline) if difference.value > 0 else (baseline, candidate)
    if min(counts) < MIN_RUNS:
        return (
            f"{better} has the higher mean IoU by more than the chance of which images were measured (the interval "
            f"leaves out 0). That its way of training is better than that of {worse} is not shown: another seed is "
            f"another network, and that takes {MIN_RUNS} trainings of each (here {counts[0]} and {counts[1]}). "
            f"{over}"
        )
    trainings = f"{counts[0]} and {counts[1]} trainings"
    if units.kind == "block":
        return (
            f"On this data {better} is better than {worse}: the interval of the difference, over {trainings} and "
            f"blocks of images, leaves out 0. That it is better elsewhere is not shown. {over}"
        )
    return (
        f"{better} is better than {worse}: the interval of the difference in mean IoU, over groups and over "
        f"{trainings}, leaves out 0. {over}"
    )


def _describe_side(runs: Sequence[EvaluationResult]) -> str:
    """Write the mean IoU of one training with its interval, or the mean of several and each of them."""
    if len(runs) == 1:
        return runs[0].format_metric("mean_iou")
    values = [run.value("mean_iou") for run in runs]
    return f"{np.mean(values):.3f} (mean of {', '.join(f'{value:.3f}' for value in values)})"


def _to_json(interval: Interval) -> dict[str, float | None] | None:
    """Convert to JSON values; null without a value, bounds of null without an interval."""
    if np.isnan(interval.value):
        return None
    return {name: nan_to_none(value) for name, value in vars(interval).items()}


def compare(
    candidates: Sequence[Predictor],
    baselines: Sequence[Predictor],
    samples: Sequence[Sample],
    classes: Classes,
    metrics: MetricsConfig | None = None,
    on_progress: ProgressCallback | None = None,
    names: tuple[str, str] = ("the candidate", "the baseline"),
) -> Comparison:
    """Measure two networks, or several trainings of each, on the same images.

    Args:
        candidates, baselines: one network each, or one for each training.
        classes: the data's classes; all networks have the same names, in any order.
        metrics: what to measure; the confusion matrix alone if not given.
        on_progress: called after each image with how many are done and how many there are.
        names: what the two are called in texts.

    Returns:
        All results in the order of the first candidate's classes; changed pixels are those between the first of each.

    Raises:
        InputError: classes that differ, or an unreadable image or label.
    """
    predictors = [*candidates, *baselines]
    for predictor in predictors:
        require_same_classes(predictor.segmenter.classes, classes)
    config, class_names = metrics or MetricsConfig(), predictors[0].segmenter.classes
    accumulators = [EvaluationAccumulator(class_names, len(samples), config) for _ in predictors]
    luts = [build_class_id_lut(predictor.segmenter.classes, class_names) for predictor in predictors]
    changed = np.zeros((len(samples), 3), dtype=np.int64)
    labeled = iter_predictions(predictors, samples, classes, config.calibration)
    for i, (target, predictions) in enumerate(track(labeled, len(samples), on_progress)):
        labels = [lut[prediction.labels] for lut, prediction in zip(luts, predictions, strict=True)]
        for accumulator, ids, prediction in zip(accumulators, labels, predictions, strict=True):
            accumulator.add(i, ids, target, prediction.logits)
        changed[i] = count_changes(labels[0], labels[len(candidates)], target)
    image_names, groups = [sample.name for sample in samples], find_groups_by_name(samples)
    results = [accumulator.result(image_names, range(len(samples)), groups) for accumulator in accumulators]
    runs = tuple(results[: len(candidates)]), tuple(results[len(candidates) :])
    return Comparison(runs[0][0], runs[1][0], changed, names, runs)


def count_changes(candidate: NDArray[Any], baseline: NDArray[Any], target: LabelArray) -> tuple[int, int, int]:
    """Count labelled pixels that only the candidate has right, only the baseline, and that differ with both wrong.

    Example:
        >>> target = np.array([0, 0, 0, 0, 255], np.uint8)
        >>> count_changes(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 2, 2]), target)
        (1, 1, 1)
    """
    differing = (candidate != baseline) & (target != ignore_id_of(target))
    candidate_only = int((differing & (candidate == target)).sum())
    baseline_only = int((differing & (baseline == target)).sum())
    return candidate_only, baseline_only, int(differing.sum()) - candidate_only - baseline_only
