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
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
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
from dilated.evaluation.units import UnitSummary
from dilated.files import printable
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

    @property
    def differences(self) -> dict[str, list[Interval]]:
        """Candidate minus baseline: `mean_iou`, `iou` by class, ... with intervals; NaN where nothing can be said."""
        return self._differences.metrics

    @property
    def units(self) -> UnitSummary:
        """What the intervals of the differences are over."""
        return self._differences.units

    @cached_property
    def _differences(self) -> MetricIntervals:
        counts = self.candidate.image_counts, self.baseline.image_counts
        return compute_differences(*counts, len(self.candidate.classes), self.candidate.groups)

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
        if not self.changed.any():
            return f"{candidate} and {baseline} label every labelled pixel the same."
        (difference,) = self.differences["mean_iou"]
        over = self.units.describe()
        if not difference.is_known:
            return f"Which is better is not shown. {over}"
        if not difference.excludes_zero:
            return (
                f"Which is better is not shown: the interval of the difference holds 0, so {candidate} and {baseline} "
                f"cannot be told apart by mean IoU. {over}"
            )
        better, worse = (candidate, baseline) if difference.value > 0 else (baseline, candidate)
        return (
            f"{better} has the higher mean IoU by more than the chance of which images were measured (the interval "
            f"leaves out 0). That its way of training is better than that of {worse} is not shown: another seed is "
            f"another network, and that takes {MIN_RUNS} trainings of each. {over}"
        )

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
        a, b = (result.format_metric("mean_iou") for result in (self.candidate, self.baseline))
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
            **self.units.to_dict(),
        }


def _to_json(interval: Interval) -> dict[str, float | None] | None:
    """Convert to JSON values; null without a value, bounds of null without an interval."""
    if np.isnan(interval.value):
        return None
    return {name: nan_to_none(value) for name, value in vars(interval).items()}


def compare(
    candidate: Predictor,
    baseline: Predictor,
    samples: Sequence[Sample],
    classes: Classes,
    metrics: MetricsConfig | None = None,
    on_progress: ProgressCallback | None = None,
    names: tuple[str, str] = ("the candidate", "the baseline"),
) -> Comparison:
    """Measure two networks on the same images.

    Args:
        classes: the data's classes; both networks have the same names, in any order.
        metrics: what to measure; the confusion matrix alone if not given.
        on_progress: called after each image with how many are done and how many there are.
        names: what the two are called in texts.

    Returns:
        Both results in the order of the candidate's classes.

    Raises:
        InputError: classes that differ, or an unreadable image or label.
    """
    for predictor in (candidate, baseline):
        require_same_classes(predictor.segmenter.classes, classes)
    config, class_names = metrics or MetricsConfig(), candidate.segmenter.classes
    a, b = (EvaluationAccumulator(class_names, len(samples), config) for _ in range(2))
    changed = np.zeros((len(samples), 3), dtype=np.int64)
    lut = build_class_id_lut(baseline.segmenter.classes, class_names)
    labeled = iter_predictions([candidate, baseline], samples, classes, config.calibration)
    tracked = track(labeled, len(samples), on_progress)
    for i, (target, (candidate_prediction, baseline_prediction)) in enumerate(tracked):
        labels = lut[baseline_prediction.labels]
        a.add(i, candidate_prediction.labels, target, candidate_prediction.logits)
        b.add(i, labels, target, baseline_prediction.logits)
        changed[i] = count_changes(candidate_prediction.labels, labels, target)
    image_names, groups = [sample.name for sample in samples], find_groups_by_name(samples)
    a_result, b_result = (accumulator.result(image_names, range(len(samples)), groups) for accumulator in (a, b))
    return Comparison(a_result, b_result, changed, names)


def count_changes(candidate: NDArray[Any], baseline: NDArray[Any], target: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Count labelled pixels that only the candidate has right, only the baseline, and that differ with both wrong.

    Example:
        >>> target = np.array([0, 0, 0, 0, 255], np.uint8)
        >>> count_changes(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 2, 2]), target)
        (1, 1, 1)
    """
    differing = (candidate != baseline) & (target != IGNORE)
    candidate_only = int((differing & (candidate == target)).sum())
    baseline_only = int((differing & (baseline == target)).sum())
    return candidate_only, baseline_only, int(differing.sum()) - candidate_only - baseline_only
