"""Counts of several images, filled in one image at a time.

tally = Tally(classes, images=101, measures=Measures(boundary=True))
tally.add(0, labels, target)
tally.result(names, places, of=101)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from dilated.evaluation.boundary import DEFAULT_BOUNDARY_WIDTH, BoundaryCounts, band_width_in_pixels, boundary_counts
from dilated.evaluation.calibration import NUM_BINS, ReliabilityCounts, reliability_counts
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.trimap import TrimapCounts, trimap_counts, validate_widths


@dataclass(frozen=True)
class MetricsConfig:
    """What to measure besides the confusion matrix.

    Args:
        boundary: boundary IoU, in bands of `boundary_width`: below 1 a share of the diagonal, else pixels.
        trimap: widths of bands around true borders, in pixels; none for no trimap curve.
        calibration: confidences, which needs the logits of all classes.

    Raises:
        InputError: widths that make no sense.
    """

    boundary: bool = False
    boundary_width: float = DEFAULT_BOUNDARY_WIDTH
    trimap: tuple[int, ...] = ()
    calibration: bool = False

    def __post_init__(self) -> None:
        band_width_in_pixels((1, 1), self.boundary_width)
        validate_widths(self.trimap)


class EvaluationAccumulator:
    """The counts of `images` images, all zero at first.

    Args:
        classes: names, in the order of the ids.

    Example:
        >>> accumulator = EvaluationAccumulator(["sky", "road"], 1, MetricsConfig(boundary=True))
        >>> accumulator.add(0, np.array([[0, 1]]), np.array([[0, 255]]))
        >>> result = accumulator.result(["p0"], [0], dataset_size=1)
        >>> result.confusion.counts.tolist(), result.boundary.intersection.tolist()
        ([[1, 0], [0, 0]], [[1, 0]])
    """

    def __init__(self, classes: Sequence[str], num_images: int, metrics: MetricsConfig | None = None) -> None:
        self.classes, self.metrics = tuple(classes), metrics or MetricsConfig()
        size, config = len(self.classes), self.metrics
        self.per_image = np.zeros((num_images, size, size), dtype=np.int64)
        self.boundary = self.trimap = self.calibration = None
        if config.boundary:
            intersection, union = np.zeros((2, num_images, size), dtype=np.int64)
            self.boundary = BoundaryCounts(intersection, union, config.boundary_width)
        if config.trimap:
            counts = np.zeros((num_images, len(config.trimap), 3, size), dtype=np.int64)
            self.trimap = TrimapCounts(config.trimap, counts)
        if config.calibration:
            self.calibration = ReliabilityCounts(*np.zeros((3, num_images, NUM_BINS), dtype=np.int64))

    def add(self, index: int, labels: ArrayLike, target: ArrayLike, logits: Tensor | None = None) -> None:
        """Count one image.

        Args:
            place: of the image in the counts.
            labels: (H, W) predicted ids.
            target: (H, W) true ids, 255 where not labelled.
            logits: (C, H, W) before the softmax, where the calibration is measured.

        Raises:
            ValueError: shapes that differ, an id outside the classes, or logits that are missing.
        """
        confusion = ConfusionMatrix(self.classes)
        confusion.update(labels, target)
        self.per_image[index] = confusion.counts
        size = len(self.classes)
        if self.boundary is not None:
            bands = boundary_counts(labels, target, size, self.boundary.width)
            self.boundary.intersection[index], self.boundary.union[index] = bands.intersection, bands.union
        if self.trimap is not None:
            self.trimap.counts[index] = trimap_counts(labels, target, size, self.trimap.widths).counts
        if self.calibration is not None:
            if logits is None:
                raise ValueError("Tally: found no logits; expected those of all classes, to measure the calibration")
            found = reliability_counts(logits, labels, target)
            self.calibration.pixels[index] = found.pixels
            self.calibration.correct[index] = found.correct
            self.calibration.confidence[index] = found.confidence

    def result(self, names: Sequence[str], indices: Sequence[int], dataset_size: int) -> EvaluationResult:
        """What was counted.

        Args:
            names: of the images.
            places: of the images in the data.
            of: how many images the data has.
        """
        pooled = ConfusionMatrix(self.classes, self.per_image.sum(0))
        return EvaluationResult(
            tuple(names),
            self.per_image,
            pooled,
            self.boundary,
            self.trimap,
            self.calibration,
            tuple(indices),
            dataset_size,
        )
