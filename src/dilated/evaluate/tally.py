"""Counts of several pictures, filled in one picture at a time.

tally = Tally(classes, pictures=101, measures=Measures(boundary=True))
tally.add(0, labels, target)
tally.result(names, places, of=101)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from dilated.evaluate.boundary import WIDTH, BoundaryCounts, band_width, boundary_counts
from dilated.evaluate.calibration import BINS, ReliabilityCounts, reliability_counts
from dilated.evaluate.confusion import ConfusionMatrix
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.trimap import TrimapCounts, check_widths, trimap_counts


@dataclass(frozen=True)
class Measures:
    """What to measure besides the confusion matrix.

    Args:
        boundary: boundary IoU, in bands of `boundary_width`: below 1 a share of the diagonal, else pixels.
        trimap: widths of bands around true borders, in pixels; none for no trimap curve.
        calibration: confidences, which needs the scores of all classes.

    Raises:
        InputError: widths that make no sense.
    """

    boundary: bool = False
    boundary_width: float = WIDTH
    trimap: tuple[int, ...] = ()
    calibration: bool = False

    def __post_init__(self) -> None:
        band_width((1, 1), self.boundary_width)
        check_widths(self.trimap)


class Tally:
    """The counts of `pictures` pictures, all zero at first.

    Args:
        classes: names, in the order of the ids.

    Example:
        >>> tally = Tally(["sky", "road"], 1, Measures(boundary=True))
        >>> tally.add(0, np.array([[0, 1]]), np.array([[0, 255]]))
        >>> result = tally.result(["p0"], [0], of=1)
        >>> result.confusion.counts.tolist(), result.boundary.hits.tolist()
        ([[1, 0], [0, 0]], [[1, 0]])
    """

    def __init__(self, classes: Sequence[str], pictures: int, measures: Measures | None = None) -> None:
        self.classes, self.measures = tuple(classes), measures or Measures()
        size, wanted = len(self.classes), self.measures
        self.per_picture = np.zeros((pictures, size, size), dtype=np.int64)
        self.boundary = self.trimap = self.calibration = None
        if wanted.boundary:
            hits, union = np.zeros((2, pictures, size), dtype=np.int64)
            self.boundary = BoundaryCounts(hits, union, wanted.boundary_width)
        if wanted.trimap:
            counts = np.zeros((pictures, len(wanted.trimap), 3, size), dtype=np.int64)
            self.trimap = TrimapCounts(wanted.trimap, counts)
        if wanted.calibration:
            self.calibration = ReliabilityCounts(*np.zeros((3, pictures, BINS), dtype=np.int64))

    def add(self, place: int, labels: ArrayLike, target: ArrayLike, scores: Tensor | None = None) -> None:
        """Count one picture.

        Args:
            place: of the picture in the counts.
            labels: (H, W) predicted ids.
            target: (H, W) true ids, 255 where not labelled.
            scores: (C, H, W) before the softmax, where the calibration is measured.

        Raises:
            ValueError: shapes that differ, an id outside the classes, or scores that are missing.
        """
        one = ConfusionMatrix(self.classes)
        one.update(labels, target)
        self.per_picture[place] = one.counts
        size = len(self.classes)
        if self.boundary is not None:
            bands = boundary_counts(labels, target, size, self.boundary.width)
            self.boundary.hits[place], self.boundary.union[place] = bands.hits, bands.union
        if self.trimap is not None:
            self.trimap.counts[place] = trimap_counts(labels, target, size, self.trimap.widths).counts
        if self.calibration is not None:
            if scores is None:
                raise ValueError("Tally: found no scores; expected those of all classes, to measure the calibration")
            found = reliability_counts(scores, labels, target)
            self.calibration.pixels[place] = found.pixels
            self.calibration.hits[place] = found.hits
            self.calibration.confidence[place] = found.confidence

    def result(self, names: Sequence[str], places: Sequence[int], of: int) -> Evaluation:
        """What was counted.

        Args:
            names: of the pictures.
            places: of the pictures in the data.
            of: how many pictures the data has.
        """
        pooled = ConfusionMatrix(self.classes, self.per_picture.sum(0))
        return Evaluation(
            tuple(names), self.per_picture, pooled, self.boundary, self.trimap, self.calibration, tuple(places), of
        )
