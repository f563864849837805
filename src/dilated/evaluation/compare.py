"""Two networks on the same images: how much better one is, and whether that is more than chance.

    both = compare(ours, theirs, data.pairs("val"), data.classes)
    print(both.sentence("context", "frontend"))
    both.differences["iou"]                              # one interval a class

Both label each image in one pass over the data. The interval of a difference is over the images, drawn anew in
pairs: it says whether other images like these would show the same sign. Training again with another seed is a
different chance, which takes several trainings to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.evaluation.accumulator import EvaluationAccumulator, MetricsConfig
from dilated.evaluation.bootstrap import Interval
from dilated.evaluation.evaluate import build_class_id_lut, require_same_classes
from dilated.evaluation.metrics import compute_differences
from dilated.evaluation.result import EvaluationResult
from dilated.prediction.predictor import Predictor


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two evaluations of the same images, with the same order of classes.

    `changed`: (P, 3) int64, the labelled pixels of each image whose label differs: those that only ours has right,
    those that only theirs has right, those that both have wrong.
    """

    candidate: EvaluationResult
    baseline: EvaluationResult
    changed: NDArray[np.int64]

    @cached_property
    def differences(self) -> dict[str, list[Interval]]:
        """Ours less theirs: `mean_iou`, `iou` by class, ... with intervals; empty for fewer than two images."""
        if len(self.candidate.names) < 2:
            return {}
        return compute_differences(
            self.candidate.image_counts, self.baseline.image_counts, len(self.candidate.confusion.classes)
        )

    def describe(self, candidate: str, baseline: str) -> str:
        """What the figures say of two networks, called by these names, and what they do not."""
        if not self.changed.any():
            return f"{candidate} and {baseline} label every labelled pixel the same."
        if not self.differences:
            return "One image tells nothing of chance: no interval."
        (difference,) = self.differences["mean_iou"]
        if not difference.excludes_zero:
            return (
                f"The interval of the difference holds 0: on {len(self.candidate.names)} images, {candidate} and {baseline} "
                "cannot be told apart by mean IoU."
            )
        better, worse = (candidate, baseline) if difference.value > 0 else (baseline, candidate)
        return (
            f"{better} is better than {worse} by more than the chance of which images were measured (the interval "
            "leaves out 0). This is about these two networks on images like these; another training, with another "
            "seed, is not covered."
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON: their figures, the differences as {value, low, high}, and the pixels that change."""
        names = self.candidate.confusion.classes
        found = {key: [_interval_to_dict(one) for one in values] for key, values in self.differences.items()}
        return {
            "baseline": self.baseline.to_dict(),
            "difference": {
                key: dict(zip(names, values, strict=True)) if key in _METRICS_BY_CLASS else values[0]
                for key, values in found.items()
            },
            "changed_pixels": self.changed_pixels,
        }

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


_METRICS_BY_CLASS = ("iou", "dice", "precision", "recall", "boundary_iou")


def compare(
    candidate: Predictor,
    baseline: Predictor,
    samples: Sequence[Sample],
    classes: Classes,
    on_progress: Callable[[], object] | None = None,
    metrics: MetricsConfig | None = None,
) -> Comparison:
    """Measure two networks on the same images.

    Args:
        classes: of the data; both networks have the same names, in any order.
        tick: called after each image.
        measures: what to measure besides the confusion matrix.

    Returns:
        Both evaluations in the order of our classes.

    Raises:
        InputError: classes that differ, or an unreadable image or label.
    """
    names = candidate.segmenter.classes
    require_same_classes(names, classes)
    require_same_classes(baseline.segmenter.classes, classes)
    to_target_ids, baseline_ids = (
        build_class_id_lut(classes.names, names),
        build_class_id_lut(baseline.segmenter.classes, names),
    )
    config = metrics or MetricsConfig()
    accumulators = (
        EvaluationAccumulator(names, len(samples), config),
        EvaluationAccumulator(names, len(samples), config),
    )
    changed = np.zeros((len(samples), 3), dtype=np.int64)
    for i, sample in enumerate(samples):
        image = sample.read_image()
        height, width = image.shape[:2]
        target = to_target_ids[sample.read_label(classes, (height, width))]
        candidate_prediction, baseline_prediction = (
            candidate(image, logits=config.calibration),
            baseline(image, logits=config.calibration),
        )
        labels = baseline_ids[baseline_prediction.labels]
        accumulators[0].add(i, candidate_prediction.labels, target, candidate_prediction.logits)
        accumulators[1].add(i, labels, target, baseline_prediction.logits)
        changed[i] = _count_changes(candidate_prediction.labels, labels, target)
        if on_progress:
            on_progress()
    a, b = (
        accumulator.result([sample.name for sample in samples], range(len(samples)), len(samples))
        for accumulator in accumulators
    )
    return Comparison(a, b, changed)


def _count_changes(candidate: NDArray[Any], baseline: NDArray[Any], target: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Labelled pixels that only ours has right, only theirs, and where they differ and neither is right.

    Example:
        >>> target = np.array([0, 0, 0, 0, 255], np.uint8)
        >>> _count_changes(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 2, 2]), target)
        (1, 1, 1)
    """
    differing = (candidate != baseline) & (target != IGNORE)
    candidate_prediction, baseline_only = (
        int((differing & (candidate == target)).sum()),
        int((differing & (baseline == target)).sum()),
    )
    return candidate_prediction, baseline_only, int(differing.sum()) - candidate_prediction - baseline_only


def _interval_to_dict(one: Interval) -> dict[str, float] | None:
    return None if np.isnan(one.value) else {"value": one.value, "low": one.low, "high": one.high}
