"""Counts of several images, filled in one image at a time.

accumulator = EvaluationAccumulator(classes, num_images=101, metrics=MetricsConfig(boundary=True))
accumulator.add(0, labels, target)
accumulator.result(names, indices, dataset_size=101)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from dilated.evaluation.boundary import DEFAULT_BOUNDARY_WIDTH, BoundaryCounts, band_width_in_pixels, boundary_counts
from dilated.evaluation.calibration import ReliabilityCounts, reliability_counts
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.trimap import TrimapCounts, trimap_counts, validate_widths


@dataclass(frozen=True)
class MetricsConfig:
    """What to measure besides the confusion matrix.

    Raises:
        InputError: widths that make no sense.
    """

    boundary: bool = False
    """Measure boundary IoU, in bands of `boundary_width`."""
    boundary_width: float = DEFAULT_BOUNDARY_WIDTH
    """Width of the boundary bands: below 1 a fraction of the image's diagonal, else pixels."""
    trimap: tuple[int, ...] = ()
    """Measure mean IoU within each of these distances to a true border, in pixels; no trimap curve if empty."""
    calibration: bool = False
    """Measure how reliable the probabilities are, which needs the logits of all classes."""

    def __post_init__(self) -> None:
        band_width_in_pixels((1, 1), self.boundary_width)
        validate_widths(self.trimap)


class EvaluationAccumulator:
    """The counts of `num_images` images, all zero at first.

    Args:
        classes: names, in the order of the ids.
        num_images: images that will be added.
        metrics: what to measure; the confusion matrix alone if not given.

    Example:
        >>> accumulator = EvaluationAccumulator(["sky", "road"], 1, MetricsConfig(boundary=True))
        >>> accumulator.add(0, np.array([[0, 1]]), np.array([[0, 255]]))
        >>> result = accumulator.result(["p0"], [0], dataset_size=1)
        >>> result.confusion.counts.tolist(), result.boundary.intersection.tolist()
        ([[1, 0], [0, 0]], [[1, 0]])
    """

    def __init__(self, classes: Sequence[str], num_images: int, metrics: MetricsConfig | None = None) -> None:
        self.classes, config, size = tuple(classes), metrics or MetricsConfig(), len(classes)
        self.per_image = np.zeros((num_images, size, size), dtype=np.int64)
        self.boundary = BoundaryCounts.zeros(num_images, size, config.boundary_width) if config.boundary else None
        self.trimap = TrimapCounts.zeros(num_images, size, config.trimap) if config.trimap else None
        self.calibration = ReliabilityCounts.zeros(num_images) if config.calibration else None

    def add(self, index: int, labels: ArrayLike, target: ArrayLike, logits: Tensor | None = None) -> None:
        """Count one image.

        Args:
            index: the image's row in the counts.
            labels: (H, W) predicted ids.
            target: (H, W) true ids, 255 where not labelled.
            logits: (C, H, W) before the softmax, where the calibration is measured.

        Raises:
            ValueError: shapes that differ, an id outside the classes, or missing logits.
        """
        confusion = ConfusionMatrix(self.classes)
        confusion.update(labels, target)
        self.per_image[index] = confusion.counts
        size = len(self.classes)
        if self.boundary is not None:
            self.boundary.set_image(index, boundary_counts(labels, target, size, self.boundary.width))
        if self.trimap is not None:
            self.trimap.set_image(index, trimap_counts(labels, target, size, self.trimap.widths))
        if self.calibration is not None:
            if logits is None:
                raise ValueError("calibration: found no logits; expected those of all classes")
            self.calibration.set_image(index, reliability_counts(logits, labels, target))

    def result(self, names: Sequence[str], indices: Sequence[int], dataset_size: int) -> EvaluationResult:
        """Return what was counted.

        Args:
            names: of the images.
            indices: the positions of the images in the data.
            dataset_size: how many images the data has.
        """
        counts = self.per_image, self.boundary, self.trimap, self.calibration
        return EvaluationResult(self.classes, tuple(names), tuple(indices), dataset_size, *counts)
